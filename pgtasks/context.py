"""What a handler is told about the job that it runs."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar, Unpack, overload

from pgtasks.errors import JobOptionError, TaskDefinitionError
from pgtasks.job import Job
from pgtasks.logs import get_logger
from pgtasks.logs.context import current_record

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import psycopg

    from pgtasks.deferring import Keys
    from pgtasks.errors import JobAbortedError
    from pgtasks.options import AsyncDeferOptions, DeferOptions
    from pgtasks.settings import Settings
    from pgtasks.tasks import AnyTask, Task

_log = get_logger("pgtasks.task")

X = TypeVar("X")
P = ParamSpec("P")
Q = ParamSpec("Q")
V = TypeVar("V")


class Abort:
    """Whether a job is asked to stop, and why: `ctx.abort`.

    It is set when the job has run for longer than its task's `timeout`, when somebody has cancelled the job, when the
    worker stops without waiting for its jobs, and when the worker can no longer be sure that it holds them. For plain
    handlers, which nothing can interrupt from outside: they look at it now and then. An `async def` handler is
    cancelled at the same moment.
    """

    __slots__ = ("_error", "_event")

    def __init__(self) -> None:
        self._error: JobAbortedError | None = None
        self._event = threading.Event()

    @property
    def error(self) -> JobAbortedError | None:
        """What `raise_if_set` raises, or None if the job is not asked to stop."""
        return self._error

    def is_set(self) -> bool:
        """Whether the job is asked to stop."""
        return self._error is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is asked to stop, for at most so many seconds; return whether it is.

        In a plain handler, in place of `time.sleep`; in an `async def` one it would block the event loop.
        """
        self._event.wait(timeout)
        return self.is_set()

    def raise_if_set(self) -> None:
        """End the handler if the job is asked to stop.

        Raises:
            JobTimeoutError: it has run for longer than its task's `timeout`; the attempt has failed.
            JobCancelledError: somebody has cancelled it; it is deleted.
            JobAbortedError: the worker cannot wait for it; the job is given back, and the attempt is not charged.
        """
        if (error := self.error) is not None:
            raise type(error)(*error.args)


class ContextApp(Protocol):
    """What a handler's context knows of its `App`."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def jobs(self) -> Any:
        """The app's `Jobs`: looking at jobs and changing them."""

    @property
    def jobs_async(self) -> Any:
        """The app's `AsyncJobs`."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend an autocommit connection of this process's pool, for a `with` block."""

    def async_connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit asyncio connection of this process's pool, for an `async with` block."""

    def add_job(self, task: str, payload: Any = None, /, **options: Unpack[DeferOptions]) -> Job:
        """Add a job for a task by its name."""

    async def add_job_async(self, task: str, payload: Any = None, /, **options: Unpack[AsyncDeferOptions]) -> Job:
        """Add a job for a task by its name, from asyncio code."""


class Runner(Protocol):
    """What runs a job, as its context sees it."""

    @property
    def app(self) -> ContextApp:
        """The application."""

    def abort_of(self, job: Job) -> Abort:
        """Return what tells whether a job is asked to stop."""

    @property
    def deadline(self) -> float | None:
        """When it will be, by `time.monotonic()`."""

    def report_progress(self, job: Job, done: float, total: float | None, note: str | None) -> None:
        """Take note of how far a job has got."""


running: Final[ContextVar[Runner | None]] = ContextVar("pgtasks_runner", default=None)
"""What runs the job of the current context. It is set where that begins, so that it costs nothing for each job."""


