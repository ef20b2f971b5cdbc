"""Being process 1, as a command in a container is without an init of its own.

The kernel treats process 1 in two ways of its own. It gets no signal that it has no handler for, so that most commands
could not be stopped. And whatever process loses its parent becomes its child, and stays as a zombie until it is reaped.
So process 1 does nothing but that: the command runs in a child of it, which all signals are passed on to, and whose end
is its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection

# These say that a process itself is at fault, and are not for others.
_OWN: Final = (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)

_ORPHANS_SECONDS: Final = 9.0
"""How long what a killed command leaves may take to end; docker gives ten seconds by default."""


def leave_process_1() -> None:
    """Go on in a child of this process, which is process 1."""
    heard = {*signal.valid_signals()} - {signal.SIGKILL, signal.SIGSTOP, *_OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child == 0:
        _take_the_terminal()  # while SIGTTOU is blocked
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    _serve(child, heard)


def _take_the_terminal() -> None:
    """Become a group of our own, in the foreground, so that the terminal's Ctrl-C comes to us once and not twice."""
    os.setpgid(0, 0)
    for number in range(3):
        with contextlib.suppress(OSError):
            os.tcsetpgrp(number, os.getpid())
            return


def _serve(child: int, heard: Collection[int]) -> NoReturn:
    """Pass signals on and reap what has ended, until the child has."""
    while True:
        number = signal.sigwait(heard)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        while (ended := _ended()) is not None:
            pid, status = ended
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                if code < 0:
                    _let_orphans_end()
                os._exit(code if code >= 0 else 128 - code)


def _let_orphans_end() -> None:
    """Wait for what a killed command leaves: a worker's processes then give their jobs back.

    With the end of process 1 the kernel kills all others.
    """
    deadline = time.monotonic() + _ORPHANS_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)


def _ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None
