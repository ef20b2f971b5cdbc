"""Cancelling jobs: those that wait are removed, those that run are noted for the workers that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.queue.arguments import check_id, check_text, each_checked
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgtasks.database import Row
    from pgtasks.job import Job
    from pgtasks.sql import Statements

CHANNEL: Final = "pgtasks:cancel"
"""Where workers hear that they hold cancelled jobs: a worker's id is all that is said. Not for others to use."""

CancelState = Literal["removed", "stopping", "running", "unknown"]
"""What became of a job that was cancelled:

- `removed`: it was waiting or had failed permanently, and is deleted;
- `stopping`: a worker of pgtasks holds it, and is told to stop it;
- `running`: a Graphile Worker holds it, which cannot be told, so it runs to its end;
- `unknown`: there is no such job.

None of them runs again.
"""


@dataclass(frozen=True, slots=True)
class JobCancellation:
    """What was done about one of the jobs that were to be cancelled."""

    id: int
    """The id that was named."""
    state: CancelState
    """What became of the job."""
    job: Job | None
    """The job as it was deleted, or as it is now; its worker is `job.locked_by`. None if there is no such job."""

    @property
    def done(self) -> bool:
        """Whether there was such a job, so that it is cancelled."""
        return self.job is not None


class Pending(NamedTuple):
    """A job that somebody has cancelled and that a worker still holds."""

    worker_id: str
    job_id: int
    locked_micros: int
    """When it was claimed, in microseconds since 2000, which tells two claims of one job apart."""
    task: str | None
    """Its task's name; None if somebody has deleted that."""
    reason: str | None
    """Why it was cancelled, if that was said."""

    @property
    def token(self) -> tuple[int, int]:
        """What tells its claim from all others, as `Claim.token` does."""
        return self.job_id, self.locked_micros


def cancel(sql: Statements, job_ids: Iterable[int], reason: str | None = None) -> Operation[list[JobCancellation]]:
    """Cancel jobs."""
    check_text("reason", reason)
    ids = each_checked("job_ids", "whole numbers", job_ids, check_id)
    return Operation("cancel_jobs", sql.get("cancel_jobs"), (ids, reason), _cancellations, UNREAD_TIMES)


def find_cancellations(sql: Statements, worker_ids: Sequence[str]) -> Operation[list[Pending]]:
    """Look for cancelled jobs that these workers hold."""
    return Operation("find_cancellations", sql.get("find_cancellations"), (list(worker_ids),), _pending, UNREAD_TIMES)


def sweep_cancellations(sql: Statements) -> Operation[int]:
    """Delete cancelled jobs that nobody holds any more, and forget what has ended; returns how many were deleted."""
    return Operation("sweep_cancellations", sql.get("sweep_cancellations"), (), _count)


def _cancellations(rows: list[Row]) -> list[JobCancellation]:
    return [
        JobCancellation(row[16], row[17], None if row[0] is None else job_from_row(row, row[14], row[15]))
        for row in rows
    ]


def _pending(rows: list[Row]) -> list[Pending]:
    return [Pending(*row) for row in rows]


def _count(rows: list[Row]) -> int:
    return int(rows[0][0])
