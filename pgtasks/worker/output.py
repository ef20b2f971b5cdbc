"""What a program writes, as records of the log: a line each, and no more of them than a log can bear."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Literal

from pgtasks.logs import get_logger

log = get_logger("pgtasks.task")

_LONGEST: Final = 8_000
"""Bytes of a line that are logged."""
_AT_ONCE: Final = 1_000
"""Lines of a stream that are logged however fast they come."""
_PER_SECOND: Final = 100
"""Lines a second that are logged for as long as it takes."""
_PAUSE_SECONDS: Final = 0.02
"""How long a program that writes more than that has to wait until more is read, so that the event loop has time."""
_LAST_LINES: Final = 20
_LAST_LENGTH: Final = 500
"""Characters of each of the last lines that are kept for the job's error."""
_TAB: Final = 9
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != _TAB}
"""Control characters, which do things to terminals, and of which NUL cannot be stored."""


class ProgramOutput(asyncio.Protocol):
    """Reads one stream of a program to its end."""

    def __init__(self, stream: Literal["stdout", "stderr"]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.ReadTransport | None = None
        self._line = bytearray()
        self._cut = 0
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._room = float(_AT_ONCE)
        self._counted_at = self._loop.time()
        self._dropped = 0
        self.closed = asyncio.Event()
        """Is set when nothing more is to be read."""

    @property
    def tail(self) -> str:
        """Its last lines."""
        return "\n".join(self._last)

    def close(self) -> None:
        """Read no more."""
        if self._transport is None:
            self.closed.set()
        elif not self._transport.is_closing():
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what reads."""
        assert isinstance(transport, asyncio.ReadTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Log the lines that are complete."""
        self._refill()
        *lines, rest = data.split(b"\n")
        for number, line in enumerate(lines):
            if self._dropped and number < len(lines) - _LAST_LINES:
                self._dropped += 1  # without a look at it: it is neither logged nor one of the last
                self._forget_line()
            else:
                self._append(line)
                self._end_line()
        self._append(rest)
        if self._dropped and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_later(_PAUSE_SECONDS, self._read_on)

    def connection_lost(self, exc: Exception | None) -> None:
        """Log what has no end of line, and how much was left out."""
        del exc
        if self._line:
            self._end_line()
        self._tell_of_dropped()
        self.closed.set()

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _append(self, piece: bytes) -> None:
        room = _LONGEST - len(self._line)
        self._line += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _forget_line(self) -> None:
        self._line.clear()
        self._cut = 0

    def _end_line(self) -> None:
        text = _readable(bytes(self._line))
        if self._cut:
            text += f"… {self._cut} bytes left out"
        self._forget_line()
        if not text:
            return
        self._last.append(text if len(text) <= _LAST_LENGTH else f"{text[:_LAST_LENGTH]}…")
        if self._dropped or self._room < 1:
            self._dropped += 1
            return
        self._room -= 1
        if self._stream == "stdout":
            log.info("program_output", stream="stdout", line=text)
        else:
            log.warning("program_output", stream="stderr", line=text)

    def _refill(self) -> None:
        now = self._loop.time()
        self._room = min(_AT_ONCE, self._room + (now - self._counted_at) * _PER_SECOND)
        self._counted_at = now
        if self._room >= _PER_SECOND:
            self._tell_of_dropped()

    def _tell_of_dropped(self) -> None:
        if self._dropped:
            log.warning("program_output_dropped", stream=self._stream, lines=self._dropped)
            self._dropped = 0


def _readable(line: bytes) -> str:
    text = line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.translate(_ESCAPES)
