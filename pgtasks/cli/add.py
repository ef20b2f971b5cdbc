"""`pgtasks add`: add a job from a shell."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, get_args

import click
from psycopg import errors as pg

from pgtasks.cli.application import application
from pgtasks.cli.job_output import job_object
from pgtasks.cli.options import database_options
from pgtasks.cli.output import warn
from pgtasks.cli.tables import relative, safe, show_json
from pgtasks.cli.values import delay as delay_type
from pgtasks.cli.values import moment, options_as_written, read_payload
from pgtasks.errors import DatabaseUnavailableError, did_you_mean
from pgtasks.job import JobKeyMode, JobSpec
from pgtasks.queue.admin import task_names

if TYPE_CHECKING:
    from pgtasks.app import App
    from pgtasks.job import Job


@click.command
@click.argument("task")
@click.argument("payload", required=False, metavar="[JSON|-]")
@click.option("--job-key", metavar="KEY", help="A name, unique among all jobs, to replace or remove the job by.")
@click.option(
    "--job-key-mode",
    type=click.Choice(get_args(JobKeyMode)),
    help="What happens to a job that has this key; 'replace' by default.",
)
@click.option("--queue", metavar="NAME", help="A queue, whose jobs run one at a time, in order.")
@click.option(
    "--run-at",
    type=moment,
    metavar="TIME",
    help="Do not run it before this time, in ISO 8601 with a zone: 2030-01-31T12:00:00Z.",
)
@click.option(
    "--delay", type=delay_type, metavar="SPAN", help="Do not run it before so long from now: 90s, 5m, 2h, 1d."
)
@click.option("--priority", type=int, metavar="N", help="Lower runs earlier; 0 by default.")
@click.option("--max-attempts", type=int, metavar="N", help="How often it may be tried; 25 by default.")
@click.option("--flag", "flags", multiple=True, metavar="FLAG", help="A flag; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print the job as a JSON object on one line.")
@database_options
@click.pass_context
def add(
    ctx: click.Context,
    /,
    *,
    task: str,
    payload: str | None,
    job_key: str | None,
    job_key_mode: JobKeyMode | None,
    queue: str | None,
    run_at: dt.datetime | None,
    delay: float | None,
    priority: int | None,
    max_attempts: int | None,
    flags: tuple[str, ...],
    as_json: bool,
    **_settings: object,
) -> None:
    """Add a job for TASK, with a payload in JSON.

    The payload is {} when none is given, and read from standard input when it is '-'. Options of @task do not apply,
    since the task's code is not read: what is not given here has the database's default.
    """
    if run_at is not None and delay is not None:
        raise click.UsageError("--run-at and --delay both say when the job runs; give one of them", ctx)
    if job_key_mode is not None and job_key is None:
        raise click.UsageError("--job-key-mode does nothing without --job-key; give both or neither", ctx)
    value = read_payload(payload)
    with options_as_written(task="argument TASK", flags="--flag"):
        spec = JobSpec(
            task=task,
            payload=value,
            job_key=job_key,
            job_key_mode=job_key_mode,
            queue=queue,
            run_at=run_at,
            delay=delay,
            priority=priority,
            max_attempts=max_attempts,
            flags=flags or None,
        )
    with application(ctx) as app:
        known = _known_tasks(app, task)
        job = app.add_spec(spec)
        if known and task not in known:
            _warn_unknown(task, known)
    if as_json:
        show_json([job_object(job)])
    else:
        click.echo(_told(job, job_key_mode))


def _told(job: Job, mode: JobKeyMode | None) -> str:
    what = f"job {job.id} of task {safe(job.task)!r}"
    if job.revision and mode == "unsafe_dedupe":
        return f"left as it is, since it has this key: {what}"
    due = job.run_at > dt.datetime.now(dt.UTC)
    return f"{'changed' if job.revision else 'added'} {what}{f', to run {relative(job.run_at)}' if due else ''}"


def _known_tasks(app: App, task: str) -> list[str]:
    """Return the names of tasks, before the job makes its own one known; none where the role may not see them."""
    try:
        return app.run(task_names(app.statements, task))
    except DatabaseUnavailableError as error:
        if isinstance(error.__cause__, pg.InsufficientPrivilege):
            return []
        raise


def _warn_unknown(task: str, known: list[str]) -> None:
    warn(
        f"the job was added, but no worker has had a task {task!r} yet, and no job of it was added before"
        f"{did_you_mean(task, known)}"
    )
