"""When: five fields of minutes, hours, days, months and weekdays, in a time zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


class Schedule:
    """The minutes that a crontab's five fields name."""

    text: str
    """The five fields, or `@daily` and the like, as written."""
    timezone: str
    """Name of the time zone they are in."""

    def __init__(self, text: str, timezone: str = "UTC") -> None:
        raise NotImplementedError

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first minute after `moment`, in UTC; None if there is none."""
        raise NotImplementedError

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the minutes with `after < minute <= until`, in order, in UTC."""
        raise NotImplementedError

    def matches(self, minute: datetime) -> bool:
        """Return whether `minute` is one of them."""
        raise NotImplementedError
