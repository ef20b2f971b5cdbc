"""`pgtasks jobs complete`, `cancel`, `fail`, `reschedule`, `retry` and `remove`: change jobs by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgtasks.cli.application import application
from pgtasks.cli.asking import ask, dry_run_option, transaction, yes_option
from pgtasks.cli.change_report import Action, show_cancellations, show_changes, show_removed
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note
from pgtasks.cli.tables import count
from pgtasks.cli.values import delay as delay_type
from pgtasks.cli.values import moment, options_as_written, read_ids, read_lines
from pgtasks.queue.arguments import MAX_LIMIT

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    import psycopg

    from pgtasks.administration import Jobs
    from pgtasks.queue.admin import JobChange

    Change = Callable[[Jobs, list[int], psycopg.Connection[Any]], list[JobChange]]

Command = TypeVar("Command", bound="Callable[..., Any]")
Done = TypeVar("Done")


def _of_jobs(command: Command) -> Command:
    """Add the arguments and options that all changes of jobs by id share."""
    command = database_options(command)
    command = click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each id, one a line.")(
        command
    )
    command = dry_run_option(command)
    return click.argument("ids", nargs=-1, required=True, metavar="ID|-...")(command)


@click.command
@_of_jobs
@yes_option
@click.pass_context
def complete(ctx: click.Context, /, *, ids: tuple[str, ...], yes: bool, **flags: Any) -> None:
    """Delete jobs as if they had succeeded.

    A job that a worker holds is left alone. '-' reads ids from standard input, one a line.
    """
    action = Action("completed", "delete {}, as if they had succeeded")
    _change(ctx, action, ids, lambda jobs, some, conn: jobs.complete(some, connection=conn), yes=yes, **flags)


@click.command
@_of_jobs
@click.option("--reason", metavar="TEXT", help="What the handler is told, and what is logged.")
@yes_option
@click.pass_context
def cancel(
    ctx: click.Context,
    /,
    *,
    ids: tuple[str, ...],
    reason: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **_settings: object,
) -> None:
    """Cancel jobs: delete those that wait or have failed, and stop those that run.

    A running one is asked to stop, as at its time limit; its worker deletes it when it has, or kills its process after
    its grace. What a Graphile Worker runs goes on to its end. None of them runs again. '-' reads ids from standard
    input, one a line.
    """
    with options_as_written():
        cancelled = _apply(
            ctx,
            ids,
            lambda jobs, some, conn: jobs.cancel(some, reason, connection=conn),
            question="cancel {}",
            dry_run=dry_run,
            yes=yes,
        )
    show_cancellations(cancelled, dry_run=dry_run, as_json=as_json)


@click.command
@_of_jobs
@click.option("--reason", metavar="TEXT", help="What to store as the jobs' last error.")
@yes_option
@click.pass_context
def fail(ctx: click.Context, /, *, ids: tuple[str, ...], reason: str | None, yes: bool, **flags: Any) -> None:
    """Mark jobs as permanently failed, so that they do not run any more.

    A job that a worker holds is left alone. '-' reads ids from standard input, one a line. 'pgtasks jobs retry' lets
    them run again.
    """
    action = Action("marked as failed", "mark {} as permanently failed")
    with options_as_written():
        _change(ctx, action, ids, lambda jobs, some, conn: jobs.fail(some, reason, connection=conn), yes=yes, **flags)


@click.command
@_of_jobs
@click.option(
    "--run-at", type=moment, metavar="TIME", help="Not before this time, in ISO 8601 with a zone: 2030-01-31T12:00:00Z."
)
@click.option("--delay", type=delay_type, metavar="SPAN", help="Not before so long from now: 0, 90s, 5m, 2h, 1d.")
@click.option("--priority", type=int, metavar="N", help="Lower runs earlier.")
@click.option("--attempts", type=int, metavar="N", help="How often they count as tried; 0 gives them all again.")
@click.option("--max-attempts", type=int, metavar="N", help="How often they may be tried.")
@click.pass_context
def reschedule(
    ctx: click.Context,
    /,
    *,
    ids: tuple[str, ...],
    run_at: dt.datetime | None,
    delay: float | None,
    priority: int | None,
    attempts: int | None,
    max_attempts: int | None,
    **flags: Any,
) -> None:
    """Change when jobs run, in which order, and how often they are tried.

    What is not given stays as it is. A job that a worker holds is left alone. '-' reads ids from standard input, one a
    line.
    """
    if run_at is not None and delay is not None:
        raise click.UsageError("--run-at and --delay both say when the jobs run; give one of them", ctx)
    if all(value is None for value in (run_at, delay, priority, attempts, max_attempts)):
        raise click.UsageError(
            "nothing to change: give --run-at, --delay, --priority, --attempts or --max-attempts", ctx
        )

    def apply(jobs: Jobs, some: list[int], conn: psycopg.Connection[Any]) -> list[JobChange]:
        return jobs.reschedule(
            some,
            run_at=run_at,
            delay=delay,
            priority=priority,
            attempts=attempts,
            max_attempts=max_attempts,
            connection=conn,
        )

    with options_as_written():
        _change(ctx, Action("rescheduled", to_run=run_at is not None or delay is not None), ids, apply, **flags)


@click.command
@_of_jobs
@click.pass_context
def retry(ctx: click.Context, /, *, ids: tuple[str, ...], **flags: Any) -> None:
    """Let permanently failed jobs run again, now, with all their attempts.

    A job that has not failed is left alone. '-' reads ids from standard input, one a line.
    """
    action = Action("set to run again")
    _change(ctx, action, ids, lambda jobs, some, conn: jobs.retry(some, connection=conn), **flags)


@click.command
@click.argument("keys", nargs=-1, required=True, metavar="KEY|-...")
@dry_run_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each key, one a line.")
@database_options
@yes_option
@click.pass_context
def remove(
    ctx: click.Context, /, *, keys: tuple[str, ...], dry_run: bool, as_json: bool, yes: bool, **_settings: object
) -> None:
    """Remove jobs by their job keys.

    A job that a worker holds runs to its end, but loses its key and is not tried again. '-' reads keys from standard
    input, one a line. By id, 'pgtasks jobs complete' deletes jobs.
    """
    wanted = read_lines(keys)
    if not wanted:
        note("no keys on standard input: nothing to do")
        return
    if len(wanted) > 1 and not dry_run:
        ask(f"remove {count(len(wanted), 'job')}", yes=yes)
    with (
        options_as_written(job_key="argument KEY"),
        application(ctx) as app,
        transaction(app, dry_run=dry_run) as connection,
    ):
        removed = {key: app.jobs.remove(key, connection=connection) for key in wanted}
    show_removed(removed, dry_run=dry_run, as_json=as_json)


def _change(
    ctx: click.Context,
    action: Action,
    given: Sequence[str],
    apply: Change,
    *,
    dry_run: bool,
    as_json: bool,
    yes: bool = True,
    **_settings: object,
) -> None:
    """Make a change to jobs, all of it in one transaction, and say what was done about each."""
    changes = _apply(ctx, given, apply, question=action.question, dry_run=dry_run, yes=yes)
    show_changes(changes, action, dry_run=dry_run, as_json=as_json)


def _apply(
    ctx: click.Context,
    given: Sequence[str],
    apply: Callable[[Jobs, list[int], psycopg.Connection[Any]], list[Done]],
    *,
    question: str | None,
    dry_run: bool,
    yes: bool,
) -> list[Done]:
    """Do something to jobs, all of it in one transaction, when it is not taken back after a question."""
    ids = read_ids(given)
    if not ids:
        note("no ids on standard input: nothing to do")
        return []
    if question is not None and len(ids) > 1 and not dry_run:
        ask(question.format(count(len(ids), "job")), yes=yes)
    done: list[Done] = []
    with application(ctx) as app, transaction(app, dry_run=dry_run) as connection:
        for start in range(0, len(ids), MAX_LIMIT):
            done += apply(app.jobs, ids[start : start + MAX_LIMIT], connection)
    return done
