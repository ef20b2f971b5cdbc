"""`pgtasks history`, and `pgtasks history prune`."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, cast

import click
import orjson
from psycopg import sql

from pgtasks_history import api
from pgtasks_history.data import OUTCOMES, Entry
from pgtasks_history.settings import HistorySettings, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks import App
    from pgtasks_history.data import Outcome


def _span(text: str) -> dt.timedelta:
    try:
        return span(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


def _since(text: str) -> dt.datetime | dt.timedelta:
    try:
        return span(text)
    except ValueError:
        return _moment(text)


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a time span like 12h nor a time like 2030-01-31T12:00:00Z"
        ) from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {text}Z for UTC, or {text}+02:00")
    return moment


@click.group(invoke_without_command=True)
@click.option("--job", "job_id", type=int, metavar="ID", help="Only the job of this id.")
@click.option("--task", metavar="NAME", help="Only jobs of this task.")
@click.option("--queue", metavar="NAME", help="Only jobs of this queue.")
@click.option("--key", metavar="KEY", help="Only jobs that had this job key.")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only jobs that have ended so.")
@click.option("--since", type=_since, metavar="SPAN|TIME", help="Only what ended since then: 12h, 7d, or a time.")
@click.option("--until", type=_moment, metavar="TIME", help="Only what ended before then, in ISO 8601.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each, one a line.")
@click.pass_context
def history(ctx: click.Context, /, *, outcome: str | None, as_json: bool, **filters: Any) -> None:
    """Show how jobs have ended, the last first."""
    if ctx.invoked_subcommand is not None:
        return
    entries = api.history(cast("App", ctx.obj), outcome=cast("Outcome | None", outcome), **filters)
    if as_json:
        for entry in entries:
            click.echo(_as_json(entry))
    elif entries:
        _show(entries)
    else:
        click.echo("Nothing was found.")


@history.command
@click.option("--keep", type=_span, metavar="SPAN", help="Delete what ended longer ago; the setting `keep` by default.")
@click.pass_obj
def prune(app: App, /, *, keep: dt.timedelta | None) -> None:
    """Delete what is old, in transactions of 10,000 each."""
    if keep is None:
        keep = app.plugin_settings("history", HistorySettings).keep
    if keep is None:
        raise click.UsageError("the setting `keep` is none: say by --keep how long entries are kept")
    total = 0
    while (deleted := api.prune(app, keep)) is not None:
        total += deleted
        if deleted < api.CHUNK:
            break
    click.echo(f"deleted {total:,} {'entry' if total == 1 else 'entries'}")
    if deleted is None:
        click.echo("pgtasks: warning: a worker is deleting at this moment", err=True)


@history.command
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def uninstall(app: App, /, *, yes: bool) -> None:
    """Take away triggers, functions and tables, with all that was recorded.

    They come back with the next migration that has the plugin.
    """
    if not yes:
        click.confirm("Forget all that was recorded?", abort=True)
    with app.connection() as connection:
        query = sql.SQL("select {}._pgtasks_history_uninstall()").format(sql.Identifier(app.schema))
        connection.execute(query)
    click.echo("the history is gone, and jobs are not recorded any more")


commands: Final[list[click.Command]] = [history]


def _as_json(entry: Entry) -> str:
    found: dict[str, Any] = {field.name: getattr(entry, field.name) for field in fields(Entry)}
    payload = found.pop("payload_json")
    found["seconds"] = entry.seconds
    # As it is stored, exactly; line breaks in it can only stand between values.
    found["payload"] = None if payload is None else orjson.Fragment(payload.replace("\r", " ").replace("\n", " "))
    return orjson.dumps(found).decode()


def _show(entries: Sequence[Entry]) -> None:
    rows = [["finished", "job", "task", "outcome", "attempts", "seconds", "worker", "error"]]
    rows += [
        [
            f"{entry.finished_at:%Y-%m-%d %H:%M:%S}Z",
            str(entry.job_id),
            _safe(entry.task or ""),
            entry.outcome,
            f"{entry.attempts}/{entry.max_attempts}",
            "" if entry.seconds is None else f"{entry.seconds:.3f}",
            _safe(entry.worker or ""),
            _safe(_short(entry.error)),
        ]
        for entry in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _short(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[0][:100] if lines else ""


def _safe(text: str) -> str:
    """Write as an escape what a terminal would obey: names and errors come from anybody."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
