"""`pgtasks cleanup`: clear away what nobody needs any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, cast, get_args

import click

from pgtasks.cli.application import application
from pgtasks.cli.asking import ask, dry_run_option, transaction, yes_option
from pgtasks.cli.options import database_options
from pgtasks.cli.output import warn
from pgtasks.cli.tables import count, show_json
from pgtasks.errors import LeftUndoneError, did_you_mean
from pgtasks.queue.admin import CleanupOperation, CleanupResult, has_own_functions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.app import App

_KNOWN: Final[tuple[CleanupOperation, ...]] = get_args(CleanupOperation)
_HARMLESS: Final[tuple[CleanupOperation, ...]] = ("GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES")
"""What is done when nothing is named: no job is lost by it."""
_TRIES: Final = 10
"""How often in a row what is busy is tried."""
_PAUSE: Final = 0.2
"""Seconds between two of these tries, for what waits behind them to pass."""


@click.command
@click.argument("operations", nargs=-1, metavar="[OPERATION]...")
@dry_run_option
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object.")
@database_options
@click.pass_context
def cleanup(
    ctx: click.Context,
    /,
    *,
    operations: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **_settings: object,
) -> None:
    """Forget tasks and queues that no job has, or delete the jobs that are permanently failed.

    OPERATION is GC_TASK_IDENTIFIERS, GC_JOB_QUEUES or DELETE_PERMAFAILED_JOBS; by default the first two. It is safe
    while workers run and jobs are added.
    """
    wanted = _read(ctx, operations) or list(_HARMLESS)
    if "DELETE_PERMAFAILED_JOBS" in wanted and not dry_run:
        ask("delete all jobs that are permanently failed", yes=yes)
    with application(ctx) as app:
        result = _look(app, wanted) if dry_run else _clean(app, wanted)
        if result.tasks and not app.run(has_own_functions(app.statements)):
            warn(
                "add_job is Graphile Worker's in this schema, and gives a task that was forgotten a new number. Its "
                "workers that run do not take such jobs until they are restarted: leave GC_TASK_IDENTIFIERS out, or "
                "run 'pgtasks migrate --upgrade-functions'"
            )
    if as_json:
        show_json([{"tasks": result.tasks, "queues": result.queues, "jobs": result.jobs, "busy": result.busy}])
    else:
        for line in _told(wanted, result, dry_run=dry_run):
            click.echo(line)
    if result.busy:
        raise LeftUndoneError(
            f"{' and '.join(result.busy)} had to be left undone: a transaction that has added jobs, or another "
            "cleanup, stays open; try again when it has ended"
        )


def _read(ctx: click.Context, given: Iterable[str]) -> list[CleanupOperation]:
    """Return the operations that the arguments name, each once; they may also be joined by commas."""
    found = dict.fromkeys(name for argument in given for name in argument.split(",") if name)
    for name in found:
        if name not in _KNOWN:
            hint = did_you_mean(name.upper(), _KNOWN)
            raise click.UsageError(f"{name!r} is none of {', '.join(_KNOWN)}{hint}", ctx)
    return [cast("CleanupOperation", name) for name in found]


def _clean(app: App, wanted: list[CleanupOperation]) -> CleanupResult:
    """Do it, in as many transactions as that takes: each is short, and what is done stays done."""
    tasks = queues = jobs = 0
    left = list(wanted)
    busy: dict[CleanupOperation, int] = {}  # how often each was in a row
    given_up: list[CleanupOperation] = []
    while True:
        result = app.jobs.cleanup(*left)
        tasks, queues, jobs = tasks + result.tasks, queues + result.queues, jobs + result.jobs
        busy = {operation: busy.get(operation, 0) + 1 for operation in result.busy}
        given_up += [operation for operation in left if busy.get(operation) == _TRIES]
        left = [operation for operation in left if operation not in given_up]
        if not left or not (result.more or result.busy):
            return CleanupResult(tasks, queues, jobs, more=False, busy=tuple(given_up))
        if result.busy:
            time.sleep(_PAUSE)


def _look(app: App, wanted: list[CleanupOperation]) -> CleanupResult:
    """Do what one call does, and take it back: more would keep everybody who adds jobs waiting."""
    with transaction(app, dry_run=True) as connection:
        return app.jobs.cleanup(*wanted, connection=connection)


def _told(wanted: list[CleanupOperation], result: CleanupResult, *, dry_run: bool) -> list[str]:
    would = "would be " if dry_run else ""
    more = ", and more" if dry_run and result.more else ""
    said = {
        "DELETE_PERMAFAILED_JOBS": f"{count(result.jobs, 'failed job')} {would}deleted{more}",
        "GC_TASK_IDENTIFIERS": f"{count(result.tasks, 'task')} {would}forgotten{more}",
        "GC_JOB_QUEUES": f"{count(result.queues, 'queue')} {would}forgotten{more}",
    }
    return [line for operation, line in said.items() if operation in wanted and operation not in result.busy]
