"""What one process knows of all buckets, and how it stays true: exchanges, limits set at run time, giving back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from pgtasks_ratelimit.bucket import Bucket
from pgtasks_ratelimit.rules import effective
from pgtasks_ratelimit.store import now as clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from pgtasks import Job
    from pgtasks_ratelimit.rules import Limit
    from pgtasks_ratelimit.store import Store

_IDLE_SECONDS: Final = 0.25
"""After so many seconds without an exchange what is not needed is reported and given back."""
_FORGET_SECONDS: Final = 60.0
_CHECK_SECONDS: Final = 30.0
"""How often to look whether jobs that occupy places are still this process's."""


class Ledger:
    """The buckets of one process.

    Args:
        store: the database.
        own: the limits that settings have, by name.
        refresh: seconds after which to look again for limits that were set at run time.
        patience: seconds that anything waits for the database, at most.
        report: told of exchanges that have failed, and with None that one has succeeded.
        on_left: called when a job of a limited bucket has left its place.
    """

    def __init__(
        self,
        store: Store,
        own: Mapping[str, Limit],
        *,
        refresh: float,
        patience: float,
        report: Callable[[BaseException | None], None],
        on_left: Callable[[], None],
    ) -> None:
        self.rules = effective(own, ())
        self.exchanging = asyncio.Lock()
        """Held by whoever makes an exchange: they are made one after the other."""
        self.limited: dict[str, Bucket] = {}
        """The limited buckets of flags, in the order in which their turns come."""
        self.refused = 0
        """How many jobs were not let through."""
        self._store = store
        self._own = own
        self._refresh = refresh
        self._patience = patience
        self._report = report
        self._on_left = on_left
        self._fresh_until = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._running: dict[int, list[Bucket]] = {}
        """Jobs that occupy places."""
        self._checked_at = clock()
        self._loop = asyncio.get_running_loop()
        self._tidy_timer: asyncio.TimerHandle | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._closed = False

    def buckets_of(self, job: Job) -> list[Bucket]:
        """Return the buckets that a job which has come needs, each of which notes it."""
        buckets = []
        for key, limit in self.rules.of_job(job):
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

    def start(self, job: Job, buckets: Sequence[Bucket], now: float) -> None:
        """Take what a job needs."""
        for bucket in buckets:
            bucket.take(now)
        if occupied := [bucket for bucket in buckets if bucket.limit.max_running is not None]:
            self._running[job.id] = occupied

    def limit(self, bucket: Bucket) -> None:
        """Note that a bucket has a backlog."""
        if not (bucket.limited or bucket.limit.by_payload):
            bucket.limited = True
            self.limited[bucket.key] = bucket

    def put_last(self, bucket: Bucket) -> None:
        """Let the turns of all other limited buckets come first."""
        self.limited[bucket.key] = self.limited.pop(bucket.key)

    def open(self, bucket: Bucket) -> None:
        """Note that a bucket has none."""
        bucket.limited = False
        self.limited.pop(bucket.key, None)

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
            self._on_left()
        self.tidy_later()

    # Exchanges

    @contextlib.asynccontextmanager
    async def patiently(self) -> AsyncIterator[None]:
        """Give up what the block waits for when it has taken too long."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError as error:
            self._report(error)

    async def exchange(self, wants: Sequence[tuple[Bucket, int]], *, ahead: bool = False) -> None:
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
                self.open(bucket)
        self.tidy_later()

    # Limits that are set at run time

    async def know_limits(self) -> None:
        """Look for limits that were set at run time, now and then."""
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
        if rules.limits == self.rules.limits:
            return
        self.rules = rules
        for bucket in self._buckets.values():
            limit = rules.limits.get(bucket.limit.name)
            if limit is None or limit.is_none:
                self.open(bucket)
            else:
                bucket.limit = limit

    # Giving back what is not needed

    def tidy_later(self) -> None:
        """Give back in a while what is not needed then."""
        if self._tidy_timer is None and not self._closed:
            self._tidy_timer = self._loop.call_later(_IDLE_SECONDS, self._tidy_now)

    def _tidy_now(self) -> None:
        self._tidy_timer = None
        if self._tidying is None or self._tidying.done():
            self._tidying = self._loop.create_task(self._tidy(), name="rate limits: tidy")

    async def _tidy(self) -> None:
        async with self.patiently():
            await self._give_back()
        if self._buckets:
            self.tidy_later()

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
        async with self.exchanging:
            if wants := [(bucket, 0) for bucket in buckets if bucket.is_to_be_reported]:
                await self.exchange(wants)

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
        if self._tidy_timer is not None:
            self._tidy_timer.cancel()
        for buckets in self._running.values():
            for bucket in buckets:
                bucket.leave(clock())
        self._running.clear()
        async with self.patiently():
            await self._report_all(list(self._buckets.values()))
