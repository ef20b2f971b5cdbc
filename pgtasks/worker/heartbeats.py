"""Heartbeats: a host says that its worker processes are alive, hears which are not, and takes over from the dead.

What a worker holds is safe as long as its heartbeats come. After `stale_after` seconds without one, any host may
retire it and give its jobs back. So a host whose heartbeats have not gone through for so long must take its locks for
gone: the time of the last one is in each process's slots, where it looks at it (`HeartbeatWatch`).

After an outage of the database every worker looks dead until its next heartbeat. So a host takes over from others only
once its own heartbeats have gone through without a gap for `stale_after`: by then whoever is alive has been heard.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from pgtasks.database.errors import is_outage
from pgtasks.logs import get_logger
from pgtasks.queue.finish import recover_worker
from pgtasks.queue.workers import Pulse, heartbeat
from pgtasks.worker.link import Backoff
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.slots import awake_or_not
from pgtasks.worker.timeouts import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgtasks.queue.workers import Host
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.member import Member
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_BEATS = 6
"""Heartbeats within `stale_after`."""
_LONGEST_PAUSE = 5.0
"""Seconds between two heartbeats, at most."""
_SHORTEST_PAUSE = 0.01
"""Seconds after one that failed, at first: its connection may have been broken for long, and the next one is new."""
_CHECK_SECONDS = 0.5
"""How often a process looks whether its host's heartbeats go through."""


class Heartbeats:
    """Sends the heartbeats of a host's processes, until cancelled.

    Args:
        link: the database.
        host: this one.
        members: the processes.
        stale_after: seconds without a heartbeat after which a worker counts as dead.
        max_interruptions: how often a job may be given back by a lost host.
        on_cancelled: called with the processes that hold jobs which somebody has cancelled, if any do.
    """

    def __init__(
        self,
        link: DatabaseLink,
        host: Host,
        members: Callable[[], Collection[Member]],
        *,
        stale_after: float,
        max_interruptions: int,
        on_cancelled: Callable[[Collection[str]], None],
    ) -> None:
        self._link = link
        self._host = host
        self._members = members
        self._stale_after = stale_after
        self._max_interruptions = max_interruptions
        self._on_cancelled = on_cancelled
        self._pause = min(_LONGEST_PAUSE, stale_after / _BEATS)
        self._backoff = Backoff(_SHORTEST_PAUSE, self._pause)
        self._unbroken_since = self._last = awake_or_not()

    async def run(self) -> None:
        """Send one heartbeat after the other."""
        taking_over: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                dead = await self._beat()
                if dead and (taking_over is None or taking_over.done()):
                    # Beside the heartbeats, which must not wait for it.
                    taking_over = tasks.create_task(self._take_over(dead))
                await asyncio.sleep(self._pause if dead is not None else self._backoff.next_pause())

    async def _beat(self) -> Sequence[str] | None:
        """Send a heartbeat; returns the workers that are to be taken over from, or None if it did not go through."""
        members = {member.worker_id: member for member in self._members() if _beats(member)}
        pulses = [_pulse(member) for member in members.values()]
        began = awake_or_not()
        try:
            operation = heartbeat(self._link.statements, self._host, pulses, self._stale_after)
            census = await self._link.attempt(operation, min(HEARTBEAT, max(self._stale_after / 4, 0.5)))
        except Exception as error:
            if not is_outage(error):
                raise
            return None
        self._backoff.reset()
        for worker_id in census.evicted:
            members.pop(worker_id).tell(ToWorker.EVICT)
        for member in members.values():
            # What counts is when it was sent: it may have been long on its way.
            member.slots.beat(began)
        if census.cancelled:
            self._on_cancelled(census.cancelled)
        # By the database's clock too: it may have slept, or its clock leapt, and then everybody looks dead.
        if max(began - self._last, math.inf if census.silence is None else census.silence) > self._stale_after / 2:
            self._unbroken_since = began
        self._last = began
        return census.dead if began - self._unbroken_since > self._stale_after else ()

    async def _take_over(self, workers: Sequence[str]) -> None:
        """Give back what dead workers hold; what cannot be given back now is looked at again after a later beat."""
        for worker_id in workers:
            operation = recover_worker(self._link.statements, worker_id, self._max_interruptions, self._stale_after)
            with self._link.forgiving("recover_worker", worker=worker_id):
                released = await self._link.attempt(operation)
                if released.returned or released.failed:
                    log.warning("worker_lost", worker=worker_id, returned=released.returned, failed=released.failed)


class HeartbeatWatch:
    """Tells a process when its host's heartbeats have stopped and when they are back, until cancelled."""

    def __init__(
        self, slots: ProcessSlots, stale_after: float, *, on_lost: Callable[[], None], on_restored: Callable[[], None]
    ) -> None:
        self._slots = slots
        self._stale_after = stale_after
        self._on_lost = on_lost
        self._on_restored = on_restored
        self.lost = False

    async def run(self) -> None:
        """Look now and then."""
        while True:
            self.look()
            await asyncio.sleep(min(_CHECK_SECONDS, self._stale_after / 4))

    @property
    def fresh(self) -> bool:
        """Whether heartbeats go through, asked from any thread."""
        return awake_or_not() - self._slots.last_beat <= self._stale_after

    def look(self) -> bool:
        """Return whether heartbeats go through."""
        lost = not self.fresh
        if lost != self.lost:
            self.lost = lost
            if lost:
                log.error("heartbeats_lost", message="jobs may be given to others; nothing is started until it is back")
                self._on_lost()
            else:
                log.info("heartbeats_restored")
                self._on_restored()
        return not lost


def _beats(member: Member) -> bool:
    return bool(member.pid) and not (member.stopped or member.gone)


def _pulse(member: Member) -> Pulse:
    view = member.slots.view()
    return Pulse(member.worker_id, member.pid, view.running, view.succeeded, view.failed)
