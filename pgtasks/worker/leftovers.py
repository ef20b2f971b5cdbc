"""What the import of an application must not leave behind in a process that is to be forked.

A thread exists in none of the forked processes, but the locks that it held stay locked there. A connection would be
used by all of them at once. So neither is let pass, and the message names it.

Two things are let pass: threads of native libraries that Python knows nothing of, since those that are around
(OpenBLAS under numpy) see to forks themselves; and datagram sockets, as loggers and metrics clients have, since what
several processes send on one of them arrives in whole pieces.
"""

from __future__ import annotations

import gc
import os
import socket
import stat
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.errors import ForkUnsafeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import FrameType

_PATIENCE_SECONDS = 1.0
"""How long threads that are about to end may take."""


def open_descriptors() -> set[int]:
    """Return the numbers of all open files and sockets of this process."""
    return {int(name) for name in os.listdir("/dev/fd")}  # noqa: PTH208 - numbers, not paths


def refuse_leftovers(own: Collection[int]) -> None:
    """Raise if there is a thread besides this one, or a socket that is not one of `own`.

    Raises:
        ForkUnsafeError: there is; the message names all of them.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while found := [*_threads(), *_sockets(own)]:
        if time.monotonic() > deadline:
            raise ForkUnsafeError(
                f"importing the application has left behind what cannot be taken into worker processes: "
                f"{'; '.join(found)}. Start threads and open connections in functions that a task calls, not when a "
                f"module is imported"
            )
        gc.collect()  # a connection that nobody holds any more
        time.sleep(0.02)


def has_other_threads() -> bool:
    """Whether there is a thread besides this one."""
    return next(_threads(), None) is not None


def _threads() -> Iterator[str]:
    known = {thread.ident: thread for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - the only way to see threads that were not started by `threading`
    for ident in {*known, *frames} - {threading.get_ident()}:
        thread = known.get(ident)
        name = "a thread without a name" if thread is None else f"thread {thread.name!r}"
        work = [part for part in (_target(thread), _place(frames.get(ident or 0))) if part]
        yield f"{name} ({', '.join(work)})" if work else name


def _target(thread: threading.Thread | None) -> str:
    if thread is None:
        return ""
    target = getattr(thread, "_target", None) or type(thread).run
    return f"runs {getattr(target, '__module__', '')}.{getattr(target, '__qualname__', repr(target))}"


def _place(frame: FrameType | None) -> str:
    """Where a thread is, in the innermost frame that is not of the standard library."""
    innermost = frame
    library = str(Path(threading.__file__).parent)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((library, "<frozen")) or "site-packages" in file:
            break
        frame = frame.f_back
    frame = frame or innermost
    return f"at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def _sockets(own: Collection[int]) -> Iterator[str]:
    for number in sorted(open_descriptors() - set(own)):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as sock:
                    if sock.type != socket.SOCK_DGRAM:
                        yield _describe(sock)
        except OSError:
            continue  # closed meanwhile, as the one that listed them is


def _describe(sock: socket.socket) -> str:
    try:
        peer = sock.getpeername()
    except OSError:
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return f"a socket that listens on {_address(sock.getsockname())}" if listens else "a socket"
    if not peer:
        return "one end of a pair of sockets, such as an event loop has"
    return f"a connection to {_address(peer)}"


def _address(name: object) -> str:
    match name:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case bytes():
            return os.fsdecode(name)
        case _:
            return str(name)
