"""How far a running job has come, as its handler says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    import datetime as dt

LONGEST_NOTE = 500
"""Characters of a note that are kept."""
_NUMBERS = (int, float, Real)
"""The last stands for all, numpy's included, but takes long to ask."""


class Report(NamedTuple):
    """What a handler says once; None stands for what it has said before."""

    done: float
    total: float | None
    note: str | None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a running job has come, as its handler has said with `ctx.progress`."""

    job_id: int
    worker_id: str
    """The worker that runs it, as in `Job.locked_by`."""
    attempt: int
    """The attempt that says so, counted from 1."""
    done: float
    """How much is done, in whatever the handler counts; an int if it is whole."""
    total: float | None
    """How much there is to do; None if the handler has not said. `done` may be greater."""
    note: str | None
    """What the handler has added."""
    updated_at: dt.datetime
    """When the database was told."""
    age: float
    """How long ago that was, in seconds by the database's clock."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0.0 to 1.0; None without a total.

        1.0 if there is more done than there was to do, or nothing to do.
        """
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total > 0 else 1.0


def check_report(done: object, total: object = None, note: object = None) -> Report:
    """Return what a handler says of its job, or raise.

    Raises:
        JobOptionError: a number is none, negative or infinite, or the note is no text; the message names it.

    >>> check_report(3, 10, "reading")
    Report(done=3.0, total=10.0, note='reading')
    """
    return Report(
        _number("done", done), None if total is None else _number("total", total), None if note is None else _text(note)
    )


def _number(name: str, value: object) -> float:
    # A bool is an int for Python, but nobody means that.
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        raise JobOptionError(f"{name}={value!r} must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number >= 0):
        raise JobOptionError(f"{name}={value!r} must not be negative or infinite")
    return number


def _text(note: object) -> str:
    if not isinstance(note, str):
        raise JobOptionError(f"note={note!r} must be a string, not {type(note).__name__}")
    if "\0" in note or any("\ud800" <= character <= "\udfff" for character in note):
        raise JobOptionError(f"note={note[:40]!r} holds a character that PostgreSQL cannot store")
    return note if len(note) <= LONGEST_NOTE else f"{note[: LONGEST_NOTE - 1]}…"
