"""The scheduler: adds the jobs of crontab entries when their time comes, on every host, and each exactly once in all.

No host is special. All of them wake at the beginning of each minute and have the database do what is due; one of them
finds something left to do. What time it is the database says, in its answer to this one statement a minute: a minute
that comes early by a host's reckoning waits, and those that come late are caught up with in order.

What nobody has scheduled in time, since no worker ran or the database was away, is for each entry's `backfill`. That
comes before anything later, since the times of an entry are dealt with in order: an earlier one would be too late.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import psycopg

from pgtasks.cron.clocks import Clock, DatabaseTime
from pgtasks.cron.data import write_entry
from pgtasks.cron.ticks import due, just_before, minute_of, missed
from pgtasks.database.errors import is_locked, is_outage, reason_of
from pgtasks.logs import get_logger
from pgtasks.queue.crontabs import record_crontabs, schedule_crontab

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from pgtasks.cron.clocks import Skew
    from pgtasks.cron.entry import CronEntry
    from pgtasks.cron.ticks import CronTick
    from pgtasks.database import Operation
    from pgtasks.sql import Statements

T = TypeVar("T")
log = get_logger("pgtasks.cron")

LATE: Final = timedelta(hours=1)
"""So much is caught up with; what is later than that was an outage, and is for `backfill`."""
_TOGETHER: Final = 200
"""How many ticks to deal with in one statement."""
_MINUTE: Final = timedelta(minutes=1)
_AFTER_SECONDS: Final = 0.02
"""How long after the beginning of a minute to ask, so that it has begun for the database, too."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two tries while the database is away."""


class Link(Protocol):
    """The database, as the worker's link to it shows it."""

    statements: Statements

    async def attempt(self, operation: Operation[T]) -> T:
        """Run a statement once."""

    def forgives(self, error: Exception, statement: str) -> bool:
        """Whether an error is one of the database's; logs it where that is of use."""


class Hooks(Protocol):
    """What plugins are asked and told."""

    async def before_cron(self, ticks: Sequence[CronTick]) -> Sequence[CronTick]:
        """Return those of these ticks that are to be scheduled, with the jobs that they are to have."""

    def backfilling(self, ticks: Sequence[CronTick]) -> None:
        """Tell of ticks that were missed and are about to be scheduled."""

    def cron_scheduled(self, ticks: Sequence[CronTick]) -> None:
        """Tell of ticks whose jobs were added."""

    def clock_skew(self, skew: Skew) -> None:
        """Tell that clocks are not as they should be."""


