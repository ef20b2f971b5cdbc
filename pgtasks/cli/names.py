"""`pgtasks queues` and `pgtasks tasks`: what the database knows by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import click

from pgtasks.cli.application import application
from pgtasks.cli.listing import counted, limit_option, say_next
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note
from pgtasks.cli.tables import Column, as_utc, show_json, show_table, when
from pgtasks.cli.values import options_as_written

_QUEUE: Final = (
    Column("queue", fold=True),
    Column("waiting", right=True),
    Column("locked by", fold=True),
    Column("locked"),
)
_TASK: Final = (
    Column("task", fold=True),
    Column("waiting", right=True),
    Column("running", right=True),
    Column("failed", right=True),
)


@click.command
@limit_option(100)
@click.option("--after", metavar="NAME", help="List the queues whose names come after this one.")
@click.option("--json", "as_json", is_flag=True, help="Print each queue as a JSON object on one line.")
@database_options
@click.pass_context
def queues(ctx: click.Context, /, *, limit: int, after: str | None, as_json: bool, **_settings: object) -> None:
    """List the named queues, how many jobs wait in each, and which worker has it.

    Jobs are counted up to 1,000.
    """
    with options_as_written(), application(ctx) as app:
        found = app.jobs.queues(limit, after=after)
    if as_json:
        show_json(
            {**asdict(queue), "locked_at": as_utc(queue.locked_at) if queue.locked_at else None} for queue in found
        )
    elif found:
        show_table(
            _QUEUE,
            [(queue.name, counted(queue.waiting), queue.locked_by or "", when(queue.locked_at)) for queue in found],
        )
    else:
        note(f"there are no {'more ' if after else ''}queues")
    if len(found) == limit:
        say_next(found[-1].name)


@click.command
@limit_option(100)
@click.option("--after", metavar="NAME", help="List the tasks whose names come after this one.")
@click.option("--json", "as_json", is_flag=True, help="Print each task as a JSON object on one line.")
@database_options
@click.pass_context
def tasks(ctx: click.Context, /, *, limit: int, after: str | None, as_json: bool, **_settings: object) -> None:
    """List the tasks that the database knows, and how many jobs of each wait, run and have failed.

    Known are the tasks of all workers that have run and of all jobs that were added. Jobs that wait are counted up to
    1,000 for each task; running ones, and the newest failed ones, up to 10,000 for all tasks together.
    """
    with options_as_written(), application(ctx) as app:
        found = app.jobs.tasks(limit, after=after)
    if as_json:
        show_json(asdict(task) for task in found)
    elif found:
        show_table(_TASK, [(task.name, counted(task.waiting), str(task.running), str(task.failed)) for task in found])
    else:
        note(f"there are no {'more ' if after else ''}tasks")
    if len(found) == limit:
        say_next(found[-1].name)
