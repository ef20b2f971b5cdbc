"""Scheduling the timetables that users keep in the database.

Every host does this, and none is special. A look finds by an index what is due, and locks nothing; what is to be done
about it is found out here, since SQL cannot read schedules; one statement then adds the jobs and notes the next times,
of those timetables that nobody has settled meanwhile. So each time gives one job, however many hosts look, and a tick
at which nothing is due costs the same with any number of timetables.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import math
import random
import time
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import psycopg

from pgtasks.cron.schedule import Schedule
from pgtasks.database.errors import is_locked, is_outage, reason_of
from pgtasks.errors import PgtasksError
from pgtasks.logs import get_logger
from pgtasks.queue.timetables import Due, Settlement, due_timetables, settle_timetables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from pgtasks.database import Operation
    from pgtasks.sql import Statements

T = TypeVar("T")
log = get_logger("pgtasks.cron")

_BATCH: Final = 200
"""Timetables that one statement settles; so many are planned before other work has its turn."""
_MOST: Final = 50
"""Times of one timetable that one statement adds jobs for."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two looks: notifications may be missed."""
_LATE: Final = 0.005
"""Seconds after a time at which it is looked for, rather than just before it."""
_FIRST_PAUSE_IN_VAIN, _LONGEST_PAUSE_IN_VAIN = 0.05, 5.0
"""Seconds to the next look when others were settling or changing all that was found; they double."""
_PUT_OFF: Final = 60.0
"""Seconds for which a timetable is left alone whose job could not be added."""


class Link(Protocol):
    """The database, as a host uses it."""

    statements: Statements
    worker_id: str

    async def insist(self, operation: Operation[T], unless: Callable[[Exception], bool] | None = None) -> tuple[T, int]:
        """Run an operation, for as long as it takes while the database is away; raise errors for which `unless` is."""

    def forgiving(self, statement: str) -> AbstractContextManager[None]:
        """Go on after an error of the database, and log it."""


