"""Pauses and windows: plain frozen data."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from psycopg import sql

from pgtasks import PgtasksError

if TYPE_CHECKING:
    from collections.abc import Iterable

What = Literal["task", "queue", "flag"]
"""What can be paused."""

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW: Final = re.compile(r"\s*(?P<days>\S.*?)\s+(?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d)\s*")


class PauseError(PgtasksError, ValueError):
    """A pause cannot be as it was asked for; or the plugin's table is not there."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Weekly:
    """A window of each week, by the wall clock of a time zone.

    Example:
        >>> Weekly("fri-sun", "22:00", "04:00", "Europe/Berlin").days
        (5, 6, 7)
        >>> str(Weekly([6, 7], "00:00", "24:00", "UTC"))
        'sat,sun 00:00-00:00 UTC'
    """

    days: tuple[int, ...]
    """On which days it begins: numbers, 1 is Monday. Given as text, as in `mon-fri` or `sat,sun`."""
    start: dt.time
    """When it begins. Given as text, as `HH:MM`."""
    end: dt.time
    """When it ends: on the next day if that is not later than `start`, so the same time makes it a whole day."""
    timezone: str
    """Whose wall clock is meant, as in `Europe/Berlin`."""

    def __init__(
        self, days: str | Iterable[int], start: str | dt.time, end: str | dt.time, timezone: str = "UTC"
    ) -> None:
        object.__setattr__(self, "days", _days(days))
        object.__setattr__(self, "start", _time(start))
        object.__setattr__(self, "end", _time(end))
        object.__setattr__(self, "timezone", timezone)

    @classmethod
    def parse(cls, text: str, timezone: str) -> Weekly:
        """Return the window that a text like `sat,sun 22:00-04:00` stands for.

        Raises:
            PauseError: it stands for none.
        """
        match = _WINDOW.fullmatch(text)
        if match is None:
            raise PauseError(f"{text!r} is no window: write it like 'sat,sun 22:00-04:00'")
        return cls(match["days"], match["start"], match["end"], timezone)

    def __str__(self) -> str:
        days = ",".join(_DAYS[day - 1] for day in self.days)
        return f"{days} {self.start:%H:%M}-{self.end:%H:%M} {self.timezone}"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that holds or will hold."""

    id: int
    what: What
    name: str
    """Of the task, the queue or the flag."""
    holds: bool
    """Whether it held, by the database's clock, when it was looked at."""
    since: dt.datetime
    """From when on it holds."""
    until: dt.datetime | None
    """Until when; None: until it is resumed."""
    weekly: Weekly | None
    """It holds only within this window; None: all the time."""
    reason: str | None
    by: str
    """Who has paused it; by default the database's user."""

    @property
    def when(self) -> str:
        """When it holds, as text."""
        since = f"since {_moment(self.since)}" if self.holds else f"from {_moment(self.since)}"
        parts = [since if self.weekly is None else str(self.weekly)]
        if self.until is not None:
            parts.append(f"until {_moment(self.until)}")
        return " ".join(parts)


def pause_from_row(row: tuple[Any, ...]) -> Pause:
    """Return the pause in a row of the view, with its columns in the order of `COLUMNS`."""
    pause_id, what, name, holds, since, until, weekdays, starts, ends, timezone, reason, by = row
    weekly = None if weekdays is None else Weekly(weekdays, starts, ends, timezone)
    return Pause(pause_id, what, name, holds, since, until, weekly, reason, by)


COLUMNS: Final = sql.SQL("id, what, name, holds, since, until, weekdays, starts, ends, timezone, reason, paused_by")
"""Of the view, in the order in which `pause_from_row` takes them."""


def _moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _days(days: str | Iterable[int]) -> tuple[int, ...]:
    if not isinstance(days, str):
        numbers = sorted(set(days))
        if not numbers or not {*range(1, 8)}.issuperset(numbers):
            raise PauseError(f"days={numbers!r} must be numbers from 1, Monday, to 7, Sunday, at least one")
        return tuple(numbers)
    found: set[int] = set()
    for part in days.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            raise PauseError(f"{part!r} in days={days!r} is no weekday: write them like 'sat,sun' or 'mon-fri'")
        begin, end = _DAYS.index(first), _DAYS.index(last or first)
        found.update(1 + (begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return tuple(sorted(found))


def _time(time: str | dt.time) -> dt.time:
    if isinstance(time, dt.time):
        if time.tzinfo is not None:
            raise PauseError(f"{time!r} has a time zone of its own: name the window's instead")
        return time
    try:
        hour, minute = (int(part) for part in time.split(":"))
        return dt.time(0 if (hour, minute) == (24, 0) else hour, minute)
    except ValueError:
        raise PauseError(f"{time!r} is no time of day: write it like 22:00") from None
