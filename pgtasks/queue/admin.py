"""Looking at jobs and changing them by hand. What takes several steps is one SQL statement, so nothing is half-done."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.errors import DatabaseUnavailableError, JobOptionError
from pgtasks.job import JobSpec
from pgtasks.queue.arguments import (
    MAX_LIMIT,
    SMALLINT,
    check_id,
    check_limit,
    check_one_of,
    check_string,
    check_text,
    check_whole,
    cursor_at,
    each_checked,
    position_of,
)
from pgtasks.queue.cancel import JobCancellation
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from pgtasks.database import Row
    from pgtasks.job import Job
    from pgtasks.sql import Statements

T = TypeVar("T")

JobState = Literal["ready", "scheduled", "running", "failed"]
"""Where a job stands:

- `ready`: it can be claimed now, or as soon as its queue is free;
- `scheduled`: its `run_at` is still to come, be it that it was added so or that it waits for its next attempt;
- `running`: a worker holds it;
- `failed`: its attempts are used up.
"""

CleanupOperation = Literal["GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES", "DELETE_PERMAFAILED_JOBS"]
"""What `cleanup` can do: forget tasks, or queues, that no job has; delete jobs that are permanently failed."""

LOOK_AT = 20_000
"""How many jobs one page of `list` looks at, where no index leads to those that are wanted."""
COUNT_LIMIT = 1_000
"""Where counts by queue and by task stop."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first."""

    jobs: tuple[Job, ...]
    next: str | None
    """What to give as `after` for the next page; None if this was the last one.

    A page may be short or empty and yet have a next one: each looks at a bounded number of jobs.
    """


@dataclass(frozen=True, slots=True)
class JobChange:
    """What was done about one of the jobs that a call named."""

    id: int
    """The id that was named."""
    job: Job | None
    """The job as it was deleted, or as it is after the change; None if nothing was done."""
    reason: str | None
    """Why nothing was done: `unknown`, `locked by <worker>`, `changed meanwhile`, and for `retry` also `not failed`."""

    @property
    def done(self) -> bool:
        """Whether the job was changed."""
        return self.job is not None


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A named queue."""

    name: str
    locked_by: str | None
    """The worker that runs one of its jobs; None if it is free."""
    locked_at: dt.datetime | None
    waiting: int
    """How many jobs are ready or scheduled in it; counted up to 1,000."""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task that the database knows by name."""

    name: str
    waiting: int
    """How many jobs of it are ready or scheduled; counted up to 1,000."""
    running: int
    """How many are held by workers; of all tasks together, 10,000 are looked at."""
    failed: int
    """How many are permanently failed, among the 10,000 newest failed jobs of all tasks."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker: a process of pgtasks, or of Graphile Worker, of which only the locks are known."""

    id: str
    """The worker's id, as in `Job.locked_by`."""
    jobs: int
    """How many jobs it holds; counted up to 1,000."""
    oldest_lock: dt.datetime | None
    """Since when it holds the oldest of them; None if it holds none."""
    host: str | None = None
    """The name of its host; this and what follows is None for a worker that is none of pgtasks'."""
    pid: int | None = None
    """Its process id there."""
    version: str | None = None
    """The release of pgtasks that it runs."""
    started_at: dt.datetime | None = None
    heartbeat_at: dt.datetime | None = None
    """When it was last heard of."""
    heartbeat_age: float | None = None
    """How long ago that was, in seconds by the database's clock."""
    succeeded: int | None = None
    """How many jobs it had run with success by then."""
    failed: int | None = None
    """How many attempts had failed."""
    running: int | None = None
    """How many jobs it was running."""


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What a cleanup has done."""

    tasks: int
    """How many tasks were forgotten."""
    queues: int
    """How many queues were forgotten."""
    jobs: int
    """How many permanently failed jobs were deleted."""
    more: bool
    """Whether there is more to do than one call does: call again."""
    busy: tuple[CleanupOperation, ...]
    """What was not done since a transaction that has added jobs, or another cleanup, is open: call again when it has
    ended."""


# Seeing


def is_empty(result: object) -> bool:
    """Whether a result may be that of somebody from whom the queue is hidden."""
    match result:
        case JobPage():
            return not result.jobs and result.next is None
        case CleanupResult():
            return not (result.tasks or result.queues or result.jobs or result.busy)
        case list():
            return not any(map(_tells_of_a_row, result))
    return result is None


def check_visible(sql: Statements) -> Operation[None]:
    """Ask whether row level security hides the queue's rows from the role; if so, running it raises an error."""
    return Operation("hidden_from", sql.get("hidden_from"), (), functools.partial(_raise_if_hidden, sql.schema))


