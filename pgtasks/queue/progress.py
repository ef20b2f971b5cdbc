"""How far running jobs have come: writing what their handlers say, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.database import Operation
from pgtasks.progress import JobProgress
from pgtasks.queue.arguments import check_id, check_limit, each_checked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pgtasks.database import Row
    from pgtasks.job import Job
    from pgtasks.progress import Report
    from pgtasks.sql import Statements

_EXACT = 2**53
"""Up to here every whole number is a float."""


def report_progress(
    sql: Statements, worker_id: str, ended: Collection[int], reports: Collection[tuple[Job, Report]]
) -> Operation[set[int]]:
    """Write how far jobs have come that a worker runs, and forget it of those that have ended.

    Returns:
        Ids of the jobs that the worker still holds; nothing was written about the others.
    """
    parameters = (
        worker_id,
        list(ended),
        [job.id for job, _ in reports],
        [job.locked_at for job, _ in reports],
        [job.attempts for job, _ in reports],
        [report.done for _, report in reports],
        [report.total for _, report in reports],
        [report.note for _, report in reports],
    )
    return Operation("report_progress", sql.get("report_progress"), parameters, _ids)


def list_progress(sql: Statements, job_ids: Iterable[int] | None, limit: int) -> Operation[list[JobProgress]]:
    """Look how far jobs have come, or all that are running, in the order of their ids."""
    ids = None if job_ids is None else each_checked("job_ids", "whole numbers", job_ids, check_id)
    return Operation("list_progress", sql.get("list_progress"), (ids, check_limit(limit)), _all)


def progress_from(job_id: int, worker_id: str, row: Row) -> JobProgress:
    """Return the progress of a row with: attempt, done, total, note, updated_at, age."""
    attempt, done, total, note, updated_at, age = row
    return JobProgress(
        job_id, worker_id, attempt, _whole(done), None if total is None else _whole(total), note, updated_at, age
    )


def _all(rows: list[Row]) -> list[JobProgress]:
    return [progress_from(row[0], row[1], row[2:]) for row in rows]


def _ids(rows: list[Row]) -> set[int]:
    return {row[0] for row in rows}


def _whole(number: float) -> float:
    return int(number) if number.is_integer() and number < _EXACT else number
