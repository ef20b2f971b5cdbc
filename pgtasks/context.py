"""What a handler is told about the job that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgtasks.errors import TaskDefinitionError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from pgtasks.job import Job


@dataclass(frozen=True, slots=True)
class JobContext:
    """The second argument of a handler that wants one: `def handler(payload, ctx: JobContext)`."""

    job: Job
    """The job as it was claimed."""
    transaction: Any = field(default=None, repr=False)
    """The connection of a transactional task, in its open transaction; see `connection`."""
    log: Any = field(default_factory=lambda: get_logger("pgtasks.task"), repr=False)
    """A structlog logger whose records carry the job's id, task, attempt, queue and key."""

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
