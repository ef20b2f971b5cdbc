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


_EARLIEST = -(2**63)
"""Stands for `-infinity`, which is no place to go on from."""


class Restored(NamedTuple):
    """What a call of `restore_names` did."""

    tasks: int
    """How many tasks it registered again."""
    queues: int
    """How many queues it put back."""
    jobs: int
    """How many jobs it gave the number that their task or queue has now."""


class Mark(NamedTuple):
    """The place of a job in claim order."""

    priority: int
    run_at: int
    """Microseconds since 2000."""
    id: int


class Claimed(NamedTuple):
    """What a call of `claim_jobs` brought."""

    jobs: list[Job]
    """In the order in which they are to be started."""
    marks: list[Mark]
    """The place of the last job of each priority."""
    look_seconds: float
    """How long the database took to find and lock the jobs, or to find none."""


def register_tasks(sql: Statements, tasks: Sequence[str]) -> Operation[int]:
    """Make the names of `tasks` known to the queue; returns how many were not yet."""
    return Operation("register_tasks", sql.get("register_tasks"), (list(tasks),), _count)


def restore_names(sql: Statements, tasks: Sequence[str], max_age: float | None) -> Operation[Restored]:
    """Register those of `tasks` that are missing, and put back what a cleanup has deleted while a job was being added.

    Looks at what was deleted within `max_age` seconds, or with None at all that can still be put back.
    """
    return Operation("restore_names", sql.get("restore_names"), (list(tasks), max_age), _restored)


def claim_jobs(
    sql: Statements,
    worker_id: str,
    tasks: Sequence[str],
    forbidden_flags: Sequence[str],
    limit: int,
    free_slots: int,
    near: Sequence[Mark] | None = None,
    forbidden_queues: Sequence[str] = (),
) -> Operation[Claimed]:
    """Lock up to `limit` runnable jobs for `worker_id`.

    A job on its last attempt is taken only if it is among the first `free_slots`, since it must not wait in a worker
    that may die. Given `near`, only jobs are looked at that have the priority of one of these marks and come after it.
    Jobs of `forbidden_queues` are left alone, as those of queues that somebody else has locked are.
    """
    marks = (None, None, None) if near is None else tuple(list(column) for column in zip(*near, strict=True))
    parameters = (worker_id, list(tasks), list(forbidden_flags), limit, free_slots, *marks, list(forbidden_queues))
    return Operation("claim_jobs", sql.get("claim_jobs"), parameters, _claimed, UNREAD_TIMES)


def has_runnable(
    sql: Statements, tasks: Sequence[str], forbidden_flags: Sequence[str], forbidden_queues: Sequence[str] = ()
) -> Operation[bool]:
    """Ask whether a claim could take a job now."""
    parameters = (list(tasks), list(forbidden_flags), list(forbidden_queues))
    return Operation("has_runnable", sql.get("has_runnable"), parameters, _truth)


def find_unknown_tasks(sql: Statements, tasks: Sequence[str], look_at: int = 1000) -> Operation[dict[str, int]]:
    """Ask which tasks other than `tasks` the next `look_at` jobs are for, and how many of them."""
    return Operation("unknown_tasks", sql.get("unknown_tasks"), (list(tasks), look_at), dict)


def _claimed(rows: list[Row]) -> Claimed:
    if rows[0][0] is None:
        return Claimed([], [], rows[0][16])
    last = {row[2]: Mark(row[2], row[3], row[0]) for row in rows[-1:]}  # in claim order
    if rows[0][2] != rows[-1][2]:
        last = {row[2]: Mark(row[2], row[3], row[0]) for row in rows}
    marks = [mark for mark in last.values() if mark.run_at > _EARLIEST]
    return Claimed([job_from_row(row, row[14], row[15]) for row in rows], marks, rows[0][16])


def _restored(rows: list[Row]) -> Restored:
    return Restored(*rows[0])


def _count(rows: list[Row]) -> int:
    return int(rows[0][0])


def _truth(rows: list[Row]) -> bool:
    return bool(rows[0][0])
