"""How one process keeps to limits: what it claims, what it lets start, and when it asks the database.

Two ways for each bucket:

    open      jobs are claimed as always. Those that have come need tokens to start (`admit`): from the lease, or from
              an exchange for the whole batch. What is not granted goes back with its place in the backlog, and the
              bucket is limited from then on.
    limited   its flag is forbidden, but for claims that were given tokens first (`plan`): such a claim asks for jobs
              of the flag's tasks alone, and for no more than there are tokens, so that none is claimed in vain. All
              other claims run at full size. When such claims no longer bring what they may, the bucket is open.

All calls but `ended` are from the process's loop. Exchanges are made one after the other.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgtasks.plugins import Snooze
from pgtasks_ratelimit.alarm import Alarm
from pgtasks_ratelimit.bucket import SPACING
from pgtasks_ratelimit.ledger import Ledger
from pgtasks_ratelimit.store import now as clock
from pgtasks_ratelimit.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgtasks import Job
    from pgtasks.plugins import ClaimPlan
    from pgtasks_ratelimit.bucket import Bucket
    from pgtasks_ratelimit.rules import Limit
    from pgtasks_ratelimit.store import Store

_OTHERS_SECONDS: Final = 0.01
"""After so many seconds of claims of limited flags comes one of all others."""
_OTHERS_SECONDS_A_FLAG: Final = 0.0003
"""Or after so many for each limited flag, if that is longer: the more flags are forbidden, the more a claim costs."""
_MOST_BUCKETS: Final = 50
"""Buckets in one exchange before a claim."""


class Limiter:
    """Keeps one process to its limits.

    Args:
        store: the database.
        own: the limits that settings have, by name.
        refresh: seconds after which to look again for limits that were set at run time.
        patience: seconds that claims and jobs wait for the database, at most.
        look: makes the process look for jobs; called when a limited bucket may have tokens.
        report: told of exchanges that have failed, and with None that one has succeeded.
    """

    def __init__(
        self,
        store: Store,
        own: Mapping[str, Limit],
        *,
        refresh: float,
        patience: float,
        look: Callable[[], None],
        report: Callable[[BaseException | None], None],
    ) -> None:
        self._ledger = Ledger(store, own, refresh=refresh, patience=patience, report=report, on_left=look)
        self._turns = Turns(self._ledger)
        self._look = look
        self._alarm = Alarm(self._ring, look)
        self._rang = False
        """Whether the process has been made to look for jobs of limited flags."""
        self._next_exchange = 0.0
        self._others_last = False
        """Whether the last claim was one of all but limited flags."""
        self._others_at = 0.0
        self.granted = 0
        """Starts that were let through."""

    @property
    def limited(self) -> list[str]:
        """The flags that are limited now."""
        return list(self._ledger.limited)

    @property
    def refused(self) -> int:
        """Jobs that were not let through."""
        return self._ledger.refused

    # Before a claim

    async def plan(self, plan: ClaimPlan) -> ClaimPlan | None:
        """Return what to claim, or None for all that `plan` says."""
        async with self._ledger.patiently():
            await self._ledger.know_limits()
            if self._ledger.limited and plan.limit and clock() >= self._next_exchange:
                await self._ask_for_due(plan.limit)
        if not (self._ledger.limited and plan.limit):
            return None
        rang, self._rang = self._rang, False
        now = clock()
        ready = self._turns.ready(now)
        others_due = self._others_at + max(_OTHERS_SECONDS, _OTHERS_SECONDS_A_FLAG * len(self._ledger.limited))
        if ready and (self._others_last or now < others_due):
            self._others_last = False
            self._wake_when_due(now, again=now)
            return self._turns.next_claim(ready, plan, now)
        if rang and now < others_due:
            # Nothing but a token was waited for, and that is another process's.
            self._wake_when_due(now, again=others_due)
            return replace(plan, limit=0)
        self._others_last = True
        self._others_at = now
        self._wake_when_due(now, again=now if ready else None)
        return replace(plan, forbidden_flags=plan.forbidden_flags | self._ledger.limited.keys())

    async def _ask_for_due(self, room: int) -> None:
        now = clock()
        due = [bucket for bucket in self._ledger.limited.values() if bucket.due <= now and bucket.is_settled(now)]
        if not due:
            return
        async with self._ledger.exchanging:
            wants = []
            for bucket in due[:_MOST_BUCKETS]:
                if bucket.judge():
                    self._ledger.open(bucket)
                elif bucket.limited and bucket.due <= now:
                    wants.append((bucket, bucket.wants(room)))
            if wants:
                self._next_exchange = now + SPACING
                await self._ledger.exchange(wants, ahead=True)

    def _wake_when_due(self, now: float, again: float | None = None) -> None:
        times = [max(bucket.due, self._next_exchange) for bucket in self._ledger.limited.values()]
        times += [at for bucket in self._ledger.limited.values() if (at := bucket.ready_at()) is not None]
        if again is not None:
            times.append(again)
        self._alarm.set(max(min(times), now) if times else None)

    def _ring(self) -> None:
        self._rang = True
        self._look()

    # Before jobs start

    async def admit(self, jobs: Sequence[Job]) -> dict[int, Snooze]:
        """Return what becomes of the jobs that may not start now."""
        async with self._ledger.patiently():
            await self._ledger.know_limits()
        if not self._ledger.rules.any:
            return {}
        waiting = [(job, buckets) for job in jobs if (buckets := self._ledger.buckets_of(job))]
        if not waiting:
            return {}
        waiting = self._start(waiting)
        async with self._ledger.patiently():
            while waiting and (pauses := self._pauses(waiting)):
                await asyncio.sleep(min(pauses))
                waiting = self._start(waiting)
            if waiting:
                async with self._ledger.exchanging:
                    waiting = self._start(waiting)
                    if wants := self._wanted_for(waiting):
                        await self._ledger.exchange(wants)
                        waiting = self._start(waiting)
        self._ledger.tidy_later()
        now = clock()
        refusals = {job.id: self._refuse(buckets, now) for job, buckets in waiting}
        self._ledger.refused += len(refusals)
        self._wake_when_due(now)
        return refusals

    def _pauses(self, waiting: list[tuple[Job, list[Bucket]]]) -> list[float]:
        """Return for how long jobs have to wait that were claimed a moment before their tokens may be used."""
        now = clock()
        pauses = [bucket.opens_in(now) for _, buckets in waiting for bucket in buckets]
        return [pause for pause in pauses if pause is not None]

    def _start(self, waiting: list[tuple[Job, list[Bucket]]]) -> list[tuple[Job, list[Bucket]]]:
        """Let jobs start for which there is room in all their buckets, in order; return the others."""
        left = []
        full: set[str] = set()
        now = clock()
        for job, buckets in waiting:
            lacking = [bucket.key for bucket in buckets if bucket.key in full or not bucket.has_room(now)]
            if lacking:
                full.update(lacking)
                left.append((job, buckets))
                continue
            self._ledger.start(job, buckets, now)
            self.granted += 1
        return left

    def _wanted_for(self, waiting: list[tuple[Job, list[Bucket]]]) -> list[tuple[Bucket, int]]:
        """Return what to ask for, for jobs none of whose buckets is known to be empty."""
        now = clock()
        wanted: dict[Bucket, int] = {}
        for _, buckets in waiting:
            # Limited ones are asked for before claims alone, or each job that came in vain would cost an exchange.
            if all(bucket.has_room(now) or (bucket.due <= now and not bucket.limited) for bucket in buckets):
                for bucket in buckets:
                    wanted[bucket] = wanted.get(bucket, 0) + 1
        return [(bucket, count + bucket.stock()) for bucket, count in wanted.items() if not bucket.has_room(now)]

    def _refuse(self, buckets: list[Bucket], now: float) -> Snooze:
        lacking = [bucket for bucket in buckets if not bucket.has_room(now)] or buckets
        for bucket in lacking:
            self._ledger.limit(bucket)
        delays = [bucket.put_off(now) for bucket in lacking if bucket.limit.by_payload]
        if delays:
            self._alarm.add(now + max(delays))
            return Snooze(max(delays))
        # For no time: with another run_at it would come after the backlog that it is a part of.
        return Snooze(0)

    # The ends of jobs, and of the process

    def ended(self, job_id: int) -> None:
        """Note that a job has ended. From any thread."""
        self._ledger.ended(job_id)

    async def close(self) -> None:
        """Report all that was used, and give back all that is left. The process ends."""
        self._alarm.close()
        await self._ledger.close()
