"""`pgtasks cron run`, `pause` and `resume`: steer crontab entries and timetables."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.application import application
from pgtasks.cli.asking import transaction
from pgtasks.cli.change_report import raise_left
from pgtasks.cli.cron_entries import explain_unknown, find_entries
from pgtasks.cli.job_output import job_object
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note
from pgtasks.cli.tables import count, listed, safe, show_json
from pgtasks.cli.values import options_as_written, read_lines
from pgtasks.cron.entry import payload_at
from pgtasks.errors import LeftUndoneError
from pgtasks.job import JobSpec
from pgtasks.queue.crontabs import pause_crontabs

if TYPE_CHECKING:
    from pgtasks.app import App
    from pgtasks.cli.cron_entries import Entry
    from pgtasks.job import Job


@click.command
@click.argument("entry_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the job as a JSON object on one line.")
@database_options
@click.pass_context
def run(ctx: click.Context, /, *, entry_id: str, as_json: bool, **_settings: object) -> None:
    """Add the job of an entry now, beside those of its times.

    It is the same job but for its time, also if the entry is paused.
    """
    with options_as_written(id="argument ID", ids="argument ID"), application(ctx) as app:
        entries = find_entries(app, [entry_id])
        if not entries:
            raise LeftUndoneError(f"no job was added for {entry_id!r}: {explain_unknown(app, [entry_id])[entry_id]}")
        added = [_run(app, entry) for entry in entries]
    if as_json:
        show_json(job_object(job) for job in added)
    else:
        for job in added:
            click.echo(f"{'changed' if job.revision else 'added'} job {job.id} of task {safe(job.task)!r}")


@click.command
@click.argument("ids", nargs=-1, required=True, metavar="ID|-...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each id, one a line.")
@database_options
@click.pass_context
def pause(ctx: click.Context, /, *, ids: tuple[str, ...], as_json: bool, **_settings: object) -> None:
    """Have no jobs added for entries, on all hosts.

    Times that pass meanwhile are not made up for. Jobs that were added stay. Graphile Workers do not know of it, and
    schedule their own entries. '-' reads ids from standard input, one a line.
    """
    _steer(ctx, ids, paused=True, as_json=as_json)


@click.command
@click.argument("ids", nargs=-1, required=True, metavar="ID|-...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each id, one a line.")
@database_options
@click.pass_context
def resume(ctx: click.Context, /, *, ids: tuple[str, ...], as_json: bool, **_settings: object) -> None:
    """Let paused entries go on with their next times.

    '-' reads ids from standard input, one a line.
    """
    _steer(ctx, ids, paused=False, as_json=as_json)


def _run(app: App, entry: Entry) -> Job:
    if entry.kind == "timetable":
        if (job := app.timetables.run(entry.id)) is None:
            raise LeftUndoneError(f"no job was added for {entry.id!r}: it was just removed")
        return job
    about = entry.about
    if not about:
        raise LeftUndoneError(
            f"no job was added for {entry.id!r}: only Graphile Workers have this entry, so its job is not known here"
        )
    options = ("queue", "max_attempts", "priority", "job_key", "job_key_mode")
    given: dict[str, Any] = {name: about[name] for name in options if name in about}
    if about.get("flags"):
        given["flags"] = tuple(about["flags"])
    payload = payload_at(about.get("payload"), dt.datetime.now(dt.UTC))
    return app.add_spec(JobSpec(task=about["task"], payload=payload, **given))


def _steer(ctx: click.Context, given: tuple[str, ...], *, paused: bool, as_json: bool) -> None:
    ids = read_lines(given)
    if not ids:
        note("no ids on standard input: nothing to do")
        return
    with (
        options_as_written(id="argument ID", ids="argument ID"),
        application(ctx) as app,
        transaction(app) as connection,
    ):
        changed = app.run(pause_crontabs(app.statements, ids, pause=paused), connection)
        change = app.timetables.pause if paused else app.timetables.resume
        done = {*changed, *[each for each in ids if change(each, connection=connection)]}
        problems = explain_unknown(app, (each for each in ids if each not in done), connection)
    if as_json:
        show_json({"id": each, "done": each in done, "reason": problems.get(each)} for each in ids)
    elif names := [safe(each) for each in ids if each in done]:
        what = "paused" if paused else "resumed"
        click.echo(f"{count(len(names), 'entry', 'entries')} {what}: {listed(names)}")
    raise_left("id", {repr(each): why for each, why in problems.items()}, len(ids), done="found")
