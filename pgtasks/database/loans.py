"""Which connections somebody has borrowed, so that what they wait for can be cancelled from outside.

Only connections of blocking code are noted. A thread that waits for the server cannot be interrupted but through the
server; an asyncio task is cancelled instead, and psycopg then cancels the statement that it waits for.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pgtasks.logs.context import current_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from psycopg import Connection

    from pgtasks.logs.context import RunningJob

_CANCEL_SECONDS = 5.0
"""How long the server may take to accept a cancellation."""


class Loans:
    """The connections that are lent to one job, or to all that share a run, in whichever threads they run."""

    def __init__(self) -> None:
        self._lent: dict[Connection[Any], RunningJob | None] = {}
        self._cancelled: set[Connection[Any]] = set()
        self._lock = threading.Lock()

    def add(self, connection: Connection[Any]) -> None:
        """Note that `connection` is lent."""
        with self._lock:
            self._lent[connection] = current_record()

    def end(self, connection: Connection[Any]) -> None:
        """Note that it is given back; closes it if a statement of its was cancelled.

        The cancellation may still be on its way, and must not meet whoever borrows the connection next.
        """
        with self._lock:
            self._lent.pop(connection, None)
            cancelled = connection in self._cancelled
            self._cancelled.discard(connection)
        if cancelled:
            connection.close()

    def recall(self, ask: Callable[[], object], job_id: int | None = None) -> list[Connection[Any]]:
        """Call `ask`, and return the connections that were lent at that moment, for `cancel_statements`.

        What a handler borrows once it has been asked to stop is for its last words, which nobody is to interrupt.

        Args:
            ask: asks whoever has borrowed them to stop. Must not block.
            job_id: only those that this job has borrowed; None: all.
        """
        with self._lock:
            ask()
            connections = [
                connection
                for connection, job in self._lent.items()
                if job_id is None or (job is not None and job.id == job_id)
            ]
            self._cancelled.update(connections)
        return connections


def cancel_statements(connections: Iterable[Connection[Any]]) -> None:
    """Have the server cancel what it does now on these connections; blocks until it has been told."""
    for connection in connections:
        with contextlib.suppress(psycopg.Error):  # it has just been given back, or there is no server to ask
            connection.cancel_safe(timeout=_CANCEL_SECONDS)


current_loans: Final[ContextVar[Loans | None]] = ContextVar("pgtasks_loans", default=None)
"""Where connections that are lent in this context are noted; by default nowhere."""
