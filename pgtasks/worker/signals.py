"""What signals to the supervisor do.

Handlers are called by the event loop between two steps, so that nothing is ever interrupted in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final, Protocol

from pgtasks.logs import get_logger
from pgtasks.logs.writing import STDERR, has_room
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.stacks import write_tasks, write_threads

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgtasks.worker.member import Member

log = get_logger("pgtasks.worker")

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


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
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGTTIN, controlled.resize, 1)
        loop.add_signal_handler(signal.SIGTTOU, controlled.resize, -1)
        loop.add_signal_handler(signal.SIGUSR1, self._write_stacks)

    def end(self) -> None:
        """Let TERM and INT change nothing any more, up to the end of this process: all that they ask for is done.

        They are blocked too, since the event loop puts their default actions back when it is closed.
        """
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)

    def _stop(self, number: int) -> None:
        """Go one step further: drain, abort, kill."""
        self._stop_signals += 1
        name = signal.Signals(number).name
        if self._stop_signals == 1:
            self._controlled.drain()
            log.info(
                "worker_draining",
                signal=name,
                message="running jobs finish first; signal again to give them back and stop at once",
            )
        elif self._stop_signals == 2:
            self._controlled.abort()
            log.warning("worker_aborting", signal=name, message="giving running jobs back; signal again to kill")
        else:
            self._controlled.kill()
            log.warning("worker_killing", signal=name)

    def _quit(self) -> None:
        self._controlled.kill()
        log.warning("worker_killing", signal="SIGQUIT")

    def _hang_up(self) -> None:
        """Reload, or stop if the signal comes because the terminal is gone from which the worker was started."""
        if self._had_terminal and not self._outlives_terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
        else:
            self._controlled.reload("SIGHUP")

    def _write_stacks(self) -> None:
        if not has_room(STDERR):
            return  # nobody reads them, and a process that writes them would stand still
        members = [member for member in self._controlled.members if member.pid]
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGUSR1)
            member.tell(ToWorker.STACKS)
        write_threads()
        write_tasks()
        log.info("stacks_dumped", pids=[member.pid for member in members])


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
