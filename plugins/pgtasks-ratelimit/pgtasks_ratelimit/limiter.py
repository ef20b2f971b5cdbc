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
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgtasks.plugins import Snooze
from pgtasks_ratelimit.alarm import Alarm
from pgtasks_ratelimit.bucket import SPACING, Bucket
from pgtasks_ratelimit.rules import effective
from pgtasks_ratelimit.store import now as clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from pgtasks import Job
    from pgtasks.plugins import ClaimPlan
    from pgtasks_ratelimit.rules import Limit
    from pgtasks_ratelimit.store import Store

_OTHERS_SECONDS: Final = 0.01
"""After so many seconds of claims of limited flags comes one of all others."""
_OPEN_SECONDS: Final = 1.0
"""How often a claim goes through all flags with tokens at once: it finds jobs that have several, or of other tasks."""
_MOST_BUCKETS: Final = 50
"""Buckets in one exchange before a claim."""
_IDLE_SECONDS: Final = 0.25
"""After so many seconds without an exchange what is not needed is reported and given back."""
_FORGET_SECONDS: Final = 60.0
_CHECK_SECONDS: Final = 30.0
"""How often to look whether jobs that occupy places are still this process's."""


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
        self._store = store
        self._own = own
        self._refresh = refresh
        self._patience = patience
        self._look = look
        self._alarm = Alarm(look)
        self._report = report
        self._rules = effective(own, ())
        self._fresh_until = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._limited: dict[str, Bucket] = {}
        """Those of flags, in the order in which their turns come."""
        self._exchanging = asyncio.Lock()
        self._next_exchange = 0.0
        self._others_last = False
        """Whether the last claim was one of all but limited flags."""
        self._others_at = 0.0
        self._open_at = 0.0
        self._running: dict[int, list[Bucket]] = {}
        """Jobs that occupy places."""
        self._checked_at = clock()
        self._loop = asyncio.get_running_loop()
        self._tidy_timer: asyncio.TimerHandle | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False
        self.granted = 0
        """Starts that were let through."""
        self.refused = 0
        """Jobs that were not."""

    @property
    def limited(self) -> list[str]:
        """The flags that are limited now."""
        return list(self._limited)

    # Before a claim

    async def plan(self, plan: ClaimPlan) -> ClaimPlan | None:
        """Return what to claim, or None for all that `plan` says."""
        async with self._patiently():
            await self._know_limits()
            if self._limited and plan.limit and clock() >= self._next_exchange:
                await self._ask_for_due(plan.limit)
        if not (self._limited and plan.limit):
            return None
        now = clock()
        ready = [bucket for bucket in self._limited.values() if bucket.is_ready(now)]
        self._wake_when_due(now, ready=bool(ready))
        if ready and (self._others_last or now - self._others_at < _OTHERS_SECONDS):
            self._others_last = False
            return self._claim_of(ready, plan, now)
        self._others_last = True
        self._others_at = now
        return replace(plan, forbidden_flags=plan.forbidden_flags | self._limited.keys())

    def _claim_of(self, ready: list[Bucket], plan: ClaimPlan, now: float) -> ClaimPlan:
        """Return the plan of a claim of limited flags."""
        if now - self._open_at >= _OPEN_SECONDS:
            self._open_at = now
            allowed, tasks = ready, plan.tasks
        else:
            first = ready[0]
            self._limited[first.key] = self._limited.pop(first.key)  # to the end: the others' turns come first
            allowed = [bucket for bucket in ready if bucket is first or bucket.key in first.together]
            tasks = tuple(task for task in plan.tasks if task in first.tasks)
        limit = min(plan.limit, *(bucket.claimable(now) for bucket in allowed))
        if tasks is not plan.tasks:
            ready[0].offer(limit, now)
        forbidden = plan.forbidden_flags | (self._limited.keys() - {bucket.key for bucket in allowed})
        return replace(plan, limit=limit, tasks=tasks, forbidden_flags=forbidden)

    async def _ask_for_due(self, room: int) -> None:
        now = clock()
        due = [bucket for bucket in self._limited.values() if bucket.due <= now and bucket.is_settled(now)]
        if not due:
            return
        async with self._exchanging:
            wants = []
            for bucket in due[:_MOST_BUCKETS]:
                if bucket.judge():
                    self._open(bucket)
                elif bucket.limited and bucket.due <= now:
                    wants.append((bucket, bucket.wants(room)))
            if wants:
                self._next_exchange = now + SPACING
                await self._exchange(wants, ahead=True)

    def _wake_when_due(self, now: float, *, ready: bool) -> None:
        times = [now] if ready else [max(bucket.due, self._next_exchange) for bucket in self._limited.values()]
        times += [at for bucket in self._limited.values() if (at := bucket.ready_at()) is not None]
        self._alarm.set(min(times, default=None))

    # Before jobs start

    async def admit(self, jobs: Sequence[Job]) -> dict[int, Snooze]:
        """Return what becomes of the jobs that may not start now."""
        async with self._patiently():
            await self._know_limits()
        if not self._rules.any:
            return {}
        waiting = [(job, self._buckets_of(job, found)) for job in jobs if (found := self._rules.of_job(job))]
        if not waiting:
            return {}
        waiting = self._start(waiting)
        async with self._patiently():
            while waiting and (pauses := self._pauses(waiting)):
                await asyncio.sleep(min(pauses))
                waiting = self._start(waiting)
            if waiting:
                async with self._exchanging:
                    waiting = self._start(waiting)
                    if wants := self._wanted_for(waiting):
                        await self._exchange(wants)
                        waiting = self._start(waiting)
        self._tidy_later()
        now = clock()
        refusals = {job.id: self._refuse(buckets, now) for job, buckets in waiting}
        self.refused += len(refusals)
        self._wake_when_due(now, ready=False)
        return refusals

    def _pauses(self, waiting: list[tuple[Job, list[Bucket]]]) -> list[float]:
        """Return for how long jobs have to wait that were claimed a moment before their tokens may be used."""
        now = clock()
        pauses = [bucket.opens_in(now) for _, buckets in waiting for bucket in buckets]
        return [pause for pause in pauses if pause is not None]

    def _buckets_of(self, job: Job, found: list[tuple[str, Limit]]) -> list[Bucket]:
        buckets = []
        for key, limit in found:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = Bucket(key, limit)
            elif bucket.limit.name != limit.name:
                bucket.limit = limit
            bucket.saw(job.task)
            buckets.append(bucket)
        flags = [bucket for bucket in buckets if not bucket.limit.by_payload]
        if len(flags) > 1:
            for bucket in flags:
                bucket.together.update(other.key for other in flags if other is not bucket)
        return buckets

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
            for bucket in buckets:
                bucket.take(now)
            self.granted += 1
            if occupied := [bucket for bucket in buckets if bucket.limit.max_running is not None]:
                self._running[job.id] = occupied
        return left

    def _wanted_for(self, waiting: list[tuple[Job, list[Bucket]]]) -> list[tuple[Bucket, int]]:
        """Return what to ask for, for jobs none of whose buckets is known to be empty."""
        now = clock()
        wanted: dict[str, int] = {}
        for _, buckets in waiting:
            if all(bucket.due <= now or bucket.has_room(now) for bucket in buckets):
                for bucket in buckets:
                    wanted[bucket.key] = wanted.get(bucket.key, 0) + 1
        lacking = [self._buckets[key] for key in wanted if not self._buckets[key].has_room(now)]
        return [(bucket, wanted[bucket.key] + bucket.stock()) for bucket in lacking]

    def _refuse(self, buckets: list[Bucket], now: float) -> Snooze:
        lacking = [bucket for bucket in buckets if not bucket.has_room(now)] or buckets
        for bucket in lacking:
            if not bucket.limit.by_payload and not bucket.limited:
                bucket.limited = True
                self._limited[bucket.key] = bucket
        delays = [bucket.put_off(now) for bucket in lacking if bucket.limit.by_payload]
        if delays:
            self._alarm.add(now + max(delays))
            return Snooze(max(delays))
        # For no time: with another run_at it would come after the backlog that it is a part of.
        return Snooze(0)

    # After jobs

    def ended(self, job_id: int) -> None:
        """Note that a job has ended. From any thread."""
        if job_id in self._running:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._leave, job_id)

    def _leave(self, job_id: int) -> None:
        now = clock()
        look = False
        for bucket in self._running.pop(job_id, ()):
            bucket.leave(now)
            look = look or bucket.limited
        if look:
            self._look()
        self._tidy_later()

    # Exchanges

    @contextlib.asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        """Give up what the block waits for when it has taken too long."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError as error:
            self._report(error)

    async def _exchange(self, wants: Sequence[tuple[Bucket, int]], *, ahead: bool = False) -> None:
        """Report and take; if there is no answer, nothing has come."""
        requests = {bucket.key: bucket.request(wanted, ahead=ahead) for bucket, wanted in wants}
        sent = clock()
        try:
            lease, grants = await self._store.exchange(list(requests.values()))
        except BaseException as error:
            now = clock()
            for bucket, _ in wants:
                bucket.failed(now)
            if not isinstance(error, Exception):
                raise
            self._report(error)
            return
        self._report(None)
        now = clock()
        for grant in grants:
            bucket = self._buckets[grant.key]
            bucket.granted(grant, requests[grant.key], lease, sent, now)
            if bucket.limit.is_none:
                self._open(bucket)
        self._tidy_later()

    def _open(self, bucket: Bucket) -> None:
        bucket.limited = False
        self._limited.pop(bucket.key, None)

    # Limits that are set at run time

    async def _know_limits(self) -> None:
        now = clock()
        if now < self._fresh_until:
            return
        self._fresh_until = now + self._refresh
        try:
            stored = await self._store.limits()
        except Exception as error:  # noqa: BLE001 - whatever it is, what is known goes on to hold
            self._report(error)
            return
        rules = effective(self._own, stored)
        if rules.limits == self._rules.limits:
            return
        self._rules = rules
        for bucket in self._buckets.values():
            limit = rules.limits.get(bucket.limit.name)
            if limit is None or limit.is_none:
                self._open(bucket)
            else:
                bucket.limit = limit

    # Giving back what is not needed

    def _tidy_later(self) -> None:
        if self._tidy_timer is None and not self._closed:
            self._tidy_timer = self._loop.call_later(_IDLE_SECONDS, self._tidy_now)

    def _tidy_now(self) -> None:
        self._tidy_timer = None
        if self._tidying is None or self._tidying.done():
            self._tidying = self._loop.create_task(self._tidy(), name="rate limits: tidy")

    async def _tidy(self) -> None:
        async with self._patiently():
            await self._give_back()
        if self._buckets:
            self._tidy_later()

    async def _give_back(self) -> None:
        now = clock()
        if self._running and now - self._checked_at > _CHECK_SECONDS:
            self._checked_at = now
            await self._check_places()
        idle = [
            bucket
            for bucket in self._buckets.values()
            if bucket.is_to_be_reported and now - bucket.touched >= _IDLE_SECONDS and not bucket.is_ready_soon(now)
        ]
        if idle:
            await self._report_all(idle)
        for key, bucket in list(self._buckets.items()):
            if bucket.is_idle and now - bucket.touched > _FORGET_SECONDS:
                del self._buckets[key]

    async def _report_all(self, buckets: Iterable[Bucket]) -> None:
        async with self._exchanging:
            if wants := [(bucket, 0) for bucket in buckets if bucket.is_to_be_reported]:
                await self._exchange(wants)

    async def _check_places(self) -> None:
        """Free the places of jobs that have gone back without having run, of which nobody tells."""
        ids = list(self._running)
        try:
            held = await self._store.held(ids)
        except Exception as error:  # noqa: BLE001 - it is looked at again
            self._report(error)
            return
        for job_id in ids:
            if job_id not in held:
                self._leave(job_id)

    async def close(self) -> None:
        """Report all that was used, and give back all that is left. The process ends."""
        self._closed = True
        self._alarm.close()
        if self._tidy_timer is not None:
            self._tidy_timer.cancel()
        for buckets in self._running.values():
            for bucket in buckets:
                bucket.leave(clock())
        self._running.clear()
        async with self._patiently():
            await self._report_all(list(self._buckets.values()))
