"""A worker process as the supervisor knows it, and which of them to wake."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from pgtasks.logs import get_logger
from pgtasks.queue.workers import Host
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.slots import awake_or_not

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgtasks.worker.generation import Generation
    from pgtasks.worker.link import Backoff
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")


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
    uncharged: bool = False
    """Whether we end it by force, so that its jobs are not to be charged."""
    overdue_at: float | None = None
    """When we killed it over jobs that had run for too long, by the monotonic clock."""

    @property
    def stays(self) -> bool:
        """Whether it is one of those that are wanted, and not on its way out or only about to take another's place."""
        return not self.leaving and self.successor_to is None

    @property
    def takes_jobs(self) -> bool:
        """Whether it claims jobs when it is woken and has room."""
        return not (self.leaving or self.stopped)

    @property
    def holds_jobs(self) -> bool:
        """Whether it runs jobs, or has not told the database of all that have ended."""
        view = self.slots.view()
        return bool(view.finishing or view.queued or self.slots.running())

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
        """Send a message; a process that is gone does not mind."""
        with contextlib.suppress(OSError):
            self.control.send(message)


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
    """Wake as many processes as `jobs` new jobs need; all of them if it is not known how many there are."""
    awake = [member for member in members if member.takes_jobs]
    for member in sorted(awake, key=lambda member: -member.slots.view().free):
        member.tell(ToWorker.WAKE)
        if jobs > 0:
            jobs -= max(1, member.slots.view().free)
            if jobs <= 0:
                return


def wake_one_idle(members: Collection[Member]) -> None:
    """Wake one process that has nothing to do, if there is one."""
    for member in members:
        if member.takes_jobs and member.slots.view().idle:
            member.tell(ToWorker.WAKE)
            return


def this_host(host_id: str) -> Host:
    """Return what is told about this host with heartbeats."""
    return Host(host_id, socket.gethostname(), version("pgtasks"))


def new_host_id() -> str:
    """Return an id for this host's supervisor, from which those of its processes are made."""
    host = socket.gethostname().partition(".")[0][:40]
    return f"pgtasks-{host}-{os.getpid()}-{secrets.token_hex(4)}"
