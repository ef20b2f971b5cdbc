"""`pgtasks cron list` and `pgtasks cron next`: what runs at which times, and what has become of it."""

from __future__ import annotations

import datetime as dt
import heapq
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from pgtasks.cli.application import application
from pgtasks.cli.change_report import raise_left
from pgtasks.cli.cron_entries import explain_unknown, find_entries
from pgtasks.cli.options import database_options
from pgtasks.cli.output import note
from pgtasks.cli.tables import Column, as_utc, count, relative, show_json, show_table, span, when
from pgtasks.cli.values import options_as_written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgtasks.app import App
    from pgtasks.cli.cron_entries import Entry

_ENTRY: Final = (
    Column("id", fold=True),
    Column("kind"),
    Column("task", fold=True),
    Column("schedule"),
    Column("next"),
    Column("last"),
    Column("lag"),
    Column("by"),
    Column("state", fold=True),
)
_USUALLY: Final = 10
_MOST: Final = 10_000
"""Times that `next` shows."""
_TIME: Final = (Column("time"), Column("in"), Column("id", fold=True), Column("task", fold=True))


@click.command
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print each entry as a JSON object on one line.")
@database_options
@click.pass_context
def list_entries(ctx: click.Context, /, *, ids: tuple[str, ...], as_json: bool, **_settings: object) -> None:
    """List crontab entries and timetables.

    With their next and last times, how long after its time the last job was added, and by which host. A crontab entry
    that was removed stays in the list.
    """
    with options_as_written(ids="argument ID"), application(ctx) as app:
        found = find_entries(app, list(ids) or None)
        problems = _unknown(app, ids, found)
    now = dt.datetime.now(dt.UTC)
    if as_json:
        show_json(_object(entry, now) for entry in found)
    elif found:
        show_table(_ENTRY, [_cells(entry, now) for entry in found])
    elif not ids:
        note("no worker has had a crontab entry, and there are no timetables")
    raise_left("id", problems, len(ids), done="found")


@click.command
@click.argument("words", nargs=-1, metavar="[N] [ID]...")
@click.option("--json", "as_json", is_flag=True, help="Print each time as a JSON object on one line.")
@database_options
@click.pass_context
def show_next(ctx: click.Context, /, *, words: tuple[str, ...], as_json: bool, **_settings: object) -> None:
    """Show the next N times, in order.

    Of all crontab entries and timetables, or of those with these ids; 10 times by default. Those that are paused have
    none.
    """
    number, ids = (int(words[0]), words[1:]) if words and re.fullmatch("[0-9]+", words[0]) else (_USUALLY, words)
    if not 1 <= number <= _MOST:
        raise click.UsageError(f"the number of times is from 1 to {_MOST}, not {number}.")
    with options_as_written(ids="argument ID"), application(ctx) as app:
        found = find_entries(app, list(ids) or None)
        problems = _unknown(app, ids, found)
    now = dt.datetime.now(dt.UTC)
    times = list(islice(heapq.merge(*(_times(entry, now) for entry in found)), number))
    if as_json:
        show_json({"time": as_utc(time), "id": id_, "kind": kind, "task": task} for time, id_, kind, task in times)
    elif times:
        show_table(_TIME, [(as_utc(time), relative(time, now), id_, task) for time, id_, _, task in times])
    elif not problems:
        note("there is nothing to come")
    if paused := [entry for entry in found if entry.paused]:
        note(f"left out: {count(len(paused), 'paused entry', 'paused entries')}")
    raise_left("id", problems, len(ids), done="found")


def _unknown(app: App, ids: Sequence[str], found: Sequence[Entry]) -> dict[str, str]:
    known = {entry.id for entry in found}
    problems = explain_unknown(app, (each for each in ids if each not in known))
    return {repr(each): why for each, why in problems.items()}


def _times(entry: Entry, now: dt.datetime) -> Iterator[tuple[dt.datetime, str, str, str]]:
    for time in entry.next_times(now):
        yield time, entry.id, entry.kind, entry.about["task"]


def _cells(entry: Entry, now: dt.datetime) -> tuple[str, ...]:
    about = entry.about
    zone = about.get("timezone", "UTC")
    return (
        entry.id,
        entry.kind,
        about.get("task", ""),
        about.get("schedule", "") + ("" if zone == "UTC" else f" {zone}"),
        when(next(entry.next_times(now), None), now),
        when(entry.last_at, now),
        _lag(entry.lag),
        entry.scheduled_by or "",
        _state(entry, now),
    )


def _lag(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return span(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _state(entry: Entry, now: dt.datetime) -> str:
    if entry.paused or entry.error:
        return "paused" if entry.paused else entry.error or ""
    if not entry.about:
        return "only Graphile Workers have it"
    overdue = entry.overdue(now)
    if overdue is None:
        return ""
    return f"overdue for {span(overdue)}" if entry.kind == "timetable" else f"missed {span(overdue)} ago"


def _object(entry: Entry, now: dt.datetime) -> dict[str, Any]:
    moments = {
        "next_at": next(entry.next_times(now), None),
        "last_at": entry.last_at,
        "scheduled_at": entry.scheduled_at,
    }
    return {
        "id": entry.id,
        "kind": entry.kind,
        **entry.about,
        "paused": entry.paused,
        **{name: None if moment is None else as_utc(moment) for name, moment in moments.items()},
        "scheduled_by": entry.scheduled_by,
        "lag": entry.lag,
        "overdue": entry.overdue(now),
        "error": entry.error,
    }
