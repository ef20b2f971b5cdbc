"""The exit of a program, awaited in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING

from pgtasks.errors import ExecutableError

if TYPE_CHECKING:
    import subprocess


async def wait_for_exit(process: subprocess.Popen[bytes]) -> None:
    """Wait until a program has exited.

    Where the system can tell without it, it is not reaped, and so its process id and its group's are not used again
    until `exit_code_of` is called: not on macOS.
    """
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or an old one, or no descriptor is to be had
        threading.Thread(target=_wait, args=(process, loop, exited), name="pgtasks-wait", daemon=True).start()
        await exited.wait()
        return
    try:
        loop.add_reader(descriptor, exited.set)
        await exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _wait(process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, exited: asyncio.Event) -> None:
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        exit_code_of(process, quiet=True)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(exited.set)


def exit_code_of(process: subprocess.Popen[bytes], *, quiet: bool = False) -> int:
    """Reap a program that has exited, or is about to; returns its exit code or, negative, the signal that killed it.

    Not `Popen.wait`, which takes a program for a success if somebody else has reaped it.

    Raises:
        ExecutableError: somebody has, and so nobody knows how it ended; not if `quiet`.
    """
    if process.returncode is None:
        try:
            _, status = os.waitpid(process.pid, 0)
        except ChildProcessError:
            process.returncode = -1  # or its destructor would wait for it
            if quiet:
                return -1
            raise ExecutableError(
                "nobody knows how it ended: something else in this process has waited for it, or ignores SIGCHLD"
            ) from None
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode
