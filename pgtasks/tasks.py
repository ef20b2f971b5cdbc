"""A task: a function that runs as jobs, and the ways to add them."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from pgtasks.errors import JobOptionError, TaskDefinitionError
from pgtasks.job import Job, JobKeyMode, JobSpec, check_flags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence

    import psycopg

P = ParamSpec("P")
R = TypeVar("R")

CONTEXT_TYPE = "JobContext"
"""Name of the class that marks a handler's parameter as the one for the context."""


class Enqueuer(Protocol):
    """What a task needs to add jobs: an `App`, usually."""

    def add_spec(self, spec: JobSpec, connection: psycopg.Connection[Any] | None, *, notify: bool) -> Job:
        """Add one job."""

    async def add_spec_async(
        self, spec: JobSpec, connection: psycopg.AsyncConnection[Any] | None, *, notify: bool
    ) -> Job:
        """Add one job."""

    def add_many(
        self,
        jobs: Iterable[Any],
        template: JobSpec | None,
        connection: psycopg.Connection[Any] | None,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Add jobs that are given as specs, or as payloads of jobs like the template, in one transaction."""

    async def add_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        template: JobSpec | None,
        connection: psycopg.AsyncConnection[Any] | None,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Do what `add_many` does; the jobs may come from an asynchronous iterable, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What `@task` takes, each the default for the task's jobs. None leaves it to the database's default."""

    name: str | None = None
    """Name by which jobs call the task, at most 128 characters; the function's own by default."""
    queue: str | None = None
    """Queue for its jobs, which then run one at a time."""
    priority: int | None = None
    """From -32768 to 32767, lower runs earlier; 0 by default."""
    max_attempts: int | None = None
    """How often a job is tried; 25 by default."""
    flags: tuple[str, ...] | None = None
    """Flags for its jobs."""
    transactional: bool = False
    """Whether the job's end commits together with what the handler writes on `ctx.connection`."""
    timeout: float | None = None
    """Seconds after which a running job is asked to stop; the setting `job_timeout` by default, `math.inf`: never."""
    grace: float | None = None
    """Seconds that it has for that, before its process is killed; the setting `job_grace` by default, `math.inf`: for
    ever."""


def check_timeout(seconds: object) -> float:
    """Return `seconds` as a task's timeout, or raise `JobOptionError`."""
    if not (number := _number("timeout", seconds)) > 0:
        raise JobOptionError(f"timeout={number:g} must be more than 0 seconds; use math.inf for no time limit")
    return number


def check_grace(seconds: object) -> float:
    """Return `seconds` as a task's grace, or raise `JobOptionError`."""
    if not (number := _number("grace", seconds)) >= 0:
        raise JobOptionError(f"grace={number:g} must be at least 0 seconds; use math.inf to never kill a process")
    return number


def _number(what: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise JobOptionError(f"{what}={value!r} must be a number of seconds, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


class Task(Generic[P, R]):
    """A registered function. Calling it runs the function here and now; `defer` adds a job that runs it in a worker.

    Made by `@task` or `@app.task`, not directly.
    """

    def __init__(self, handler: Callable[P, R], options: TaskOptions, enqueuer: Callable[[], Enqueuer]) -> None:
        functools.update_wrapper(self, handler)
        self.handler = handler
        self.name: str = options.name if options.name is not None else handler.__name__
        self.options = options
        inner = inspect.unwrap(handler)
        self.file: str = inner.__code__.co_filename
        self.execution: object = inner.__globals__.get("__spec__")
        self.place: str = f"{self.file}:{inner.__code__.co_firstlineno}"
        self.is_async: bool = inspect.iscoroutinefunction(handler)
        self.takes_payload, self.takes_context = _parameters(handler)
        self._enqueuer = enqueuer

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function itself, in the caller's process."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r} at {self.place}>"

    def spec(
        self,
        payload: Any = None,
        /,
        *,
        job_key: str | None = None,
        job_key_mode: JobKeyMode | None = None,
        queue: str | None = None,
        run_at: dt.datetime | None = None,
        delay: dt.timedelta | float | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
    ) -> JobSpec:
        """Return what `defer` with the same arguments would add, without adding it; for `defer_many`.

        Raises:
            JobOptionError: an option cannot be stored.
        """
        options = self.options
        return JobSpec(
            task=self.name,
            payload=payload,
            queue=queue if queue is not None else options.queue,
            run_at=run_at,
            delay=delay,
            priority=priority if priority is not None else options.priority,
            max_attempts=max_attempts if max_attempts is not None else options.max_attempts,
            job_key=job_key,
            job_key_mode=job_key_mode,
            flags=check_flags(flags) if flags is not None else options.flags,
        )

    def defer(
        self,
        payload: Any = None,
        /,
        *,
        job_key: str | None = None,
        job_key_mode: JobKeyMode | None = None,
        queue: str | None = None,
        run_at: dt.datetime | None = None,
        delay: dt.timedelta | float | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
        notify: bool = True,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Job:
        """Add a job that runs this task in a worker, and return it.

        Args:
            payload: a value that JSON can hold; None stands for an empty object.
            job_key: 1 to 512 characters; a waiting job with this key is replaced.
            job_key_mode: `replace` (the default), `preserve_run_at` or `unsafe_dedupe`.
            queue: name of a queue, whose jobs run one at a time, in order.
            run_at: aware datetime before which the job does not run.
            delay: instead of `run_at`, how long from now by the database's clock: a timedelta, or seconds.
            priority: from -32768 to 32767, lower runs earlier.
            max_attempts: how often the job may be tried.
            flags: workers can be told to leave jobs with a flag alone.
            notify: whether workers are told at once; if not, they find the job when they next look by themselves.
            connection: a psycopg connection whose transaction the job joins: it exists once that commits.

        Raises:
            JobOptionError: an option cannot be stored. Nothing was sent to the database.
            PayloadError: JSON cannot hold the payload. Nothing was sent to the database.
            DatabaseUnavailableError: the database cannot be reached.
        """
        spec = self.spec(
            payload,
            job_key=job_key,
            job_key_mode=job_key_mode,
            queue=queue,
            run_at=run_at,
            delay=delay,
            priority=priority,
            max_attempts=max_attempts,
            flags=flags,
        )
        return self._enqueuer().add_spec(spec, connection, notify=notify)

    async def defer_async(
        self,
        payload: Any = None,
        /,
        *,
        job_key: str | None = None,
        job_key_mode: JobKeyMode | None = None,
        queue: str | None = None,
        run_at: dt.datetime | None = None,
        delay: dt.timedelta | float | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
        notify: bool = True,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Job:
        """Do what `defer` does, from asyncio code; `connection` is a `psycopg.AsyncConnection`."""
        spec = self.spec(
            payload,
            job_key=job_key,
            job_key_mode=job_key_mode,
            queue=queue,
            run_at=run_at,
            delay=delay,
            priority=priority,
            max_attempts=max_attempts,
            flags=flags,
        )
        return await self._enqueuer().add_spec_async(spec, connection, notify=notify)

    @overload
    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Sequence[Job]: ...

    @overload
    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: psycopg.Connection[Any] | None = None,
    ) -> int: ...

    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Sequence[Job] | int:
        """Add any number of jobs, many times as fast as by `defer`: all of them or, on an error, none.

        Args:
            jobs: payloads, or specs made by `spec` where a job needs options of its own. An iterator is read as the
                jobs are sent, so that never more than a part of them is in memory.
            notify: as for `defer`. There is one notification a call.
            returning: whether to return the jobs; if not, only how many there are, which takes no memory.
            connection: as for `defer`.

        Returns:
            A job for each of `jobs`, in their order, but one only for those that share a job key; or their number.

        Raises:
            JobOptionError: the specs differ in `job_key_mode`, or it is `unsafe_dedupe`, or one is of another task.
            PayloadError: JSON cannot hold a payload; the message tells the position of the job.
            DatabaseUnavailableError: the database cannot be reached.
        """
        self._check_many(jobs)
        return self._enqueuer().add_many(jobs, self.spec(), connection, notify=notify, returning=returning)

    @overload
    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Sequence[Job]: ...

    @overload
    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> int: ...

    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Sequence[Job] | int:
        """Do what `defer_many` does, from asyncio code; `connection` is a `psycopg.AsyncConnection`.

        The jobs may come from an asynchronous iterable, too.
        """
        self._check_many(jobs)
        return await self._enqueuer().add_many_async(jobs, self.spec(), connection, notify=notify, returning=returning)

    def _check_many(self, jobs: object) -> None:
        if isinstance(jobs, (str, bytes, Mapping)):
            raise JobOptionError(
                f"defer_many of task {self.name!r} takes a list of payloads, not one {type(jobs).__name__}; use defer"
            )


def _parameters(handler: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether the handler takes the payload, and whether it takes the context."""
    parameters = list(inspect.signature(handler).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(positional) > 1 and _is_context(positional[1]):
        takes_payload, takes_context = True, True
    elif positional and _is_context(positional[0]):
        takes_payload, takes_context = False, True
    else:
        takes_payload = bool(positional) or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        takes_context = False
    filled = positional[: takes_payload + takes_context]
    context_first = takes_context and not takes_payload and len(positional) > 1
    is_method = bool(positional) and positional[0].name in ("self", "cls")
    if all(p in filled for p in needed) and not context_first and not is_method:
        return takes_payload, takes_context
    inner = inspect.unwrap(handler)
    raise TaskDefinitionError(
        f"Task {inner.__name__!r} at {inner.__code__.co_filename}:{inner.__code__.co_firstlineno} cannot be called: "
        f"a handler takes the payload and, if it wants, a second parameter `ctx: {CONTEXT_TYPE}`, "
        f"but its signature is {inspect.signature(handler)}" + ("; it must not be a method" if is_method else "")
    )


def _is_context(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return parameter.name in ("ctx", "context")
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.search(rf"\b{CONTEXT_TYPE}\b", text) is not None


AnyTask = Task[..., Any]
