"""When: the minutes that the five fields of a crontab name, in a time zone.

Without a time zone of its own, all is UTC, as in Graphile Worker. In another one, clocks are changed twice a year:

- Times of day that are skipped run once, in the first minute after the gap; those that come twice run the first time.
- A schedule whose hour field is `*` or `*/n` is no time of day but an interval: it goes by the minutes that pass, so
  that it runs in every real minute whose reading of the clock matches.

That is what Vixie's cron does, too, but that ours looks at the hour field alone: `*/5 2 * * *` is a time of day.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pgtasks.cron.fields import read_fields
from pgtasks.errors import CronError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_MINUTES_A_DAY: Final = 24 * 60
_YEARS: Final = 9
"""Within so many there is a minute, or never: 29 February has pauses of eight years."""


class Schedule:
    """The minutes that five fields name. Equal ones have the same text and time zone.

    Args:
        text: `minute hour day month weekday`, or `@daily` and the like.
        timezone: name of a time zone, such as `Europe/Berlin`.

    Raises:
        CronError: one of them cannot be read; the message names the fix.

    Example:
        >>> from datetime import UTC, datetime
        >>> weekdays = Schedule("30 4 * * mon-fri", "Europe/Berlin")
        >>> weekdays.next_after(datetime(2026, 12, 4, 12, tzinfo=UTC)).isoformat()
        '2026-12-07T03:30:00+00:00'
    """

    __slots__ = ("_by_clock", "_fields", "_times", "_zone", "text", "timezone")

    def __init__(self, text: str, timezone: str = "UTC") -> None:
        if not isinstance(text, str):
            raise CronError(f"a timetable is text like '30 4 * * mon', not {type(text).__name__}")
        self.text = text
        """The five fields, or `@daily` and the like, as written."""
        self.timezone = timezone
        """Name of the time zone they are in."""
        self._fields = read_fields(text)
        self._zone = find_zone(timezone)
        # In UTC there is nothing to tell apart, and going by minutes is quicker.
        self._by_clock = not (self._fields.every_hour or timezone == "UTC")
        self._times = sorted(60 * hour + minute for hour in self._fields.hours for minute in self._fields.minutes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.text, self.timezone) == (other.text, other.timezone)

    def __hash__(self) -> int:
        return hash((self.text, self.timezone))

    def __repr__(self) -> str:
        zone = "" if self.timezone == "UTC" else f", {self.timezone!r}"
        return f"Schedule({self.text!r}{zone})"

    def __reduce__(self) -> tuple[type[Schedule], tuple[str, str]]:
        return Schedule, (self.text, self.timezone)

    @property
    def is_never(self) -> bool:
        """Whether no day is one of its days, as with 30 February."""
        return self._day_from(date(2000, 1, 1)) is None

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first minute after `moment`, in UTC; None if there is none, as of 30 February."""
        start = _minute(moment)
        try:
            return self._next_by_clock(start) if self._by_clock else self._next_by_minutes(start + _MINUTE)
        except OverflowError:  # the calendar ends, as after PostgreSQL's `infinity`
            return None

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the minutes with `after < minute <= until`, in order, in UTC."""
        minute = self.next_after(after)
        while minute is not None and minute <= until:
            yield minute
            minute = self.next_after(minute)

    def matches(self, minute: datetime) -> bool:
        """Return whether `minute`, whose seconds are not looked at, is one of them."""
        start = _minute(minute)
        if self._by_clock:
            return self._next_by_clock(start - _MINUTE) == start
        local = start.astimezone(self._zone)
        fields = self._fields
        return local.minute in fields.minutes and local.hour in fields.hours and self._on(local.date())

    def _on(self, day: date) -> bool:
        """Whether a day is one of its days. Where both day and weekday are restricted, either is enough, as in cron."""
        fields = self._fields
        if day.month not in fields.months:
            return False
        weekday = day.isoweekday() % 7 in fields.weekdays
        if len(fields.days) == 31:
            return weekday
        if len(fields.weekdays) == 7:
            return day.day in fields.days
        return weekday or day.day in fields.days

    def _day_from(self, day: date) -> date | None:
        """Return the first of its days from `day` on."""
        last_year = day.year + _YEARS
        while not self._on(day):
            if day.month in self._fields.months:
                day += _DAY
            else:
                day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
            if day.year > last_year:
                return None
        return day

    def _next_by_minutes(self, start: datetime) -> datetime | None:
        """Return the first minute from `start` whose reading of the zone's clock matches."""
        minute = start
        while True:
            local = minute.astimezone(self._zone)
            today = local.date()
            now = 60 * local.hour + local.minute
            if (day := self._day_from(today)) is None:
                return None
            if day > today:
                minute = max(minute + _MINUTE, self._at(day, 0))
                continue
            position = bisect_left(self._times, now)
            found = position < len(self._times)
            wanted = self._times[position] if found else _MINUTES_A_DAY
            ahead = minute + (wanted - now) * _MINUTE
            if ahead.astimezone(self._zone).utcoffset() != local.utcoffset():
                # The clocks are changed before that: go on with what they read then.
                minute = _first_minute(minute, ahead, self._has_changed_from(local))
            elif found:
                return ahead
            else:
                minute = ahead

    def _next_by_clock(self, moment: datetime) -> datetime | None:
        """Return the first minute after `moment` at which one of its times of day is due."""
        local = moment.astimezone(self._zone)
        day = self._day_from(local.date())
        now = 60 * local.hour + local.minute + 1 if day == local.date() else 0
        while day is not None:
            for time in self._times[bisect_left(self._times, now) :]:
                # Times never run backwards, but those that come twice may lie before `moment`.
                if (minute := self._at(day, time)) > moment:
                    return minute
            day, now = self._day_from(day + _DAY), 0
        return None

    def _at(self, day: date, time: int) -> datetime:
        """Return when it is `time` minutes past midnight: the first time, or, if that is skipped, after the gap."""
        local = datetime(day.year, day.month, day.day, time // 60, time % 60, tzinfo=self._zone)
        moment = local.astimezone(UTC)
        naive = local.replace(tzinfo=None)
        if moment.astimezone(self._zone).replace(tzinfo=None) == naive:
            return moment
        before = local.replace(fold=1).astimezone(UTC)
        return _first_minute(before, moment, lambda each: each.astimezone(self._zone).replace(tzinfo=None) >= naive)

    def _has_changed_from(self, local: datetime) -> Callable[[datetime], bool]:
        return lambda moment: moment.astimezone(self._zone).utcoffset() != local.utcoffset()


@functools.cache
def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name.

    Raises:
        CronError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        hint = _near_zone(str(name))
        raise CronError(f"there is no time zone {name!r}{hint or ', which is a name like Europe/Berlin'}") from None


def _near_zone(name: str) -> str:
    zones = available_timezones()
    folded = {zone.lower(): zone for zone in zones}
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(zones, key=len, reverse=True)}
    wanted = name.lower().replace(" ", "_")
    near = folded.get(wanted) or cities.get(wanted)
    return f"; did you mean {near!r}?" if near else did_you_mean(name, zones)


def _minute(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone; say which is meant, for example .replace(tzinfo=datetime.UTC)")
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _first_minute(low: datetime, high: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """Return the first minute after `low` and up to `high` for which something holds that has begun by `high`."""
    while high - low > _MINUTE:
        middle = low + ((high - low) // _MINUTE // 2) * _MINUTE
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
