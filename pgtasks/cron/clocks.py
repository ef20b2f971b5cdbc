"""What time it is for the database, told from its answers, and when clocks have jumped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

_TOLERANCE_SECONDS: Final = 2.0
"""So far clocks may be apart, or drift between two answers: an answer may take its time, and clocks are adjusted."""


class Clock:
    """The clocks of this host, and its way to wait; tests have their own."""

    def monotonic(self) -> float:
        """Return seconds that nobody can set."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Return what this host's clock says."""
        return datetime.now(UTC)

    def of_database(self) -> datetime | None:
        """Return what the database is to take for the time; None: what its own clock says."""
        return None

    async def sleep(self, seconds: float | None, unless: asyncio.Event) -> None:
        """Wait so long, or for ever, or until something happens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await unless.wait()


@dataclass(frozen=True, slots=True)
class Skew:
    """Something about clocks that is not as it should be."""

    clock: Literal["database", "host", "both"]
    """Which one: `host` was set, or differs from the database's; `both` went on while this program stood still."""
    seconds: float
    """By how much it has jumped, or is ahead; negative if it has gone back, or is behind."""
    reason: Literal["jumped", "differs"]


class DatabaseTime:
    """The database's time between its answers, by this host's monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answer: tuple[datetime, float, datetime, float] | None = None

    def now(self) -> datetime:
        """Return the time, at most so far behind as the last answer took to come."""
        assert self._answer is not None, "it has to be asked first"
        told, at, *_ = self._answer
        return told + timedelta(seconds=self._clock.monotonic() - at)

    def note(self, told: datetime, asked: float) -> Skew | None:
        """Take what the database has just said, having been asked at a moment, and return what is odd about it."""
        before, at, wall = self._answer, self._clock.monotonic(), self._clock.wall()
        took = at - asked  # the database may have looked at its clock at any time in between
        self._answer = told, at, wall, took
        tolerance = _TOLERANCE_SECONDS + took
        if before is None:
            apart = (wall - told).total_seconds()
            return Skew("host", apart, "differs") if abs(apart) > tolerance else None
        tolerance += before[3]
        passed = at - before[1]
        database = (told - before[0]).total_seconds() - passed
        host = (wall - before[2]).total_seconds() - passed
        if abs(database) <= tolerance:
            return Skew("host", host, "jumped") if abs(host) > _TOLERANCE_SECONDS else None
        both = abs(database - host) <= tolerance
        return Skew("both" if both else "database", database, "jumped")
