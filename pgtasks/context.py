"""What a handler is told about the job that it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgtasks.errors import TaskDefinitionError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from pgtasks.errors import JobAbortedError
    from pgtasks.job import Job


class Abort:
    """Whether a job is asked to stop, and why: `ctx.abort`.

    It is set when the job has run for longer than its task's `timeout`, when the worker stops without waiting for its
    jobs, and when the worker can no longer be sure that it holds them. For plain handlers, which nothing can interrupt
    from outside: they look at it now and then. An `async def` handler is cancelled at the same moment.
    """

    __slots__ = ("_error", "_event")

    def __init__(self) -> None:
        self._error: JobAbortedError | None = None
        self._event = threading.Event()

    @property
    def error(self) -> JobAbortedError | None:
        """What `raise_if_set` raises, or None if the job is not asked to stop."""
        return self._error

    def is_set(self) -> bool:
        """Whether the job is asked to stop."""
        return self._error is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is asked to stop, for at most so many seconds; return whether it is.

        In a plain handler, in place of `time.sleep`; in an `async def` one it would block the event loop.
        """
        self._event.wait(timeout)
        return self.is_set()

    def raise_if_set(self) -> None:
        """End the handler if the job is asked to stop.

        Raises:
            JobTimeoutError: it has run for longer than its task's `timeout`; the attempt has failed.
            JobAbortedError: the worker cannot wait for it; the job is given back, and the attempt is not charged.
        """
        if self._error is not None:
            raise type(self._error)(*self._error.args)


@dataclass(frozen=True, slots=True)
class JobContext:
    """The second argument of a handler that wants one: `def handler(payload, ctx: JobContext)`."""

    job: Job
    """The job as it was claimed."""
    transaction: Any = field(default=None, repr=False)
    """The connection of a transactional task, in its open transaction; see `connection`."""
    log: Any = field(default_factory=lambda: get_logger("pgtasks.task"), repr=False)
    """A structlog logger whose records carry the job's id, task, attempt, queue and key."""
    abort: Abort = field(default_factory=Abort, repr=False)
    """Whether the job is asked to stop."""
    deadline: float | None = None
    """When it will be, by `time.monotonic()`, if it is still running then; None without a time limit."""

    @property
    def connection(self) -> Any:
        """The psycopg connection in whose transaction a task with `transactional=True` runs.

        A `psycopg.Connection` for a plain handler, a `psycopg.AsyncConnection` for an `async def` one. What is written
        on it commits together with the job's end, or not at all; it must not be committed or closed by the handler.

        Raises:
            TaskDefinitionError: the task is not transactional.
        """
        if self.transaction is None:
            raise TaskDefinitionError(
                f"Task {self.job.task!r} has no transaction; declare it with @task(transactional=True), "
                f"or take a connection of its own from App.connection()"
            )
        return self.transaction

    @property
    def attempt(self) -> int:
        """Which attempt at the job this is, counted from 1."""
        return self.job.attempts
