"""A task: a function that runs as jobs, and the ways to add them."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from pgtasks.errors import JobOptionError, PayloadError, did_you_mean
from pgtasks.handlers import Handler
from pgtasks.job import Job, JobKeyMode, JobSpec, check_flags

if TYPE_CHECKING:
    import datetime as dt

    import psycopg

    from pgtasks.retry import RetryFunction

    BlockingConnection = psycopg.Connection[Any]
    AsyncConnection = psycopg.AsyncConnection[Any]

X = TypeVar("X")
"""What a task's payload is given as."""
P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
"""What the handler returns when it is called: an `async def` one a coroutine."""
V = TypeVar("V")


class Keys:
    """In place of a payload type: the payload is an object whose keys are the handler's parameters."""


class JobOptions(TypedDict, total=False):
    """What may be said of a job that is added; None leaves it to the task, or to the database."""

    job_key: str | None
    """1 to 512 characters; a waiting job with this key is replaced."""
    job_key_mode: JobKeyMode | None
    """`replace` (the default), `preserve_run_at` or `unsafe_dedupe`."""
    queue: str | None
    """Name of a queue, whose jobs run one at a time, in order."""
    run_at: dt.datetime | None
    """Aware datetime before which the job does not run."""
    delay: dt.timedelta | float | None
    """Instead of `run_at`, how long from now by the database's clock: a timedelta, or seconds."""
    priority: int | None
    """From -32768 to 32767, lower runs earlier."""
    max_attempts: int | None
    """How often the job may be tried."""
    flags: Iterable[str] | None
    """Workers can be told to leave jobs with a flag alone."""


class DeferOptions(JobOptions, total=False):
    """What `defer` takes beside the payload."""

    notify: bool
    """Whether workers are told at once; if not, they find the job when they next look by themselves."""
    connection: BlockingConnection | None
    """A connection whose transaction the job joins: it exists once that commits."""


class AsyncDeferOptions(JobOptions, total=False):
    """What `defer_async` takes beside the payload."""

    notify: bool
    """As of `DeferOptions`."""
    connection: AsyncConnection | None
    """A connection of asyncio code, whose transaction the job joins."""


JOB_OPTIONS: Final = tuple(JobOptions.__annotations__)
_DEFER_OPTIONS: Final = (*JOB_OPTIONS, "notify", "connection")
_OPTIONS: Final = frozenset(JOB_OPTIONS)


def check_options(options: Mapping[str, Any], what: str, hint: str = "") -> None:
    """Complain of the first option of a job that there is not.

    Raises:
        JobOptionError: there is one.
    """
    for name in options:
        if name not in _OPTIONS:
            similar = did_you_mean(name, _DEFER_OPTIONS)
            known = similar or f"; {hint}" if similar or hint else f"; it has {', '.join(_DEFER_OPTIONS)}"
            raise JobOptionError(f"{what} has no option {name!r}{known}")