def _tells_of_a_row(item: object) -> bool:
    match item:
        case JobChange():
            return item.reason != "unknown"
        case JobCancellation():
            return item.state != "unknown"
        case WorkerInfo():
            return item.oldest_lock is not None
    return True


def _raise_if_hidden(schema: str, rows: list[Row]) -> None:
    for role, owner in rows:
        raise DatabaseUnavailableError(
            f"row level security hides the queue in schema {schema!r} from role {role!r}: to anyone but its owner "
            f"{owner!r} its tables look empty, granted or not; connect as {owner!r}"
        )


# Looking


def get(sql: Statements, job_id: int) -> Operation[Job | None]:
    """Look up one job by its id."""
    return Operation("get_job", sql.get("get_job"), (check_id("job_id", job_id),), _job, UNREAD_TIMES)


def list_jobs(
    sql: Statements,
    *,
    task: str | None = None,
    queue: str | None = None,
    state: JobState | None = None,
    key: str | None = None,
    flag: str | None = None,
    locked_by: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Operation[JobPage]:
    """Look for the newest jobs that match all filters, before the place that `after` stands for."""
    for name, text in (("task", task), ("queue", queue), ("key", key), ("flag", flag), ("locked_by", locked_by)):
        check_text(name, text)
    if state is not None:
        check_one_of("state", state, get_args(JobState))
    parameters = (task, queue, state, key, flag, locked_by, check_limit(limit), position_of(after), LOOK_AT)
    return Operation("list_jobs", sql.get("list_jobs"), parameters, _page, UNREAD_TIMES)


def queues(sql: Statements, limit: int, after: str | None = None) -> Operation[list[QueueInfo]]:
    """Look at queues in the order of their names."""
    check_text("after", after)
    parameters = (check_limit(limit), after, COUNT_LIMIT)
    return Operation("list_queues", sql.get("list_queues"), parameters, _queue_infos)


def tasks(sql: Statements, limit: int, after: str | None = None) -> Operation[list[TaskInfo]]:
    """Look at tasks in the order of their names."""
    check_text("after", after)
    parameters = (check_limit(limit), after, COUNT_LIMIT, MAX_LIMIT)
    return Operation("list_tasks", sql.get("list_tasks"), parameters, _task_infos)


def task_names(sql: Statements, wanted: str) -> Operation[list[str]]:
    """Look for the name of a task, and for those of others among which its right spelling may be."""
    return Operation("task_names", sql.get("task_names"), (wanted, MAX_LIMIT), _names)


def workers(sql: Statements, limit: int) -> Operation[list[WorkerInfo]]:
    """Look at the workers that are running or hold jobs, in the order of their ids."""
    return Operation("list_workers", sql.get("list_workers"), (check_limit(limit), COUNT_LIMIT), _worker_infos)


# Changing


def complete(sql: Statements, job_ids: Iterable[int]) -> Operation[list[JobChange]]:
    """Delete jobs as if they had succeeded."""
    return _change(sql, "complete", job_ids)


def fail(sql: Statements, job_ids: Iterable[int], reason: str | None = None) -> Operation[list[JobChange]]:
    """Mark jobs as permanently failed."""
    check_text("reason", reason)
    return _change(sql, "fail", job_ids, reason)


def reschedule(
    sql: Statements,
    job_ids: Iterable[int],
    *,
    run_at: dt.datetime | None = None,
    delay: dt.timedelta | float | None = None,
    priority: int | None = None,
    attempts: int | None = None,
    max_attempts: int | None = None,
) -> Operation[list[JobChange]]:
    """Change when jobs run and how often; what is None stays as it is."""
    if all(value is None for value in (run_at, delay, priority, attempts, max_attempts)):
        raise JobOptionError("nothing is to be changed; give run_at, delay, priority, attempts or max_attempts")
    # A spec checks what is the same for a job that is to be added.
    spec = JobSpec(task="-", run_at=run_at, delay=delay, priority=priority, max_attempts=max_attempts)
    if attempts is not None:
        check_whole("attempts", attempts, SMALLINT)
    return _change(sql, "reschedule", job_ids, None, run_at, spec.delay_seconds, priority, attempts, max_attempts)


def retry(sql: Statements, job_ids: Iterable[int]) -> Operation[list[JobChange]]:
    """Let permanently failed jobs run again, now."""
    return _change(sql, "retry", job_ids)


def remove(sql: Statements, key: str) -> Operation[Job | None]:
    """Remove the job that has a key."""
    check_string("key", key)
    return Operation("remove_job", sql.get("remove_job"), (key,), _job, UNREAD_TIMES)


def force_unlock(sql: Statements, worker_ids: Iterable[str]) -> Operation[list[WorkerInfo]]:
    """Clear the locks of workers."""
    if isinstance(worker_ids, str):
        raise JobOptionError(f"worker_ids={worker_ids!r} must be a list of strings; write [{worker_ids!r}]")
    ids = each_checked("worker_ids", "strings", worker_ids, check_string)
    return Operation("force_unlock_workers", sql.get("force_unlock_workers"), (ids,), _worker_infos)


def cleanup(sql: Statements, operations: Iterable[CleanupOperation], limit: int) -> Operation[CleanupResult]:
    """Clear away what nobody needs any more."""
    known = get_args(CleanupOperation)
    wanted = list(operations)
    if not wanted:
        raise JobOptionError(f"nothing is to be cleaned up; give one or more of {', '.join(map(repr, known))}")
    for operation in wanted:
        check_one_of("operation", operation, known)
    parameters = (list(dict.fromkeys(wanted)), check_limit(limit))
    return Operation("cleanup", sql.get("cleanup"), parameters, _cleanup_result)


def has_own_functions(sql: Statements) -> Operation[bool]:
    """Look whether `add_job` and the others are those of pgtasks, and not Graphile Worker's."""
    return Operation("own_functions", sql.get("own_functions"), (), _is_true)


def _change(
    sql: Statements,
    action: str,
    job_ids: Iterable[int],
    reason: str | None = None,
    run_at: dt.datetime | None = None,
    delay: float | None = None,
    priority: int | None = None,
    attempts: int | None = None,
    max_attempts: int | None = None,
) -> Operation[list[JobChange]]:
    ids = each_checked("job_ids", "whole numbers", job_ids, check_id)
    parameters = (action, ids, reason, run_at, delay, priority, attempts, max_attempts)
    return Operation(f"{action}_jobs", sql.get("change_jobs"), parameters, _changes, UNREAD_TIMES)


# Results


def _job(rows: list[Row]) -> Job | None:
    return job_from_row(rows[0], rows[0][14], rows[0][15]) if rows and rows[0][0] is not None else None


def _page(rows: list[Row]) -> JobPage:
    jobs = tuple(job_from_row(row, row[14], row[15]) for row in rows if row[0] is not None)
    next_id = rows[0][16]
    return JobPage(jobs, None if next_id is None else cursor_at(next_id))


def _changes(rows: list[Row]) -> list[JobChange]:
    return [JobChange(row[16], _job([row]), row[17]) for row in rows]


def _queue_infos(rows: list[Row]) -> list[QueueInfo]:
    return [QueueInfo(*row) for row in rows]


def _task_infos(rows: list[Row]) -> list[TaskInfo]:
    return [TaskInfo(*row) for row in rows]


def _is_true(rows: list[Row]) -> bool:
    return any(row[0] for row in rows)


def _names(rows: list[Row]) -> list[str]:
    return [row[0] for row in rows]


def _worker_infos(rows: list[Row]) -> list[WorkerInfo]:
    return [WorkerInfo(*row) for row in rows]


def _cleanup_result(rows: list[Row]) -> CleanupResult:
    tasks, queues, jobs, more, busy = rows[0]
    return CleanupResult(tasks, queues, jobs, more, tuple(busy))
