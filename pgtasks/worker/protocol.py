"""What supervisor, zygote and worker processes say to each other.

Supervisor and worker: single bytes on a socket, each a hint or a request that bears repeating. Supervisor and zygote:
a JSON object a line. Nothing is pickled.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket


class ToWorker:
    """From the supervisor to a worker process."""

    WAKE: Final = b"w"
    """There may be jobs: look."""
    DRAIN: Final = b"d"
    """Start nothing more, finish what runs, end."""
    ABORT: Final = b"a"
    """Do not wait for what runs, end."""
    STACKS: Final = b"s"
    """Write the stacks of your event loop's tasks."""
    CANCEL: Final = b"c"
    """Somebody has cancelled jobs that you hold: ask the database which."""
    EVICT: Final = b"e"
    """Your locks were given to others: end."""


class FromWorker:
    """From a worker process to the supervisor."""

    READY: Final = b"r"
    """Its first claim was answered, or the database is away: it works as it should."""
    MORE: Final = b"m"
    """A claim brought all that was asked for, so there may be work for another process."""
    IDLE: Final = b"i"
    """It holds no job and found none."""
    RECYCLE: Final = b"c"
    """It has reached one of its limits and is to be replaced."""


class Exit:
    """Exit codes of a worker process."""

    DRAINED: Final = 0
    """It was told to drain, and has."""
    BUG: Final = 70
    """An exception of ours; its traceback is in the log."""
    ABORTED: Final = 75
    """It was told to abort; what is still locked by it is to be given back uncharged."""
    EVICTED: Final = 76
    """Somebody has retired it, since its heartbeats had not come for too long."""


class Lines:
    """JSON objects, a line each, over a stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    @staticmethod
    def encode(**message: Any) -> bytes:
        """Return one object as a line."""
        return json.dumps(message).encode() + b"\n"

    def send(self, **message: Any) -> None:
        """Send one object."""
        self.sock.sendall(self.encode(**message))

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take in what was received and return the objects that are now complete."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]


def describe_status(code: int) -> str:
    """Return in words how a process ended, by its exit code or, negative, its signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
