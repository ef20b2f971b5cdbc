"""Looking at the jobs that a test's code has added, before they run."""

from __future__ import annotations

import contextlib
import functools
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from pgtasks.app import App, current_app
from pgtasks.errors import PayloadError
from pgtasks.plugins.payloads import decoded
from pgtasks.queue import admin
from pgtasks.tasks import Task
from pgtasks.testing.comparing import Wanted, as_stored
from pgtasks.testing.stepping import take, take_async

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.job import Job
    from pgtasks.tasks import AnyTask
    from pgtasks.testing.stepping import Steps

_PAGE = 10_000


def deferred_jobs(
    task: AnyTask | str | None = None,
    /,
    *,
    queue: str | EllipsisType | None = ...,
    app: App | None = None,
    connection: BlockingConnection | None = None,
) -> list[Job]:
    """Return the jobs that are in the database, in the order in which they were added.

    Those that have run with success are not there any more, those that have failed are.

    Args:
        task: only jobs of this task, or of the task of this name.
        queue: only jobs of this queue; None: only those without one.
        app: whose jobs; by default those of the App that `pgtasks.task` uses.
        connection: where to look, in whatever transaction is open there, as `defer` takes it; by default one of the
            App's pool, which sees what is committed.

    Examples:
        ```python
        (job,) = deferred_jobs(send_email)
        assert job.payload == {"to": "ada@example.com"}
        ```
    """
    app = app or current_app()
    return _of(take(_all(app), app, connection), task, queue)


async def deferred_jobs_async(
    task: AnyTask | str | None = None,
    /,
    *,
    queue: str | EllipsisType | None = ...,
    app: App | None = None,
    connection: AsyncConnection | None = None,
) -> list[Job]:
    """Do what `deferred_jobs` does, from asyncio code; `connection` is one of asyncio's."""
    app = app or current_app()
    return _of(await take_async(_all(app), app, connection), task, queue)


def assert_deferred(
    task: AnyTask | str,
    payload: Any = ...,
    *,
    job_key: str | EllipsisType | None = ...,
    queue: str | EllipsisType | None = ...,
    run_at: dt.datetime | EllipsisType = ...,
    delay: dt.timedelta | float | EllipsisType = ...,
    priority: int | EllipsisType = ...,
    max_attempts: int | EllipsisType = ...,
    flags: Iterable[str] | EllipsisType = ...,
    count: int | None = None,
    app: App | None = None,
    connection: BlockingConnection | None = None,
) -> list[Job]:
    """Assert that jobs like this are in the database, and return them, in the order in which they were added.

    What is not given, or is `...`, may be anything. If there is none, the error shows the jobs that there are, those
    first that differ least.

    Args:
        task: their task, or its name.
        payload: their payload, as `defer` takes it: what JSON makes of it is compared. Values in it may be
            `unittest.mock.ANY` and the like.
        job_key: their key; None: they have none.
        queue: their queue; None: they have none.
        run_at: when they run at the earliest.
        delay: the same as a time from when they were added, as a timedelta or in seconds.
        priority: their priority.
        max_attempts: how often they may be tried.
        flags: their flags, in any order.
        count: how many there have to be; by default any number but 0.
        app: the App that has added them; by default the one that `pgtasks.task` uses.
        connection: where to look, as for `deferred_jobs`.

    Raises:
        AssertionError: there are none, or not so many.

    Examples:
        ```python
        def test_who_signs_up_gets_one_mail(pgtasks_jobs):
            sign_up("ada@example.com")
            assert_deferred(send_email, {"to": "ada@example.com", "token": ANY}, count=1)
        ```
    """
    __tracebackhide__ = True
    app = app or current_app()
    wanted = _wanted(app, task, payload, job_key, queue, run_at, delay, priority, max_attempts, flags)
    return wanted.expect(take(_all(app), app, connection), count, _known(app, task))


async def assert_deferred_async(
    task: AnyTask | str,
    payload: Any = ...,
    *,
    job_key: str | EllipsisType | None = ...,
    queue: str | EllipsisType | None = ...,
    run_at: dt.datetime | EllipsisType = ...,
    delay: dt.timedelta | float | EllipsisType = ...,
    priority: int | EllipsisType = ...,
    max_attempts: int | EllipsisType = ...,
    flags: Iterable[str] | EllipsisType = ...,
    count: int | None = None,
    app: App | None = None,
    connection: AsyncConnection | None = None,
) -> list[Job]:
    """Do what `assert_deferred` does, from asyncio code; `connection` is one of asyncio's."""
    __tracebackhide__ = True
    app = app or current_app()
    wanted = _wanted(app, task, payload, job_key, queue, run_at, delay, priority, max_attempts, flags)
    return wanted.expect(await take_async(_all(app), app, connection), count, _known(app, task))


def name_of(task: AnyTask | str) -> str:
    """Return the name of a task that is given by it, or is there itself."""
    if isinstance(task, str):
        return task
    if not isinstance(task, Task):
        raise TypeError(f"{task!r} is no task: give what @task has made, or its name")
    return task.name


def _wanted(
    app: App,
    task: AnyTask | str,
    payload: Any,
    job_key: str | EllipsisType | None,
    queue: str | EllipsisType | None,
    run_at: dt.datetime | EllipsisType,
    delay: dt.timedelta | float | EllipsisType,
    priority: int | EllipsisType,
    max_attempts: int | EllipsisType,
    flags: Iterable[str] | EllipsisType,
) -> Wanted:
    return Wanted(
        task=name_of(task),
        payload=payload,
        stored=... if payload is ... else _as_stored(app, name_of(task), payload),
        job_key=job_key,
        queue=queue,
        run_at=run_at,
        delay=delay,
        priority=priority,
        max_attempts=max_attempts,
        flags=flags if isinstance(flags, EllipsisType) else tuple(sorted(set(flags))),
    )


def _as_stored(app: App, name: str, payload: Any) -> Any:
    """Return a payload as the task's `defer` would have it stored; as far as can be, if it would refuse it."""
    payload = {} if payload is None else payload
    task = app.registry.get(name)
    if task is not None:
        with contextlib.suppress(PayloadError):  # it holds something like `unittest.mock.ANY`
            payload = task.payload.dump(payload)
    return as_stored(payload)


def _known(app: App, task: AnyTask | str) -> list[str]:
    """Names among which the right one may be, where a task is given by a name."""
    return app.registry.names if isinstance(task, str) else [task.name]


def _all(app: App) -> Steps[list[Job]]:
    jobs: list[Job] = []
    after: str | None = None
    while True:
        page = yield admin.list_jobs(app.statements, limit=_PAGE, after=after)
        jobs.extend(page.jobs)
        after = page.next
        if after is None:
            break
    jobs.reverse()
    read = _as_they_are if app.codec is None else functools.partial(decoded, codec=app.codec)
    return list(map(read, jobs))


def _as_they_are(job: Job) -> Job:
    return job


def _of(jobs: list[Job], task: AnyTask | str | None, queue: str | EllipsisType | None) -> list[Job]:
    name = None if task is None else name_of(task)
    return [job for job in jobs if name in (None, job.task) and queue in (..., job.queue)]
