"""Writing lines to a descriptor whose reader may be slow, or stand still."""

from __future__ import annotations

import os
import select
import stat
from contextlib import suppress
from typing import Final

STDERR: Final = 2
_PATIENCE: Final = 1.0
"""Seconds that a line waits for a reader to take some of it."""


class Descriptor:
    """An open descriptor that blocks nobody for long, whether it was made non-blocking or not.

    A flag that makes it so is not set here: it would hold for every process that has the same pipe or terminal. Linux
    can be told with each call, for pipes and sockets, and then takes lines of any length in one piece while there is
    room. Elsewhere a pipe that polls as writable takes PIPE_BUF bytes, and longer lines are written in several pieces.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._is_file = stat.S_ISREG(os.fstat(number).st_mode)  # which has no reader to wait for
        self._flag: int | None = getattr(os, "RWF_NOWAIT", None)
        self._stalled = False
        self._torn = False

    def write_line(self, line: str) -> None:
        """Write a line.

        Raises:
            TimeoutError: the reader has stalled. Further lines do not wait for it, until it takes one again.
            OSError: it cannot be written at all.
        """
        data = f"{line}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        whole = len(data)
        while data:
            try:
                data = data[self._write_some(data) :]
            except BlockingIOError:
                if self._stalled or not has_room(self._number):
                    self._stalled = True
                    self._torn = self._torn or len(data) < whole
                    raise TimeoutError from None
        self._stalled = self._torn = False

    def _write_some(self, data: bytes) -> int:
        """Write what there is room for now, or raise BlockingIOError."""
        if self._is_file:
            return os.write(self._number, data)
        if self._flag is not None:
            try:
                return os.pwritev(self._number, [data], -1, self._flag)  # -1: at the end, as `write` does
            except BlockingIOError:
                raise
            except OSError:  # not for this kind of file, or not by this kernel
                self._flag = None
        if not has_room(self._number, 0):
            raise BlockingIOError
        return os.write(self._number, data[: select.PIPE_BUF])


def has_room(number: int, seconds: float | None = None) -> bool:
    """Wait until a descriptor takes at least PIPE_BUF bytes; returns whether it does, after no more than a second.

    Args:
        number: The descriptor.
        seconds: How long to wait, if not that second.
    """
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll((_PATIENCE if seconds is None else seconds) * 1000))


def silence_if_stalled(number: int) -> None:
    """Put nothing in the place of a descriptor whose reader has stalled, for the last words of a process."""
    with suppress(OSError):
        if not has_room(number):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, number)
            os.close(nothing)
