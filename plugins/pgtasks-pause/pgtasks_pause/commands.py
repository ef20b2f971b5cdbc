"""`pgtasks pause`, `pgtasks resume` and `pgtasks paused`."""

from __future__ import annotations

import datetime as dt
import getpass
import re
import socket
from typing import TYPE_CHECKING, Any, Final

import click
import orjson
from psycopg import sql

from pgtasks_pause import api
from pgtasks_pause.data import PauseError, Weekly

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks import App
    from pgtasks_pause.data import Pause

_SPAN: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_WHAT: Final = click.Choice(["task", "queue", "flag"])


def _span(text: str) -> dt.timedelta:
    match = _SPAN.fullmatch(text)
    if match is None or not text:
        raise click.BadParameter(f"{text!r} is not a time span: write 90s, 5m, 2h, 1d or 1d12h")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too long") from None


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time: write it like 2030-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {text}Z for UTC, or {text}+02:00")
    return moment


@click.command
@click.argument("what", type=_WHAT)
@click.argument("name")
@click.option("--reason", metavar="TEXT", help="Why: shown to whoever wonders.")
@click.option("--for", "lasting", type=_span, metavar="SPAN", help="For how long: 90s, 5m, 2h, 1d12h.")
@click.option("--until", type=_moment, metavar="TIME", help="Until when, in ISO 8601 with a zone: 2030-01-31T12:00Z.")
@click.option("--since", type=_moment, metavar="TIME", help="From when on, if not from now on.")
@click.option("--weekly", metavar="WINDOW", help="Only within a window of each week, like 'sat,sun 22:00-04:00'.")
@click.option("--timezone", metavar="ZONE", help="The time zone of the window, like Europe/Berlin.")
@click.option("--by", metavar="WHO", help="Who pauses it; by default this machine's user.")
@click.pass_obj
def pause(
    app: App,
    /,
    *,
    what: str,
    name: str,
    reason: str | None,
    lasting: dt.timedelta | None,
    until: dt.datetime | None,
    since: dt.datetime | None,
    weekly: str | None,
    timezone: str | None,
    by: str | None,
) -> None:
    """Pause a task, a queue or a flag on all hosts.

    Its jobs do not start any more, within two seconds; those that are running go on. Without an end it holds until
    'pgtasks resume'. What is paused already gets the new end and reason.
    """
    if lasting is not None and until is not None:
        raise click.UsageError("--for and --until say the same: give one of them")
    if (weekly is None) != (timezone is None):
        raise click.UsageError("--weekly and --timezone belong together")
    window = None if weekly is None or timezone is None else Weekly.parse(weekly, timezone)
    names: dict[str, Any] = {what: name}
    made = api.pause(
        app,
        **names,
        since=since,
        until=until if until is not None else lasting,
        weekly=window,
        reason=reason,
        by=by or _me(),
    )
    click.echo(f"paused: {_described(made)}")
    if not _is_known(app, what, name):
        click.echo(f"pgtasks: warning: no job has been added for a {what} {name!r} yet; is it spelt so?", err=True)


@click.command
@click.argument("what", type=_WHAT, required=False)
@click.argument("name", required=False)
@click.option("--id", "pause_id", type=int, metavar="ID", help="The pause to end, as 'pgtasks paused' shows it.")
@click.option("--windows", is_flag=True, help="End its weekly windows and the pauses that are to come, too.")
@click.pass_obj
def resume(app: App, /, *, what: str | None, name: str | None, pause_id: int | None, windows: bool) -> None:
    """End a pause of a task, a queue or a flag, and let its jobs run.

    Weekly windows, and pauses that are to come, stay.
    """
    if (what is None) == (pause_id is None) or (what is None) != (name is None):
        raise click.UsageError("say what to resume: 'task NAME', 'queue NAME', 'flag NAME' or '--id ID'")
    names: dict[str, Any] = {} if what is None else {what: name}
    ended = api.resume(app, **names, id=pause_id, windows=windows)
    for one in ended:
        click.echo(f"resumed: {_described(one)}")
    subject = (what, name) if ended == [] or what is not None else (ended[0].what, ended[0].name)
    left = [one for one in api.paused(app) if (one.what, one.name) == subject]
    for one in left:
        click.echo(f"{'still paused' if one.holds else 'stays'}: {_described(one)}")
    if not ended:
        target = f"pause {pause_id}" if pause_id is not None else f"{what} {name!r}"
        hint = "; end its windows with --windows" if left else ""
        raise PauseError(f"{target} is not paused now{hint}")


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each pause, one a line.")
@click.pass_obj
def paused(app: App, /, *, as_json: bool) -> None:
    """List what is paused, and what will be."""
    pauses = api.paused(app)
    if as_json:
        for one in pauses:
            click.echo(orjson.dumps(_as_json(one)).decode())
    elif pauses:
        _show(pauses)
    else:
        click.echo("Nothing is paused.")


commands: Final = [pause, resume, paused]


def _described(pause: Pause) -> str:
    why = f" ({_safe(pause.reason)})" if pause.reason else ""
    return f"{pause.what} {_safe(pause.name)}, {pause.when}, by {_safe(pause.by)}{why} [{pause.id}]"


def _show(pauses: Iterable[Pause]) -> None:
    rows = [["id", "what", "name", "now", "when", "by", "reason"]]
    rows += [
        [
            str(one.id),
            one.what,
            _safe(one.name),
            "paused" if one.holds else "runs",
            one.when,
            _safe(one.by),
            _safe(one.reason or ""),
        ]
        for one in pauses
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _as_json(pause: Pause) -> dict[str, object]:
    window = pause.weekly
    return {
        "id": pause.id,
        "what": pause.what,
        "name": pause.name,
        "holds": pause.holds,
        "since": pause.since.astimezone(dt.UTC),
        "until": None if pause.until is None else pause.until.astimezone(dt.UTC),
        "weekly": None
        if window is None
        else {
            "days": window.days,
            "start": f"{window.start:%H:%M}",
            "end": f"{window.end:%H:%M}",
            "timezone": window.timezone,
        },
        "reason": pause.reason,
        "by": pause.by,
    }


def _is_known(app: App, what: str, name: str) -> bool:
    """Whether the queue knows the name; a flag is not looked for."""
    if what == "flag":
        return True
    column = sql.SQL("_private_tasks where identifier" if what == "task" else "_private_job_queues where queue_name")
    query = sql.SQL("select from {}.{} = %s").format(sql.Identifier(app.schema), column)
    with app.connection() as connection:
        return connection.execute(query, [name]).rowcount > 0


def _me() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container may have a user without a name
        return socket.gethostname()


def _safe(text: str) -> str:
    """Write as an escape what a terminal would obey: names and reasons come from anybody."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
