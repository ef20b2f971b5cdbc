"""What goes on in the queue at a moment, for `pgtasks top`: each look is bounded, however large the table is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.arguments import MAX_LIMIT, check_limit
from pgtasks.queue.progress import progress_from

if TYPE_CHECKING:
    import datetime as dt

    from pgtasks.database import Row
    from pgtasks.progress import JobProgress
    from pgtasks.sql import Statements

COUNT_LIMIT = MAX_LIMIT
"""Where the count of jobs of each state stops."""
_PRIORITIES = 100
"""How many priorities are looked at for ready and for scheduled jobs."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker holds."""

    id: int
    task: str
    queue: str | None
    attempt: int
    max_attempts: int
    worker_id: str
    locked_at: dt.datetime
    age: float
    """How long it has been held, in seconds by the database's clock."""
    progress: JobProgress | None


class Counts(NamedTuple):
    """How many jobs there are by where they stand, each counted up to `COUNT_LIMIT` over all tasks."""

    ready: int
    scheduled: int
    running: int
    failed: int


@dataclass(frozen=True, slots=True)
class Survey:
    """Where the jobs stand."""

    all: Counts
    tasks: list[tuple[str, Counts]]
    """The tasks of which most jobs are running or ready, among those that were counted."""
    queues: list[tuple[str, Counts]]
    """Likewise the queues."""


def list_running(sql: Statements, limit: int) -> Operation[list[RunningJob]]:
    """Look at the jobs that workers have held for longest, and how far they have come."""
    return Operation("list_running", sql.get("list_running"), (check_limit(limit), MAX_LIMIT), _running)


def survey(sql: Statements, names: int) -> Operation[Survey]:
    """Count jobs, and find so many tasks and queues with most of them."""
    return Operation("survey", sql.get("survey"), (COUNT_LIMIT, _PRIORITIES, names), _survey)


def _running(rows: list[Row]) -> list[RunningJob]:
    jobs = []
    for row in rows:
        job_id, *_, worker_id, locked_at, age = row[:8]
        progress = None if row[8] is None else progress_from(job_id, worker_id, row[8:])
        jobs.append(RunningJob(job_id, row[1], row[2], row[3], row[4], worker_id, locked_at, age, progress))
    return jobs


def _survey(rows: list[Row]) -> Survey:
    found: dict[str, list[tuple[str, Counts]]] = {"all": [], "task": [], "queue": []}
    for kind, name, *counts in rows:
        found[kind].append((name, Counts(*counts)))
    for listed in (found["task"], found["queue"]):
        listed.sort(
            key=lambda each: (-(each[1].running + each[1].ready), -(each[1].scheduled + each[1].failed), each[0])
        )
    return Survey(found["all"][0][1], found["task"], found["queue"])