class TimetableScheduler:
    """Adds the jobs of timetables, until cancelled.

    Args:
        link: the database.
        clock: gives the time; by default it is the database's.
    """

    def __init__(self, link: Link, clock: Callable[[], dt.datetime] | None = None) -> None:
        self._link = link
        self._clock = clock
        self._asked = asyncio.Event()
        self._put_off: dict[str, float] = {}

    def look(self) -> None:
        """Look soon: somebody has put or resumed a timetable."""
        self._asked.set()

    async def run(self) -> None:
        """Look whenever something is due or was changed."""
        while True:
            self._asked.clear()
            pause = _LONGEST_PAUSE
            with self._link.forgiving("due_timetables"):
                pause = await self.tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), pause)

    async def tick(self) -> float:
        """Settle all that is due.

        Returns:
            In how many seconds to look again.
        """
        pause_in_vain = _FIRST_PAUSE_IN_VAIN
        while True:
            self._put_off = {name: until for name, until in self._put_off.items() if until > time.monotonic()}
            look = due_timetables(
                self._link.statements,
                _BATCH,
                at=None if self._clock is None else self._clock(),
                left_out=list(self._put_off),
            )
            found, _ = await self._link.insist(look)
            if not found.due:
                following = found.following_at or dt.datetime.max.replace(tzinfo=dt.UTC)
                longest = _LONGEST_PAUSE * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
                again = min(self._put_off.values(), default=math.inf) - time.monotonic()
                return max(0.0, min(longest, again, (following - found.at).total_seconds() + _LATE))
            if await self._settle(found.at, [plan(due, found.at) for due in found.due]):
                pause_in_vain = _FIRST_PAUSE_IN_VAIN
            elif len(found.due) == _BATCH:  # what somebody holds for long must not hide what comes after it
                until = time.monotonic() + _LONGEST_PAUSE_IN_VAIN
                self._put_off |= {due.id: until for due in found.due}
            else:
                await asyncio.sleep(pause_in_vain * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause_in_vain = min(_LONGEST_PAUSE_IN_VAIN, 2 * pause_in_vain)

    async def _settle(self, at: dt.datetime, settlements: Sequence[Settlement]) -> bool:
        """Have the database do what is to be done; returns whether anything was."""
        link = self._link
        try:
            settle = settle_timetables(link.statements, link.worker_id, at, settlements)
            settled, _ = await link.insist(settle, is_locked)
        except psycopg.Error as error:
            if is_outage(error) and not is_locked(error):
                raise
            if len(settlements) > 1:  # one of them is at fault, and the others must not suffer for it
                half = len(settlements) // 2
                first = await self._settle(at, settlements[:half])
                return await self._settle(at, settlements[half:]) or first
            [(due, *_)] = settlements
            log.error(  # noqa: TRY400 - a traceback says nothing of what the database has refused
                "timetable_failed", timetable=due.id, task=due.task, error=reason_of(error)
            )
            self._put_off[due.id] = time.monotonic() + _PUT_OFF
            return True
        for settlement in settlements:
            if settlement.error is not None and settlement.due.id in settled:
                due = settlement.due
                log.error("timetable_invalid", timetable=due.id, task=due.task, error=settlement.error)
        return bool(settled)


def plan(due: Due, at: dt.datetime) -> Settlement:
    """Return what is to be done about a timetable that is due at a time, or whose next time has to be found out.

    Of the times that have come, those within its `backfill` get a job each, oldest first, a number of them at once; if
    there is none of these, the latest gets one.
    """
    try:
        if due.next_at is not None and due.next_at <= at:
            following = _next_after(due.schedule, due.timezone, due.next_at)
            if following is None or following > at:  # mostly so
                return _settlement(due, (due.next_at,), at, following)
        schedule = _schedule(due.schedule, due.timezone)
        moments = _moments(schedule, due, at)
        if len(moments) > _MOST:
            *moments, left = moments
            return _settlement(due, moments, moments[-1], left)
        return _settlement(due, moments, at, _next_after(due.schedule, due.timezone, max(at, due.settled_until)))
    except (PgtasksError, ValueError, OverflowError) as error:
        return Settlement(due, (), due.settled_until, None, str(error))


def _moments(schedule: Schedule, due: Due, at: dt.datetime) -> list[dt.datetime]:
    """Return the times that have come and are to get a job: one more than are dealt with at once, at most."""
    if at <= due.settled_until:
        return []
    if due.backfill > 0:
        missed = (at - due.settled_until).total_seconds()  # an interval may be longer than the calendar
        start = max(due.settled_until, at - dt.timedelta(seconds=min(missed, due.backfill)))
        if moments := list(islice(schedule.between(start, at), _MOST + 1)):
            return moments
    latest = _latest(schedule, due.settled_until, at)
    return [] if latest is None else [latest]


def _latest(schedule: Schedule, after: dt.datetime, until: dt.datetime) -> dt.datetime | None:
    """Return the last time with `after < time <= until`, without going through all of them."""
    span = dt.timedelta(hours=1)
    while True:
        start = max(after, until - span)
        latest = None
        for latest in schedule.between(start, until):  # noqa: B007 - the last one is what is wanted
            pass
        if latest is not None or start == after:
            return latest
        span *= 24


def _settlement(
    due: Due, moments: Sequence[dt.datetime], until: dt.datetime, next_at: dt.datetime | None
) -> Settlement:
    error = None if next_at is not None else f"{due.schedule!r} has no time after this"
    return Settlement(due, moments, max(until, due.settled_until), next_at, error)


@functools.lru_cache(1000)
def _schedule(text: str, timezone: str) -> Schedule:
    return Schedule(text, timezone)


@functools.lru_cache(1000)
def _next_after(text: str, timezone: str, moment: dt.datetime) -> dt.datetime | None:
    """Return the next time; many timetables have the same schedule."""
    return _schedule(text, timezone).next_after(moment)
