"""A worker process as the supervisor knows it, and which of them to wake."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.worker.protocol import ToWorker

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgtasks.worker.slots import ProcessSlots


@dataclass(eq=False)
class Member:
    """A worker process, as the supervisor knows it."""

    index: int
    worker_id: str
    control: socket.socket
    slots: ProcessSlots
    pid: int = 0
    """0 until the zygote has forked it."""
    ready: bool = False
    born: float = 0.0
    """When it was started, by the event loop's clock."""
    uncharged: bool = False
    """Whether we end it by force, so that its jobs are not to be charged."""

    @property
    def holds_jobs(self) -> bool:
        """Whether it runs jobs, or has not told the database of all that have ended."""
        view = self.slots.view()
        return bool(view.finishing or view.queued or self.slots.running())

    def tell(self, message: bytes) -> None:
        """Send a message; a process that is gone does not mind."""
        with contextlib.suppress(OSError):
            self.control.send(message)


def wake(members: Collection[Member], jobs: int) -> None:
    """Wake as many processes as `jobs` new jobs need; all of them if it is not known how many there are."""
    for member in sorted(members, key=lambda member: -member.slots.view().free):
        member.tell(ToWorker.WAKE)
        if jobs > 0:
            jobs -= max(1, member.slots.view().free)
            if jobs <= 0:
                return


def wake_one_idle(members: Collection[Member]) -> None:
    """Wake one process that has nothing to do, if there is one."""
    for member in members:
        if member.slots.view().idle:
            member.tell(ToWorker.WAKE)
            return


def new_host_id() -> str:
    """Return an id for this host's supervisor, from which those of its processes are made."""
    host = socket.gethostname().partition(".")[0][:40]
    return f"pgtasks-{host}-{os.getpid()}-{secrets.token_hex(4)}"