class JobTransaction:
    """The transaction of a job, which is its own for as long as the block lasts that its handler runs in.

    What the handler has started and left running may have this for longer, when the connection is somebody else's.

    Args:
        connection: the connection that it is on.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __enter__(self) -> JobTransaction:
        transaction.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection = None

    def connection(self, job: Job) -> Any:
        """Return the connection, for the job.

        Raises:
            JobOptionError: the handler has ended.
        """
        if self._connection is None:
            raise JobOptionError(
                f"the handler of job {job.id} has ended, and so has its transaction, of which nothing that it has left "
                "running can be a part"
            )
        return self._connection


transaction: Final[ContextVar[JobTransaction | None]] = ContextVar("pgtasks_transaction", default=None)
"""That of the transactional task that runs in the current context."""


class JobContext:
    """What a handler is told about its job, and can do: `def handler(payload, ctx: JobContext)`.

    `current_job()` gives it, too, to whatever the handler calls.
    """

    __slots__ = ("_runner", "_transaction", "job")

    def __init__(self, job: Job, runner: Runner, transaction: JobTransaction | None = None) -> None:
        self.job = job
        """The job as it was claimed."""
        self._runner = runner
        self._transaction = transaction

    def __repr__(self) -> str:
        return f"<JobContext of job {self.job.id}, task {self.job.task!r}, attempt {self.job.attempts}>"

    @property
    def attempt(self) -> int:
        """Which attempt at the job this is, counted from 1."""
        return self.job.attempts

    @property
    def app(self) -> ContextApp:
        """The `App` whose worker runs the job."""
        return self._runner.app

    @property
    def log(self) -> Any:
        """A structlog logger whose records carry the job's id, task, attempt, queue and key."""
        return _log

    @property
    def abort(self) -> Abort:
        """Whether the job is asked to stop."""
        return self._runner.abort_of(self.job)

    @property
    def deadline(self) -> float | None:
        """When it will be, by `time.monotonic()`, if it is still running then; None without a time limit."""
        return self._runner.deadline

    @property
    def transaction(self) -> Any:
        """The psycopg connection in whose transaction a task with `transactional=True` runs.

        A `psycopg.Connection` for a plain handler, a `psycopg.AsyncConnection` for an `async def` one. What is written
        on it commits together with the job's end, or not at all; it must not be committed or closed by the handler.

        Raises:
            TaskDefinitionError: the task is not transactional.
            JobOptionError: the handler has ended.
        """
        if self._transaction is None:
            raise TaskDefinitionError(
                f"Task {self.job.task!r} has no transaction; declare it with @task(transactional=True), "
                f"or take a connection from ctx.connection()"
            )
        return self._transaction.connection(self.job)

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection of this process's pool, for a `with` block; in a transactional task its transaction's.

        Those of the pool are in autocommit mode. When the job is asked to stop, the statement that runs on it is
        cancelled.
        """
        return self._runner.app.connection() if self._transaction is None else nullcontext(self.transaction)

    def async_connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend one to an `async def` handler, for an `async with` block."""
        return self._runner.app.async_connection() if self._transaction is None else nullcontext(self.transaction)

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Say how far the job has got: for `pgtasks jobs show`, `pgtasks top` and `app.jobs.progress`.

        It costs next to nothing, waits for nothing, and knows no trouble with the database: what was said last is
        written about once a second, by somebody else. What is None stays as it was said before.

        Args:
            done: how much is done, of whatever there is to count, whole or not. It may be more than `total`.
            total: how much there is, if that is known.
            note: what it is about, in a few words; the first 500 characters are kept.

        Raises:
            JobOptionError: a number is none, negative or infinite, or the note is no text.
        """
        self._runner.report_progress(self.job, done, total, note)

    @overload
    def defer(
        self,
        task: Task[Keys[Q], P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[DeferOptions],
    ) -> Job[V]: ...

    @overload
    def defer(
        self, task: Task[Keys[Q], P, V], payload: Mapping[str, Any] | None = None, /, **options: Unpack[DeferOptions]
    ) -> Job[V]: ...

    @overload
    def defer(
        self, task: Task[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[DeferOptions]
    ) -> Job[V]: ...

    @overload
    def defer(self, task: Task[X, P, V], payload: X, /, **options: Unpack[DeferOptions]) -> Job[V]: ...

    def defer(self, task: AnyTask, payload: Any = None, /, **options: Any) -> Job[Any]:
        """Add a job that is to follow this one; arguments as of `Task.defer`.

        In a transactional task it joins the task's transaction: it exists once this job has succeeded, or not at all.
        """
        _check_task(task)
        if self._transaction is not None and "connection" not in options:
            options["connection"] = self.transaction
        return task.defer(payload, **options)

    @overload
    async def defer_async(
        self,
        task: Task[Keys[Q], P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[AsyncDeferOptions],
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self,
        task: Task[Keys[Q], P, V],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[AsyncDeferOptions],
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self, task: Task[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[AsyncDeferOptions]
    ) -> Job[V]: ...

    @overload
    async def defer_async(self, task: Task[X, P, V], payload: X, /, **options: Unpack[AsyncDeferOptions]) -> Job[V]: ...

    async def defer_async(self, task: AnyTask, payload: Any = None, /, **options: Any) -> Job[Any]:
        """Do what `defer` does, in an `async def` handler."""
        _check_task(task)
        if self._transaction is not None and "connection" not in options:
            options["connection"] = self.transaction
        return await task.defer_async(payload, **options)


def _check_task(task: Any) -> None:
    if not hasattr(task, "defer"):
        by_name = "; for one that is known by name alone there is ctx.app.add_job" if isinstance(task, str) else ""
        raise JobOptionError(f"ctx.defer takes what @task has made, and not {task!r}{by_name}")


def current_job() -> JobContext:
    """Return the context of the job that runs here: in its handler, and in all that this calls.

    Threads that the handler starts know it when they run under `contextvars.copy_context()`, as those of
    `asyncio.to_thread` do.

    Raises:
        LookupError: no job runs here.
    """
    runner, job = running.get(), current_record()
    if runner is None or not isinstance(job, Job):
        raise LookupError("no job runs here: current_job() is for what a worker calls")
    return JobContext(job, runner, transaction.get())
