"""What USR1 to a worker does: write the stacks of all threads and of all tasks of event loops to stderr.

The supervisor hears the signal in its event loop and passes it on. A worker process writes the stacks of its threads in
a handler that needs no interpreter, and those of its tasks when its event loop is asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from pgtasks.logs.writing import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def write_threads_on_usr1() -> None:
    """Let USR1 write the stacks of all threads at once, by a handler that works even if nothing else does."""
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # there may be no stderr to write to
        faulthandler.register(signal.SIGUSR1, all_threads=True)


def write_threads() -> None:
    """Write the stacks of all threads."""
    with contextlib.suppress(RuntimeError, ValueError, OSError):
        faulthandler.dump_traceback(all_threads=True)


def write_tasks() -> None:
    """Write the stacks of all tasks of the running event loop, which it can only be asked to if it moves."""
    with contextlib.suppress(OSError, ValueError):
        Descriptor(sys.stderr.fileno()).write_line(_stacks_of_tasks(asyncio.get_running_loop()))


def _stacks_of_tasks(loop: asyncio.AbstractEventLoop) -> str:
    parts = []
    for task in asyncio.all_tasks(loop):
        stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _frames(task.get_coro()))
        parts.append(f"Task {task.get_name()!r} (most recent call last):\n{''.join(stack.format())}\n")
    return "".join(parts)


def _frames(awaited: object) -> Iterator[FrameType]:
    """Give the frames of a coroutine and of all that it awaits, which `Task.get_stack` leaves out."""
    while awaited is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            return
        if (frame := getattr(awaited, f"{kind}_frame")) is not None:
            yield frame
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
