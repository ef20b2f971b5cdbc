"""`pgtasks workers …`: who holds jobs, and taking them from a worker that is dead."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from pgtasks.cli.application import application
from pgtasks.cli.asking import ask, dry_run_option, transaction, yes_option
from pgtasks.cli.change_report import raise_left
from pgtasks.cli.lazy import LazyGroup, help_unless_invoked
from pgtasks.cli.listing import counted, limit_option
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note, warn
from pgtasks.cli.tables import Column, as_utc, count, relative, safe, show_json, show_table, when
from pgtasks.cli.values import options_as_written, read_lines

if TYPE_CHECKING:
    from pgtasks.app import App
    from pgtasks.queue.admin import WorkerInfo

_COLUMNS: Final = (
    Column("worker", fold=True),
    Column("host"),
    Column("pid", right=True),
    Column("version"),
    Column("started"),
    Column("heartbeat"),
    Column("succeeded", right=True),
    Column("failed", right=True),
    Column("jobs", right=True),
    Column("oldest lock"),
)
_LIVELY: Final = 60.0
"""A worker that was heard of so lately, in seconds, is surely alive."""


@click.group(cls=LazyGroup, commands_by_name={}, invoke_without_command=True)
@click.pass_context
def workers(ctx: click.Context) -> None:
    """See which workers there are, and take jobs from dead ones."""
    help_unless_invoked(ctx)


@workers.command("list")
@limit_option(1_000)
@click.option("--json", "as_json", is_flag=True, help="Print each worker as a JSON object on one line.")
@database_options
@click.pass_context
def list_workers(ctx: click.Context, /, *, limit: int, as_json: bool, **_settings: object) -> None:
    """List the workers that are running or hold jobs.

    A worker is one process. Those of Graphile Worker are listed while they hold jobs. Jobs are counted up to 1,000.
    """
    with application(ctx) as app:
        found = app.jobs.workers(limit)
    if as_json:
        show_json(_object(worker) for worker in found)
    elif found:
        show_table(_COLUMNS, [_cells(worker) for worker in found])
    else:
        note("no worker is running or holds a job")
    if len(found) == limit:
        note(f"there may be more than the first {limit}; list more with a higher --limit")


@workers.command
@click.argument("worker_ids", nargs=-1, required=True, metavar="WORKER|-...")
@dry_run_option
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print each worker as a JSON object on one line.")
@database_options
@click.pass_context
def unlock(
    ctx: click.Context,
    /,
    *,
    worker_ids: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **_settings: object,
) -> None:
    """Take all jobs and queues from workers, which must be dead.

    A worker that is alive goes on with its jobs, while another one runs them too. pgtasks itself does this when a
    process or a host of its own dies; it is for workers of Graphile Worker. '-' reads ids from standard input, one a
    line.
    """
    wanted = read_lines(worker_ids)
    if not wanted:
        note("no ids on standard input: nothing to do")
        return
    with options_as_written(worker_ids="argument WORKER"), application(ctx) as app:
        held = _unlock(app, wanted, dry_run=True)
        if not dry_run and any(map(_holds, held)):
            _warn(held)
            ask(f"take {_what(held)} from {count(len([*filter(_holds, held)]), 'worker')}", yes=yes)
            held = _unlock(app, wanted, dry_run=False)
    if as_json:
        show_json(_object(worker) for worker in held)
    else:
        for worker in filter(_holds, held):
            click.echo(f"{safe(worker.id)}: {_what([worker])} {'would be ' if dry_run else ''}unlocked")
    problems = {repr(worker.id): "it holds nothing" for worker in held if not _holds(worker)}
    raise_left("worker", problems, len(held), done="unlocked", dry_run=dry_run)


def _unlock(app: App, worker_ids: list[str], *, dry_run: bool) -> list[WorkerInfo]:
    with transaction(app, dry_run=dry_run) as connection:
        return app.jobs.force_unlock(worker_ids, connection=connection)


def _holds(worker: WorkerInfo) -> bool:
    """Whether it held something: jobs, or only a queue, which other programs than pgtasks may leave behind."""
    return worker.jobs > 0 or worker.oldest_lock is not None


def _what(held: list[WorkerInfo]) -> str:
    jobs = sum(worker.jobs for worker in held)
    return count(jobs, "job") if jobs else "queues without a job"


def _warn(held: list[WorkerInfo]) -> None:
    for worker in filter(_holds, held):
        now = _now(worker)
        since = f" (the oldest lock is of {relative(worker.oldest_lock, now)})" if worker.oldest_lock else ""
        if worker.heartbeat_at is not None and worker.heartbeat_age is not None and worker.heartbeat_age < _LIVELY:
            warn(
                f"{worker.id!r} is alive: it was heard of {relative(worker.heartbeat_at, now)}. All that it runs would "
                "run a second time beside it"
            )
            continue
        warn(
            f"{worker.id!r} holds {_what([worker])}{since}: if it is alive, all of that runs a second "
            "time beside it; make sure that its process is gone"
        )


def _now(worker: WorkerInfo) -> dt.datetime | None:
    """Return the time by the database's clock, where a worker's heartbeat tells it."""
    if worker.heartbeat_at is None or worker.heartbeat_age is None:
        return None
    return worker.heartbeat_at + dt.timedelta(seconds=worker.heartbeat_age)


def _cells(worker: WorkerInfo) -> tuple[str, ...]:
    now = _now(worker)
    counts = (worker.pid, worker.succeeded, worker.failed)
    pid, succeeded, failed = ("" if number is None else str(number) for number in counts)
    return (
        worker.id,
        worker.host or "",
        pid,
        worker.version or "",
        when(worker.started_at, now),
        when(worker.heartbeat_at, now),
        succeeded,
        failed,
        counted(worker.jobs),
        when(worker.oldest_lock, now),
    )


def _object(worker: WorkerInfo) -> dict[str, Any]:
    facts = asdict(worker)
    return facts | {name: as_utc(value) for name, value in facts.items() if isinstance(value, dt.datetime)}
