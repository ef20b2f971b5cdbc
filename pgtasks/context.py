"""What a handler is told about the job that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from pgtasks.job import Job


@dataclass(frozen=True, slots=True)
class JobContext:
    """The second argument of a handler that wants one: `def handler(payload, ctx: JobContext)`."""

    job: Job
    """The job as it was claimed."""
    log: Any = field(default_factory=lambda: get_logger("pgtasks.task"), repr=False)
    """A structlog logger whose records carry the job's id, task, attempt, queue and key."""

    @property
    def attempt(self) -> int:
        """Which attempt at the job this is, counted from 1."""
        return self.job.attempts
