"""The standard streams of the command: there in any case, and with errors that can be told from others."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """Standard output. It remembers its last error, so that this one can be told from an error of another file."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the bytes, and return how many."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def open_standard_streams() -> None:
    """Put nothing in the place of standard streams that are closed, before a socket or file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def watch_stdout() -> Output | None:
    """Let stdout remember its errors; None where something else has been put in its place already."""
    stdout = sys.stdout
    if stdout is not sys.__stdout__ or not isinstance(stdout, io.TextIOWrapper):
        return None
    stdout.flush()
    output = Output(stdout.fileno())
    unbuffered = isinstance(stdout.buffer, io.RawIOBase)  # python -u, PYTHONUNBUFFERED
    sys.stdout = io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )
    return output


def silence_stdout() -> None:
    """Let the interpreter flush what is left into nothing, instead of reporting an error at its exit."""
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