class Enqueuer(Protocol):
    """What a task needs to add jobs: an `App`, usually."""

    def add_spec(self, spec: JobSpec, connection: BlockingConnection | None, *, notify: bool) -> Job:
        """Add one job."""

    async def add_spec_async(self, spec: JobSpec, connection: AsyncConnection | None, *, notify: bool) -> Job:
        """Add one job."""

    def add_many(
        self,
        jobs: Iterable[Any],
        template: JobSpec | None,
        connection: BlockingConnection | None,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Add jobs that are given as specs, or as payloads of jobs like the template, in one transaction."""

    async def add_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        template: JobSpec | None,
        connection: AsyncConnection | None,
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
    """Whether the job's end commits together with what the handler writes on `ctx.transaction`."""
    timeout: float | None = None
    """Seconds after which a running job is asked to stop; the setting `job_timeout` by default, `math.inf`: never."""
    grace: float | None = None
    """Seconds that it has for that, before its process is killed; the setting `job_grace` by default, `math.inf`: for
    ever."""
    retry: RetryFunction | None = None
    """When a job that has failed is tried again: `Backoff(…)`, a list of delays, or a function of the attempt and the
    error; by default after exp(attempts) seconds, six hours at most."""
    retry_on: tuple[type[BaseException], ...] | None = None
    """The only errors after which a job is tried again: an exception type, or several; all by default."""
    no_retry_on: tuple[type[BaseException], ...] = ()
    """Errors after which it is not: it has failed for good."""
    expected: tuple[type[BaseException], ...] = ()
    """Errors of which no traceback is logged or stored."""
    upgrade: Callable[[Any], Any] | None = None
    """A function that makes of any payload that is stored one that the handler takes today; called before each run."""
    invalid_payload: Literal["fail", "retry"] = "fail"
    """What becomes of a job whose payload the handler does not take: it has failed for good, or is tried again."""


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


class Task(Generic[X, P, R_co]):
    """A registered function. Calling it runs the function here and now; `defer` adds a job that runs it in a worker.

    Made by `@task` or `@app.task`, not directly.
    """

    def __init__(self, handler: Callable[..., R_co], options: TaskOptions, enqueuer: Callable[[], Enqueuer]) -> None:
        functools.update_wrapper(self, handler)
        self.name: str = options.name if options.name is not None else handler.__name__
        self.options = options
        inspected = Handler(handler, self.name)
        self.inspected = inspected
        self.handler = handler
        self.run: Callable[..., Any] = inspected.run
        """Calls the handler with what it takes of a payload and a context."""
        self.payload = inspected.payload
        """The type of its payloads."""
        self.place: str = inspected.place
        self.is_async: bool = inspected.is_async
        self.takes_payload: bool = inspected.takes_payload
        self.takes_context: bool = inspected.takes_context
        self._enqueuer = enqueuer
        self._usual = {
            name: value
            for name in ("queue", "priority", "max_attempts", "flags")
            if (value := getattr(options, name)) is not None
        }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function itself, in the caller's process."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r} at {self.place}>"

    def args(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Return the payload with which a worker calls the handler with these arguments.

        For handlers whose parameters are the payload's keys. Type checkers see whether the handler takes them.

        Raises:
            PayloadError: it does not, or its payload is not an object of keys.

        Example:
            >>> from pgtasks import task
            >>> @task
            ... def send_email(*, to: str, subject: str = "hello"): ...
            >>> send_email.args(to="ada@example.com")
            {'to': 'ada@example.com'}
        """
        return self.inspected.bind(args, kwargs)

    @overload
    def spec(
        self: Task[Keys, P, Any], payload: Mapping[str, Any] | None = None, /, **options: Unpack[JobOptions]
    ) -> JobSpec: ...

    @overload
    def spec(self: Task[X, P, Any], payload: X, /, **options: Unpack[JobOptions]) -> JobSpec: ...

    def spec(self, payload: Any = None, /, **options: Any) -> JobSpec:
        """Return what `defer` with the same arguments would add, without adding it; for `defer_many`.

        Raises:
            JobOptionError: an option is unknown or cannot be stored.
            PayloadError: the handler does not take the payload.
        """
        try:
            return self._spec(payload, options)
        except (JobOptionError, PayloadError) as error:
            raise error.with_traceback(None) from None

    def _spec(self, payload: Any, options: dict[str, Any]) -> JobSpec:
        if not options.keys() <= _OPTIONS:
            self._refuse(options)
        if not self.payload.is_any:
            payload = self.payload.dump(payload)
        if self._usual:
            given = {name: value for name, value in options.items() if value is not None}
            options = {**self._usual, **given}
        if (flags := options.get("flags")) is not None:
            options["flags"] = check_flags(flags)
        return JobSpec(task=self.name, payload=payload, **options)

    def _refuse(self, options: Mapping[str, Any]) -> None:
        """Complain of the first option that there is not."""
        hint = "arguments of the handler go into the payload: defer(task.args(…))" if self.inspected.by_keys else ""
        check_options(options, f"defer of task {self.name!r}", hint)

    @overload
    def defer(
        self: Task[Keys, P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[DeferOptions],
    ) -> Job[V]: ...

    @overload
    def defer(
        self: Task[Keys, P, V], payload: Mapping[str, Any] | None = None, /, **options: Unpack[DeferOptions]
    ) -> Job[V]: ...

    @overload
    def defer(self: Task[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[DeferOptions]) -> Job[V]: ...

    @overload
    def defer(self: Task[X, P, V], payload: X, /, **options: Unpack[DeferOptions]) -> Job[V]: ...

    def defer(self, payload: Any = None, /, *, notify: bool = True, connection: Any = None, **options: Any) -> Job[Any]:
        """Add a job that runs this task in a worker, and return it.

        Args:
            payload: what the handler takes: the value of its one parameter, or a mapping of several (see `args`); None
                stands for an empty object.
            notify: whether workers are told at once; if not, they find the job when they next look by themselves.
            connection: one whose transaction the job joins: it exists once that commits.
            options: `job_key`: 1 to 512 characters; a waiting job with this key is replaced.
                `job_key_mode`: `replace` (the default), `preserve_run_at` or `unsafe_dedupe`.
                `queue`: name of a queue, whose jobs run one at a time, in order.
                `run_at`: aware datetime before which the job does not run.
                `delay`: instead of `run_at`, how long from now by the database's clock: a timedelta, or seconds.
                `priority`: from -32768 to 32767, lower runs earlier.
                `max_attempts`: how often the job may be tried.
                `flags`: workers can be told to leave jobs with a flag alone.

        Raises:
            JobOptionError: an option is unknown or cannot be stored. Nothing was sent to the database.
            PayloadError: the handler does not take the payload, or JSON cannot hold it. Nothing was sent.
            DatabaseUnavailableError: the database cannot be reached.
        """
        try:
            spec = self._spec(payload, options)
        except (JobOptionError, PayloadError) as error:
            # The caller's line is what matters, and not how we have come to see the mistake.
            raise error.with_traceback(None) from None
        return self._enqueuer().add_spec(spec, connection, notify=notify)

    @overload
    async def defer_async(
        self: Task[Keys, P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[AsyncDeferOptions],
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self: Task[Keys, P, V], payload: Mapping[str, Any] | None = None, /, **options: Unpack[AsyncDeferOptions]
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self: Task[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[AsyncDeferOptions]
    ) -> Job[V]: ...

    @overload
    async def defer_async(self: Task[X, P, V], payload: X, /, **options: Unpack[AsyncDeferOptions]) -> Job[V]: ...

    async def defer_async(
        self, payload: Any = None, /, *, notify: bool = True, connection: Any = None, **options: Any
    ) -> Job[Any]:
        """Do what `defer` does, from asyncio code; `connection` is one of asyncio code, too."""
        try:
            spec = self._spec(payload, options)
        except (JobOptionError, PayloadError) as error:
            raise error.with_traceback(None) from None
        return await self._enqueuer().add_spec_async(spec, connection, notify=notify)

    @overload
    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: BlockingConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: BlockingConnection | None = None,
    ) -> int: ...

    def defer_many(
        self,
        jobs: Iterable[Any],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: BlockingConnection | None = None,
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
            PayloadError: the handler does not take a payload, or JSON cannot hold it; the message tells the position of
                the job.
            DatabaseUnavailableError: the database cannot be reached.
        """
        jobs = self._checked(jobs)
        return self._enqueuer().add_many(jobs, self._template, connection, notify=notify, returning=returning)

    @overload
    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: AsyncConnection | None = None,
    ) -> int: ...

    async def defer_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job] | int:
        """Do what `defer_many` does, from asyncio code; `connection` is one of asyncio code, too.

        The jobs may come from an asynchronous iterable, too.
        """
        jobs = self._checked_async(jobs) if isinstance(jobs, AsyncIterable) else self._checked(jobs)
        return await self._enqueuer().add_many_async(
            jobs, self._template, connection, notify=notify, returning=returning
        )

    @functools.cached_property
    def _template(self) -> JobSpec:
        return JobSpec(task=self.name, **self._usual)

    def _checked(self, jobs: Any) -> Any:
        """Return the jobs to add, their payloads as the handler takes them."""
        if isinstance(jobs, (str, bytes, Mapping)):
            raise JobOptionError(
                f"defer_many of task {self.name!r} takes a list of payloads, not one {type(jobs).__name__}; use defer"
            )
        return jobs if self.payload.is_any or not isinstance(jobs, Iterable) else self._dumped(jobs)

    def _dumped(self, jobs: Iterable[Any]) -> Iterator[Any]:
        for number, job in enumerate(jobs):
            yield job if isinstance(job, JobSpec) else self._dump(job, number)

    async def _checked_async(self, jobs: AsyncIterable[Any]) -> AsyncIterator[Any]:
        number = 0
        async for job in jobs:
            yield job if isinstance(job, JobSpec) else self._dump(job, number)
            number += 1

    def _dump(self, payload: Any, number: int) -> Any:
        try:
            return self.payload.dump(payload)
        except PayloadError as error:
            raise PayloadError(f"{error} (number {number} of the jobs to add)") from None


AnyTask = Task[Any, ..., Any]