class Scheduler:
    """Schedules the entries of one host.

    Args:
        link: the database.
        host: who schedules.
        hooks: plugins.
        clock: what time it is here.
    """

    def __init__(self, link: Link, host: str, hooks: Hooks, clock: Clock | None = None) -> None:
        self._link = link
        self._host = host
        self._hooks = hooks
        self._clock = clock or Clock()
        self._time = DatabaseTime(self._clock)
        self._entries: Sequence[CronEntry] = ()
        self._changed = asyncio.Event()
        self._afresh = True
        """Whether to look, before anything else, what was missed."""
        self._done: datetime | None = None
        """Everything up to then has been dealt with."""
        self._held: dict[str, dict[datetime, tuple[CronTick, bool]]] = {}
        """By entry and time, ticks that wait for a lock which somebody else has; with whether they are refused."""
        self._told: list[datetime] = []
        """What time it was, by the latest answers."""
        self._pause = _SHORTEST_PAUSE

    def use(self, entries: Sequence[CronEntry]) -> None:
        """Schedule these entries from now on, in place of those before."""
        # As JSON has them: for Python, a payload of 1 is one of true.
        if list(map(write_entry, entries)) != list(map(write_entry, self._entries)):
            self._entries = tuple(entries)
            self._afresh = True
            self._changed.set()

    async def run(self) -> None:
        """Schedule until cancelled; without entries nothing is done."""
        while True:
            self._changed.clear()
            pause = await self.step()
            await self._clock.sleep(pause, self._changed)

    async def step(self) -> float | None:
        """Do what is to be done now, and return how many seconds there is nothing to do then; None: for ever."""
        if not self._entries:
            self._done = None
            return None
        try:
            if self._afresh:
                await self._start_over()
            await self._catch_up()
        except Exception as error:
            if not self._link.forgives(error, "schedule_crontab"):
                raise
            self._afresh = True
            pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
            return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self._pause = _SHORTEST_PAUSE
        now = self._time.now()
        if self._afresh or (self._done is not None and now - self._done >= _MINUTE):
            return 0.0  # other entries have come meanwhile, or it turned out to be late
        return (minute_of(now) + _MINUTE - now).total_seconds() + _AFTER_SECONDS

    async def _start_over(self) -> None:
        """Make entries known, and schedule what was missed of those that were."""
        entries, self._afresh = self._entries, False
        asked = self._clock.monotonic()
        answer = await self._link.attempt(
            record_crontabs(self._link.statements, self._host, entries, self._clock.of_database())
        )
        now = answer.clock
        self._note_clock(now, asked)
        if self._done is None or not -LATE <= now - self._done <= LATE:
            self._done = just_before(now)
        ahead = [name for name, known in answer.known.items() if known.last is not None and known.last > now + LATE]
        if ahead:
            log.warning(
                "cron_entries_ahead",
                entries=ahead,
                message="their last time is in the future, since the database's clock was; they wait until then",
            )
        made_up = 0
        for ticks in _batches(missed(entries, answer.known, now)):
            self._hooks.backfilling(ticks)
            made_up += await self._schedule(ticks)
        log.info("cron_started", entries=len(entries), backfilled=made_up)

    async def _catch_up(self) -> None:
        """Schedule what has become due since the last time; ask, at least, what time it is."""
        assert self._done is not None, "it has been started"
        now = self._time.now()
        if not -LATE <= now - self._done <= LATE:
            late = round((now - self._done).total_seconds())
            log.warning("cron_late", seconds=late, message="what was due meanwhile is left to each entry's backfill")
            self._afresh = True
            return
        until = minute_of(now)
        self._told.clear()
        await self._retry_held(now)
        for ticks in _batches(due(self._entries, self._done, until)):
            await self._schedule(ticks)
        if not self._told:
            await self._schedule(())
        # Should it be earlier for the database, what it has left alone is asked for again.
        self._done = max(self._done, min(until, *self._told))

    async def _schedule(self, ticks: Sequence[CronTick]) -> int:
        """Have the database deal with ticks; returns how many jobs were added."""
        wanted = {tick.name: tick for tick in await self._hooks.before_cron(ticks)} if ticks else {}
        refused = {tick.name for tick in ticks if tick.name not in wanted}
        ticks = [wanted.get(tick.name, tick) for tick in ticks if not self._hold(tick, refused=tick.name in refused)]
        try:
            added = await self._ask(ticks, refused)
        except psycopg.Error as error:
            if (is_outage(error) and not is_locked(error)) or not ticks:
                raise
            # One job that cannot be added must not keep the others from being.
            added = [one for tick in ticks for one in await self._ask_alone(tick, refused)]
        if added:
            self._hooks.cron_scheduled(added)
        return len(added)

    def _hold(self, tick: CronTick, *, refused: bool) -> bool:
        """Keep a tick for later if an earlier one of its entry is kept, which would be too late after it; or not."""
        if (held := self._held.get(tick.entry.id)) is None:
            return False
        held.setdefault(tick.at, (tick, refused))
        return True

    async def _retry_held(self, now: datetime) -> None:
        """Try again what was locked, for as long as it would be caught up with or made up for."""
        before, self._held = self._held, {}
        try:
            for entry in self._entries:
                for _, (tick, refused) in sorted(before.get(entry.id, {}).items()):
                    if now - tick.at <= max(LATE, timedelta(seconds=entry.backfill)):
                        added = await self._ask_alone(tick, {tick.name} if refused else set())
                        if added:
                            self._hooks.cron_scheduled(added)
        except Exception:
            self._held = before
            raise

    async def _ask_alone(self, tick: CronTick, refused: set[tuple[str, datetime]]) -> Sequence[CronTick]:
        if self._hold(tick, refused=tick.name in refused):
            return ()
        try:
            return await self._ask([tick], refused)
        except psycopg.Error as error:
            if is_locked(error):
                self._held[tick.entry.id] = {tick.at: (tick, tick.name in refused)}
                log.warning(
                    "cron_held", entry=tick.entry.id, source=tick.entry.source, at=tick.at, error=reason_of(error)
                )
                return ()
            if is_outage(error):
                raise
            log.error(  # noqa: TRY400 - the place in our code tells nothing
                "cron_failed", entry=tick.entry.id, source=tick.entry.source, at=tick.at, error=reason_of(error)
            )
            return ()

    async def _ask(self, ticks: Sequence[CronTick], refused: set[tuple[str, datetime]]) -> Sequence[CronTick]:
        """Return those ticks whose jobs were added."""
        asked = self._clock.monotonic()
        answer = await self._link.attempt(
            schedule_crontab(self._link.statements, self._host, ticks, refused, self._clock.of_database())
        )
        self._note_clock(answer.clock, asked)
        added = []
        for number, state, job_id in answer.settled:
            tick = ticks[number]
            log.debug("cron_settled", entry=tick.entry.id, at=tick.at, state=state, job_id=job_id)
            if state == "added":
                added.append(replace(tick, job_id=job_id))
        return added

    def _note_clock(self, told: datetime, asked: float) -> None:
        self._told.append(told)
        skew = self._time.note(told, asked)
        if skew is not None:
            log.warning("cron_clock_skew", clock=skew.clock, seconds=round(skew.seconds, 3), reason=skew.reason)
            self._hooks.clock_skew(skew)


def _batches(ticks: Iterable[CronTick]) -> Iterator[list[CronTick]]:
    left = iter(ticks)
    while batch := list(islice(left, _TOGETHER)):
        yield batch
