"""The zygote's process: how it is started, waited for and killed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from pgtasks.worker.leftovers import has_other_threads, open_descriptors

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_STANDARD = 3
"""Standard input, output and error have the numbers below."""
_LOOK_SECONDS = 0.005


class Fork:
    """A copy of this process that runs a function on a socket and ends; waited for and killed like a `Popen`.

    It has a session of its own: Ctrl-C does not reach it, and it has no terminal. If it had one, it would be in the
    background there, and stopped, with all that it forks, for asking it. What this process has open is closed there, as
    it would be in a new program.
    """

    def __init__(self, sock: socket.socket, run: Callable[[socket.socket], None]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(sock, run)

    def wait(self, timeout: float = math.inf) -> int:
        """Wait until it has ended; returns its exit code, or minus the signal that killed it.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        deadline = time.monotonic() + timeout
        while self._code is None:
            try:
                pid, status = os.waitpid(self.pid, 0 if timeout == math.inf else os.WNOHANG)
            except ChildProcessError:  # the system reaps our children itself, as where SIGCHLD is ignored
                self._code = 0
                break
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("the process that forks worker processes", timeout)
            else:
                time.sleep(_LOOK_SECONDS)
        return self._code

    def kill(self) -> None:
        """Kill it, if it has not ended yet."""
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def start_interpreter(sock: socket.socket, module: str) -> subprocess.Popen[bytes]:
    """Run a module in a fresh interpreter, in a session of its own, with the number of a socket as its argument."""
    return subprocess.Popen(
        [sys.executable, "-m", module, str(sock.fileno())],
        pass_fds=[sock.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _become(sock: socket.socket, run: Callable[[socket.socket], None]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        _close_all_but(sock.fileno())
        run(sock)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may return into the copy of what called this
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def may_fork() -> bool:
    """Whether a copy of this process would work: whether this is its only thread."""
    return not has_other_threads()


def _close_all_but(number: int) -> None:
    """Leave open what a new program would have, which is what was inherited. There is nothing to be read on stdin."""
    for descriptor in open_descriptors():
        with suppress(OSError):
            if descriptor >= _STANDARD and descriptor != number and not os.get_inheritable(descriptor):
                os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
