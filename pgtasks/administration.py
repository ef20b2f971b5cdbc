"""Administration: looking at jobs and changing them by hand, from blocking and from asyncio code.

Each method is made of one definition, a function that gives the operation. The definitions carry the docstrings and
the signatures of both kinds.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from pgtasks.job import Job
from pgtasks.queue import admin, progress
from pgtasks.queue import cancel as cancelling
from pgtasks.queue.admin import JobPage

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Coroutine, Iterable

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.database import Operation
    from pgtasks.progress import JobProgress
    from pgtasks.queue.admin import (
        CleanupOperation,
        CleanupResult,
        JobChange,
        JobState,
        QueueInfo,
        TaskInfo,
        WorkerInfo,
    )
    from pgtasks.queue.cancel import JobCancellation
    from pgtasks.sql import Statements

    Connection = BlockingConnection | AsyncConnection | None
    """A connection of the kind that the method is of; None: one of the application's pool."""

P = ParamSpec("P")
T = TypeVar("T")
Method = TypeVar("Method", bound="Callable[..., Any]")


class Host(Protocol):
    """What runs the operations: the App."""

    @property
    def statements(self) -> Statements:
        """The SQL statements."""

    def wait_for(self, job: Job | int, timeout: dt.timedelta | float | None = None) -> Any:
        """Wait until a job has ended."""

    async def wait_for_async(self, job: Job | int, timeout: dt.timedelta | float | None = None) -> Any:
        """Wait until a job has ended."""

    def run(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""


# Definitions. `connection` is the caller's business, and stands here for the signature.


def _get(sql: Statements, job_id: int, *, connection: Connection = None) -> Operation[Job | None]:
    """Return a job by its id, or None if there is none: it has succeeded, or never was."""
    return admin.get(sql, job_id)


def _list(
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
    connection: Connection = None,
) -> Operation[JobPage]:
    """Return a page of jobs, newest first.

    Filters are joined by *and*. `key`, `locked_by`, and the states `running` and `failed` are found by an index. For
    any other filter a page looks at 20,000 jobs at most, so it may be short or even empty while `next` leads on.

    Args:
        task: only jobs of the task of this name.
        queue: only jobs of the queue of this name.
        state: only jobs that are `ready`, `scheduled`, `running` or `failed`.
        key: only the job that has this job key.
        flag: only jobs with this flag.
        locked_by: only jobs that this worker holds.
        limit: the most jobs to return, from 1 to 10,000.
        after: `next` of the page before. It is a position, and so stays good while jobs come and go.
        connection: where to look, in whatever transaction is open there; by default one of the app's pool.

    Raises:
        JobOptionError: an argument is not what it can be.
    """
    return admin.list_jobs(
        sql,
        task=task,
        queue=queue,
        state=state,
        key=key,
        flag=flag,
        locked_by=locked_by,
        limit=limit,
        after=after,
    )


def _complete(sql: Statements, job_ids: Iterable[int], *, connection: Connection = None) -> Operation[list[JobChange]]:
    """Delete jobs as if they had succeeded.

    A job that a worker has held for less than 4 hours is left alone, also by the other calls that take ids.

    Returns:
        For each id, in their order and each once, what was done, or why nothing was.

    Raises:
        JobOptionError: an id is not a whole number, or there are more than 10,000.
    """
    return admin.complete(sql, job_ids)


def _fail(
    sql: Statements, job_ids: Iterable[int], reason: str | None = None, *, connection: Connection = None
) -> Operation[list[JobChange]]:
    """Mark jobs as permanently failed, with `reason` as their `last_error`; returns and raises as `complete`."""
    return admin.fail(sql, job_ids, reason)


def _reschedule(
    sql: Statements,
    job_ids: Iterable[int],
    *,
    run_at: dt.datetime | None = None,
    delay: dt.timedelta | float | None = None,
    priority: int | None = None,
    attempts: int | None = None,
    max_attempts: int | None = None,
    connection: Connection = None,
) -> Operation[list[JobChange]]:
    """Change when jobs run, and how often; what is None stays as it is. Returns and raises as `complete`.

    Args:
        job_ids: ids of the jobs.
        run_at: aware datetime before which they do not run.
        delay: instead of `run_at`: how long after now, by the database's clock, as a timedelta or in seconds.
        priority: lower runs earlier.
        attempts: how often they count as started.
        max_attempts: how often they may be started.
        connection: where to do it, in whatever transaction is open there; by default one of the app's pool.
    """
    return admin.reschedule(
        sql,
        job_ids,
        run_at=run_at,
        delay=delay,
        priority=priority,
        attempts=attempts,
        max_attempts=max_attempts,
    )


def _retry(sql: Statements, job_ids: Iterable[int], *, connection: Connection = None) -> Operation[list[JobChange]]:
    """Let permanently failed jobs run again, now, with all their attempts; returns and raises as `complete`.

    Jobs that are not failed are left alone. `last_error` stays until the next attempt ends.
    """
    return admin.retry(sql, job_ids)


def _remove(sql: Statements, key: str, *, connection: Connection = None) -> Operation[Job | None]:
    """Remove the job that has this job key, and return it; None if there is none.

    A job that a worker holds (`job.locked_by` is set) runs to its end, but loses its key and is not tried again.
    """
    return admin.remove(sql, key)


def _cancel(
    sql: Statements, job_ids: Iterable[int], reason: str | None = None, *, connection: Connection = None
) -> Operation[list[JobCancellation]]:
    """Cancel jobs, wherever they are: none of them runs again.

    One that waits, or has failed permanently, is deleted. One that runs is asked to stop as at its time limit, and is
    deleted when it has; if it has not within its grace, its process is killed. If it ends well all the same, it has
    succeeded. A Graphile Worker cannot be asked, so what it holds runs to its end.

    Args:
        job_ids: ids of the jobs.
        reason: why, for the log and for triggers; the handler is told, too.
        connection: where to do it, in whatever transaction is open there; by default one of the app's pool. Workers
            hear of it when that transaction commits.

    Returns:
        For each id, in their order and each once, what became of the job.

    Raises:
        JobOptionError: an id is not a whole number, or there are more than 10,000.
    """
    return cancelling.cancel(sql, job_ids, reason)


def _force_unlock(
    sql: Statements, worker_ids: Iterable[str], *, connection: Connection = None
) -> Operation[list[WorkerInfo]]:
    """Take all jobs and queues from workers, which must be dead: a job that is running would be run twice.

    Returns:
        For each id, in their order, what that worker held; `jobs` is 0 where it was nothing.
    """
    return admin.force_unlock(sql, worker_ids)


def _queues(
    sql: Statements, limit: int = 100, *, after: str | None = None, connection: Connection = None
) -> Operation[list[QueueInfo]]:
    """Return the first `limit` named queues, in the order of their names; `after` a name, those that follow it."""
    return admin.queues(sql, limit, after)


def _tasks(
    sql: Statements, limit: int = 1_000, *, after: str | None = None, connection: Connection = None
) -> Operation[list[TaskInfo]]:
    """Return the first `limit` tasks, in the order of their names; `after` a name, those that follow it."""
    return admin.tasks(sql, limit, after)


def _workers(sql: Statements, limit: int = 1_000, *, connection: Connection = None) -> Operation[list[WorkerInfo]]:
    """Return the workers that are running or hold jobs, in the order of their ids."""
    return admin.workers(sql, limit)


def _progress(
    sql: Statements,
    job_ids: Iterable[int] | None = None,
    *,
    limit: int = 10_000,
    connection: Connection = None,
) -> Operation[list[JobProgress]]:
    """Return how far running jobs have come, as their handlers say with `ctx.progress`, in the order of their ids.

    Jobs that are not running, or whose handlers say nothing, are left out. A standby knows of none.

    Args:
        job_ids: ids of the jobs; by default all that are running.
        limit: the most to return, from 1 to 10,000.
        connection: where to look; by default one of the app's pool.

    Raises:
        JobOptionError: an id is not a whole number, or there are more than 10,000.
    """
    return progress.list_progress(sql, job_ids, limit)


def _cleanup(
    sql: Statements, *operations: CleanupOperation, limit: int = 10_000, connection: Connection = None
) -> Operation[CleanupResult]:
    """Clear away what nobody needs any more, while workers run and jobs are added.

    Args:
        operations: `GC_TASK_IDENTIFIERS` forgets tasks that no job has, `GC_JOB_QUEUES` queues that no job has, and
            `DELETE_PERMAFAILED_JOBS` deletes the jobs that are permanently failed, oldest first.
        limit: the most of each kind to remove in this call, from 1 to 10,000; `more` in the result tells that there
            are others.
        connection: where to do it. The locks that keep jobs from being added to what is being forgotten are held
            until its transaction ends, so there had better be none.

    Raises:
        JobOptionError: an operation is unknown, or none is given.
    """
    return admin.cleanup(sql, operations, limit)


# Methods of them


def _blocking(define: Callable[Concatenate[Statements, P], Operation[T]]) -> Callable[Concatenate[Jobs, P], T]:
    @functools.wraps(define)
    def method(self: Jobs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        host, connection = self._host, kwargs.get("connection")
        result = host.run(define(host.statements, *args, **kwargs), connection)
        if admin.is_empty(result):
            host.run(admin.check_visible(host.statements), connection)
        return _bound(result, host)

    return dressed(method, define, "Jobs")


def _asynchronous(
    define: Callable[Concatenate[Statements, P], Operation[T]],
) -> Callable[Concatenate[AsyncJobs, P], Coroutine[Any, Any, T]]:
    @functools.wraps(define)
    async def method(self: AsyncJobs, /, *args: P.args, **kwargs: P.kwargs) -> T:
        host, connection = self._host, kwargs.get("connection")
        result = await host.run_async(define(host.statements, *args, **kwargs), connection)
        if admin.is_empty(result):
            await host.run_async(admin.check_visible(host.statements), connection)
        return _bound(result, host)

    return dressed(method, define, "AsyncJobs")


def _bound(result: T, host: Host) -> T:
    """Let the jobs in a result be waited for."""
    for job in result.jobs if isinstance(result, JobPage) else (result,):
        if isinstance(job, Job):
            job.__dict__["_app"] = host
    return result


def dressed(method: Method, define: Callable[..., Any], owner: str) -> Method:
    """Make `help()`, documentation tools and tracebacks show the method as one that was written in its class."""
    signature = inspect.signature(define)
    _, *parameters = signature.parameters.values()
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    returns = str(signature.return_annotation).removeprefix("Operation[").removesuffix("]")
    dressed: Any = method
    dressed.__name__ = define.__name__.removeprefix("_")
    dressed.__qualname__ = f"{owner}.{dressed.__name__}"
    define.__qualname__ = dressed.__name__  # Python names it in complaints of arguments
    dressed.__signature__ = signature.replace(parameters=[own, *parameters], return_annotation=returns)
    dressed.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": returns}
    return method


class Jobs:
    """Looking at jobs and changing them, from blocking code: `app.jobs`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    get = _blocking(_get)
    list = _blocking(_list)
    complete = _blocking(_complete)
    fail = _blocking(_fail)
    reschedule = _blocking(_reschedule)
    retry = _blocking(_retry)
    remove = _blocking(_remove)
    cancel = _blocking(_cancel)
    force_unlock = _blocking(_force_unlock)
    queues = _blocking(_queues)
    tasks = _blocking(_tasks)
    workers = _blocking(_workers)
    progress = _blocking(_progress)
    cleanup = _blocking(_cleanup)

    def wait(self, job_id: int, timeout: dt.timedelta | float | None = None) -> Any:
        """Do what `Job.wait` does, for the job of this id; returns None also if there never was one."""
        return self._host.wait_for(job_id, timeout)


class AsyncJobs:
    """Looking at jobs and changing them, from asyncio code: `app.jobs_async`. Its methods are those of `Jobs`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    get = _asynchronous(_get)
    list = _asynchronous(_list)
    complete = _asynchronous(_complete)
    fail = _asynchronous(_fail)
    reschedule = _asynchronous(_reschedule)
    retry = _asynchronous(_retry)
    remove = _asynchronous(_remove)
    cancel = _asynchronous(_cancel)
    force_unlock = _asynchronous(_force_unlock)
    queues = _asynchronous(_queues)
    tasks = _asynchronous(_tasks)
    workers = _asynchronous(_workers)
    progress = _asynchronous(_progress)
    cleanup = _asynchronous(_cleanup)

    async def wait(self, job_id: int, timeout: dt.timedelta | float | None = None) -> Any:
        """Do what `Job.wait` does, for the job of this id; returns None also if there never was one."""
        return await self._host.wait_for_async(job_id, timeout)
