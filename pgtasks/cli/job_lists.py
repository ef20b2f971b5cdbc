"""`pgtasks jobs list` and `show`: look at jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from pgtasks.cli.application import application
from pgtasks.cli.change_report import raise_left
from pgtasks.cli.job_output import job_object, show_job, show_jobs
from pgtasks.cli.listing import limit_option, say_next
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note
from pgtasks.cli.progress_output import progress_object
from pgtasks.cli.tables import show_json
from pgtasks.cli.values import options_as_written, read_ids
from pgtasks.errors import did_you_mean
from pgtasks.queue.admin import JobState, task_names
from pgtasks.queue.arguments import MAX_LIMIT

if TYPE_CHECKING:
    from pgtasks.app import App


@click.command("list")
@click.option("--task", metavar="NAME", help="Only jobs of this task.")
@click.option("--queue", metavar="NAME", help="Only jobs in this queue.")
@click.option("--state", type=click.Choice(get_args(JobState)), help="Only jobs that stand there.")
@click.option("--key", metavar="KEY", help="Only the job with this job key.")
@click.option("--flag", metavar="FLAG", help="Only jobs with this flag.")
@click.option("--locked-by", metavar="WORKER", help="Only jobs that this worker holds.")
@limit_option(100)
@click.option("--after", metavar="POSITION", help="Go on where a page ended; it says so itself on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print each job as a JSON object on one line.")
@database_options
@click.pass_context
def list_jobs(
    ctx: click.Context,
    /,
    *,
    task: str | None,
    queue: str | None,
    state: JobState | None,
    key: str | None,
    flag: str | None,
    locked_by: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
    **_settings: object,
) -> None:
    """List jobs, the newest first.

    A key, a worker, and the states 'running' and 'failed' are found by an index. For any other filter 20,000 jobs are
    looked at and not more, so a page may be short or empty; stderr says how to go on.
    """
    filters: dict[str, Any] = {"task": task, "queue": queue, "state": state, "key": key, "flag": flag}
    filters["locked_by"] = locked_by
    with options_as_written(), application(ctx) as app:
        page = app.jobs.list(**filters, limit=limit, after=after)
        nearest = _nearest_task(app, task) if task is not None and not page.jobs else None
    if as_json:
        show_json(job_object(job) for job in page.jobs)
    elif page.jobs:
        show_jobs(page.jobs)
    if page.next is not None:
        say_next(page.next, exact=bool(page.jobs))
    elif nearest is not None:
        note(f"there is no task {task!r}{nearest}")
    elif not page.jobs and not as_json:
        filtered = any(value is not None for value in filters.values())
        note("there are no more jobs" if after else f"there are no {'such ' if filtered else ''}jobs")


def _nearest_task(app: App, task: str) -> str | None:
    """Return a hint at the right name of a task, which may be empty, if the database does not know that task."""
    known = app.run(task_names(app.statements, task))
    return None if task in known else did_you_mean(task, known)


@click.command
@click.argument("ids", nargs=-1, required=True, metavar="ID|-...")
@click.option("--json", "as_json", is_flag=True, help="Print each job as a JSON object on one line.")
@database_options
@click.pass_context
def show(ctx: click.Context, /, *, ids: tuple[str, ...], as_json: bool, **_settings: object) -> None:
    """Show all that is known about jobs.

    '-' reads ids from standard input, one a line.
    """
    numbers = read_ids(ids)
    if not numbers:
        note("no ids on standard input: nothing to show")
        return
    with application(ctx) as app, app.connection() as connection:
        found = {number: app.jobs.get(number, connection=connection) for number in numbers}
        jobs = [job for job in found.values() if job is not None]
        held = [job.id for job in jobs if job.locked_at is not None]
        progress = {
            each.job_id: each
            for start in range(0, len(held), MAX_LIMIT)
            for each in app.jobs.progress(held[start : start + MAX_LIMIT], connection=connection)
        }
    if as_json:
        for job in jobs:
            told_of = progress.get(job.id)
            show_json([job_object(job) | {"progress": None if told_of is None else progress_object(told_of)}])
    else:
        for position, job in enumerate(jobs):
            if position:
                click.echo()
            show_job(job, progress.get(job.id))
    missing = {str(number): "there is no such job" for number, job in found.items() if job is None}
    raise_left("job", missing, len(numbers), done="found")
