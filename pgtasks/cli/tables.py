"""What commands show on stdout: tables for people, aligned text for pipes, one JSON object a line for programs.

Text comes from jobs, so from anybody: what a terminal would obey is written as an escape.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Column:
    """A column of a table.

    Args:
        name: What stands above it.
        right: Whether it holds numbers.
        fold: Whether its text may be broken into several lines where a terminal is too narrow; others stay whole.
    """

    def __init__(self, name: str, *, right: bool = False, fold: bool = False) -> None:
        self.name = name
        self.right = right
        self.fold = fold


def on_terminal() -> bool:
    """Whether a person reads what is written to stdout."""
    return sys.stdout.isatty()


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Write a table: with lines and colours on a terminal, else as aligned text, a row a line."""
    names = [column.name for column in columns]
    cells = [[safe(cell).replace("\t", r"\t") for cell in row] for row in rows]
    if on_terminal():
        from pgtasks.cli.terminal import draw_table  # noqa: PLC0415 - only a terminal needs it

        draw_table(columns, cells)
        return
    from rich.cells import cell_len  # noqa: PLC0415 - JSON does without

    widths = [max(cell_len(row[index]) for row in [names, *cells]) for index in range(len(columns))]
    for row in [names, *cells]:
        padded = []
        for column, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if column.right else cell + space)
        click.echo("  ".join(padded).rstrip())


def show_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Write names with their values, a line each; a value of several lines stands below its name, set in."""
    facts = list(facts)
    width = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        lines = [safe(line) for line in value.split("\n")]
        label = click.style(f"{name:<{width}}", bold=True) if in_colour() else f"{name:<{width}}"
        if len(lines) == 1:
            click.echo(f"{label}{lines[0]}")
        else:
            click.echo("\n".join([label.rstrip(), *(f"  {line}".rstrip() for line in lines)]))


def show_json(things: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; times are those of `as_utc`."""
    for thing in things:
        click.echo(orjson.dumps(thing, default=_plain).decode())


def as_utc(moment: dt.datetime) -> str:
    """Return a time for programs: ISO 8601, UTC, a `Z` at its end.

    >>> as_utc(dt.datetime(2026, 7, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))))
    '2026-07-01T10:00:00Z'
    """
    return moment.astimezone(dt.UTC).isoformat().removesuffix("+00:00") + "Z"


def when(moment: dt.datetime | None, now: dt.datetime | None = None) -> str:
    """Return a time for a table: how far away it is (from `now`) on a terminal, else in UTC, to the second."""
    if moment is None:
        return ""
    return relative(moment, now) if on_terminal() else as_utc(moment.replace(microsecond=0))


def when_exactly(moment: dt.datetime) -> str:
    """Return a time for a single job, in this machine's zone, and how far away it is."""
    try:
        local = moment.astimezone()
    except (OverflowError, ValueError, OSError):  # at the end of Python's calendar
        local = moment
    return f"{local.isoformat(sep=' ', timespec='seconds')} ({relative(moment)})"


def relative(moment: dt.datetime, now: dt.datetime | None = None) -> str:
    """Return how far away a time is, in its largest unit.

    >>> noon = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    >>> relative(noon, noon + dt.timedelta(minutes=5)), relative(noon, noon - dt.timedelta(hours=2))
    ('5 min ago', 'in 2 h')
    """
    seconds = (moment - (now or dt.datetime.now(dt.UTC))).total_seconds()
    away = abs(seconds)
    for size, unit in _UNITS:
        if away >= size:
            # Rounded down for the past and up for the future would be exact; nearest is what people expect of both.
            text = f"{round(away / size)} {unit}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "now"


def span(seconds: float) -> str:
    """Return a time span in its two largest units.

    >>> span(0.4), span(90), span(7200), span(100_000)
    ('0 s', '1 min 30 s', '2 h', '1 d 3 h')
    """
    if not math.isfinite(seconds):
        return "for ever"
    left, parts = max(0, int(seconds)), []
    for size, unit in _UNITS:
        whole, left = divmod(left, size)
        if whole:
            parts.append(f"{whole} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def number(value: float) -> str:
    """Return a number as people read it.

    >>> number(1234567), number(0.5), number(2 / 3)
    ('1,234,567', '0.5', '0.667')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def safe(text: str) -> str:
    r"""Return text as a terminal may get it: what is not printable as an escape.

    >>> safe("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\t" else _escape(character) for character in text
    )


def shorten(text: str, longest: int = 60) -> str:
    """Return the first line of a text, cut off where it is too long."""
    line = text.split("\n", 1)[0]
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> count(1, "job"), count(2, "job")
    ('1 job', '2 jobs')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names in a row, with the number of those for which there is no room.

    >>> listed(["1", "2", "3"]), listed(["1", "2", "3"], most=2)
    ('1, 2, 3', '1, 2 and 1 more')
    """
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def in_colour() -> bool:
    """Whether what is written to stdout may have colours."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _plain(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not for JSON")
