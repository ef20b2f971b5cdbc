"""What signals to the supervisor do.

Handlers are called by the event loop between two steps, so that nothing is ever interrupted in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Protocol

from pgtasks.logs import get_logger
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.stacks import write_tasks, write_threads

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgtasks.worker.member import Member

log = get_logger("pgtasks.worker")


class Controlled(Protocol):
    """What signals steer: the supervisor."""

    @property
    def members(self) -> Collection[Member]:
        """All worker processes."""

    def drain(self) -> None:
        """Let running jobs finish, then stop."""

    def abort(self) -> None:
        """Give running jobs back and stop."""

    def kill(self) -> None:
        """Kill the processes, give their jobs back and stop."""

    def reload(self, reason: str) -> None:
        """Import the application anew."""

    def resize(self, more: int) -> None:
        """Have so many processes more or, negative, fewer."""


class Signals:
    """Handles the supervisor's signals in the running event loop."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._stop_signals = 0
        self._had_terminal = _has_terminal()
        # Whoever starts a worker by `nohup` wants it to outlive the terminal.
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGTTIN, controlled.resize, 1)
        loop.add_signal_handler(signal.SIGTTOU, controlled.resize, -1)
        loop.add_signal_handler(signal.SIGUSR1, self._write_stacks)

    def _stop(self, number: int) -> None:
        """Go one step further: drain, abort, kill."""
        self._stop_signals += 1
        name = signal.Signals(number).name
        if self._stop_signals == 1:
            log.info(
                "worker_draining",
                signal=name,
                message="running jobs finish first; signal again to give them back and stop at once",
            )
            self._controlled.drain()
        elif self._stop_signals == 2:
            log.warning("worker_aborting", signal=name, message="giving running jobs back; signal again to kill")
            self._controlled.abort()
        else:
            log.warning("worker_killing", signal=name)
            self._controlled.kill()

    def _quit(self) -> None:
        log.warning("worker_killing", signal="SIGQUIT")
        self._controlled.kill()

    def _hang_up(self) -> None:
        """Reload, or stop if the signal comes because the terminal is gone from which the worker was started."""
        if self._had_terminal and not self._outlives_terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
        else:
            self._controlled.reload("SIGHUP")

    def _write_stacks(self) -> None:
        write_threads()
        write_tasks()
        members = [member for member in self._controlled.members if member.pid]
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGUSR1)
            member.tell(ToWorker.STACKS)
        log.info("stacks_dumped", pids=[member.pid for member in members])


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
