"""Taking jobs, and looking whether there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.database import Row
    from pgtasks.job import Job
    from pgtasks.sql import Statements


class Restored(NamedTuple):
    """What a call of `restore_names` did."""

    tasks: int
    """How many tasks it registered again."""
    queues: int
    """How many queues it put back."""
    jobs: int
    """How many jobs it gave the number that their task or queue has now."""


def register_tasks(sql: Statements, tasks: Sequence[str]) -> Operation[int]:
    """Make the names of `tasks` known to the queue; returns how many were not yet."""
    return Operation("register_tasks", sql.get("register_tasks"), (list(tasks),), _count)


def restore_names(sql: Statements, tasks: Sequence[str], max_age: float | None) -> Operation[Restored]:
    """Register those of `tasks` that are missing, and put back what a cleanup has deleted while a job was being added.

    Looks at what was deleted within `max_age` seconds, or with None at all that can still be put back.
    """
    return Operation("restore_names", sql.get("restore_names"), (list(tasks), max_age), _restored)


def claim_jobs(
    sql: Statements, worker_id: str, tasks: Sequence[str], forbidden_flags: Sequence[str], limit: int, free_slots: int
) -> Operation[list[Job]]:
    """Lock up to `limit` runnable jobs for `worker_id`, in the order in which they are to be started.

    A job on its last attempt is taken only if it is among the first `free_slots`, since it must not wait in a worker
    that may die.
    """
    parameters = (worker_id, list(tasks), list(forbidden_flags), limit, free_slots)
    return Operation("claim_jobs", sql.get("claim_jobs"), parameters, _claimed, UNREAD_TIMES)


def has_runnable(sql: Statements, tasks: Sequence[str], forbidden_flags: Sequence[str]) -> Operation[bool]:
    """Ask whether a claim could take a job now."""
    return Operation("has_runnable", sql.get("has_runnable"), (list(tasks), list(forbidden_flags)), _truth)


def find_unknown_tasks(sql: Statements, tasks: Sequence[str], look_at: int = 1000) -> Operation[dict[str, int]]:
    """Ask which tasks other than `tasks` the next `look_at` jobs are for, and how many of them."""
    return Operation("unknown_tasks", sql.get("unknown_tasks"), (list(tasks), look_at), dict)


def _claimed(rows: list[Row]) -> list[Job]:
    return [job_from_row(row, row[14], row[15]) for row in rows]


def _restored(rows: list[Row]) -> Restored:
    return Restored(*rows[0])


def _count(rows: list[Row]) -> int:
    return int(rows[0][0])


def _truth(rows: list[Row]) -> bool:
    return bool(rows[0][0])
