"""A worker process as the supervisor knows it, and which of them to wake."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from pgtasks.logs import get_logger
from pgtasks.queue.workers import Host
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.slots import awake_or_not

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgtasks.job import Claim
    from pgtasks.worker.generation import Generation
    from pgtasks.worker.link import Backoff
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_STILL_SECONDS = 2.0
"""A process that has not moved for so long cannot claim before its event loop is let go."""


@dataclass(eq=False)
class Member:
    """A worker process, as the supervisor knows it."""

    index: int
    worker_id: str
    control: socket.socket
    slots: ProcessSlots
    generation: Generation
    """Where it comes from."""
    backoff: Backoff
    """Pauses before a process is started in its place."""
    pid: int = 0
    """0 until the zygote has forked it."""
    ready: bool = False
    leaving: bool = False
    """Whether it was told to drain and needs no replacement."""
    successor_to: Member | None = None
    """The process that is to leave as soon as this one is ready."""
    born: float = 0.0
    """When it was started, by the monotonic clock, which is the event loop's too."""
    stopped: bool = False
    """Whether a signal has stopped it, so that it does nothing until another one continues it."""
    gone: bool = False
    """Whether it has closed its end of the socket, so that it is dead, though the zygote may not have said so."""
    uncharged: bool = False
    """Whether we end it by force, so that its jobs are not to be charged."""
    overdue_at: float | None = None
    """When we killed it over jobs that had run for too long, by the monotonic clock."""
    cancelled: dict[tuple[int, int], float] = field(default_factory=dict)
    """By the claims of jobs that somebody has cancelled: when it is killed if they are still running."""
    _woken_after: int = -1
    """How many claims it had begun when it was last woken."""
    _unsent: set[bytes] = field(default_factory=set)
    """Messages for which its socket had no room yet."""

    @property
    def stays(self) -> bool:
        """Whether it is one of those that are wanted, and not on its way out or only about to take another's place."""
        return self.successor_to is None and not (self.leaving or self.gone)

    @property
    def takes_jobs(self) -> bool:
        """Whether it claims jobs when it is woken and has room."""
        return not (self.leaving or self.stopped or self.gone)

    @property
    def seconds_still(self) -> float:
        """How long ago it last said that it moves."""
        return time.monotonic() - (self.slots.last_tick() or self.born)

    @property
    def moves(self) -> bool:
        """Whether its event loop does, so that it hears what it is told."""
        return self.seconds_still < _STILL_SECONDS

    @property
    def room(self) -> int:
        """How many jobs it could start now."""
        return self.slots.view().free if self.moves else 0

    @property
    def holds_jobs(self) -> bool:
        """Whether it runs jobs, or has not told the database of all that have ended."""
        view = self.slots.view()
        return bool(view.finishing or view.queued or self.slots.running())

    def overdue(self, now: float) -> list[Claim]:
        """Return the claims of jobs that run and should have stopped by now."""
        claims = [claim for claim, _ in self.slots.overdue(now)]
        return claims + self.overdue_cancelled(now) if self.cancelled else claims

    def overdue_cancelled(self, now: float) -> list[Claim]:
        """Return the claims of jobs that run and should have stopped since somebody has cancelled them."""
        deadlines = self.cancelled
        return [claim for claim in self.slots.running() if deadlines.get(claim.token, math.inf) <= now]

    def note_stopped(self, stopped: bool) -> None:
        """Note that a signal has stopped or continued it."""
        self.stopped = stopped
        if stopped:
            log.warning("process_stopped", process=self.index, pid=self.pid)
        else:
            log.info("process_continued", process=self.index, pid=self.pid)

    def kill(self) -> None:
        """Kill it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def tell(self, message: bytes) -> None:
        """Send a message, as soon as there is room for it; a process that is gone does not mind."""
        try:
            self.control.send(message)
        except BlockingIOError:
            self._unsent.add(message)
            asyncio.get_running_loop().add_writer(self.control, self._tell_rest)
        except OSError:
            pass

    def _tell_rest(self) -> None:
        asyncio.get_running_loop().remove_writer(self.control)
        rest, self._unsent = self._unsent, set()
        for message in rest:
            self.tell(message)

    def wake(self) -> None:
        """Have it look for jobs. Once is enough until it has begun another claim, which comes when there is room."""
        claims = self.slots.view().started_claims
        if claims != self._woken_after:
            self._woken_after = claims
            self.tell(ToWorker.WAKE)

    def close(self) -> None:
        """Talk to it no more."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.control)
        loop.remove_writer(self.control)
        self.control.close()


def new_member(
    index: int, worker_id: str, generation: Generation, backoff: Backoff, successor_to: Member | None
) -> tuple[Member, socket.socket]:
    """Return a process that is to be forked, and the socket that is to be its end of the talk with us."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    slots = generation.table.of_process(index)
    slots.clear()
    born = time.monotonic()
    slots.beat(awake_or_not())
    return Member(index, worker_id, ours, slots, generation, backoff, successor_to=successor_to, born=born), theirs


def wake(members: Collection[Member], jobs: int) -> None:
    """Wake as many processes as `jobs` new jobs need; all of them if it is not known how many there are.

    Those that do not move come before those that have no room, since they may have some soon, and count for nothing.
    """
    awake = [member for member in members if member.takes_jobs]
    for member in sorted(awake, key=lambda member: (-member.room, member.moves)):
        member.wake()
        if jobs > 0 and member.moves:
            jobs -= max(1, member.room)
            if jobs <= 0:
                return


def wake_one_idle(members: Collection[Member]) -> None:
    """Wake one process that has nothing to do, if there is one."""
    for member in members:
        if member.takes_jobs and member.slots.view().idle:
            member.wake()
            return


def this_host(host_id: str) -> Host:
    """Return what is told about this host with heartbeats."""
    return Host(host_id, socket.gethostname(), version("pgtasks"))


def new_host_id() -> str:
    """Return an id for this host's supervisor, from which those of its processes are made."""
    host = socket.gethostname().partition(".")[0][:40]
    return f"pgtasks-{host}-{os.getpid()}-{secrets.token_hex(4)}"
