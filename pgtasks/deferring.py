"""The ways to add jobs of a task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, overload

from pgtasks.errors import JobOptionError, PayloadError, TaskDefinitionError, a_or_an
from pgtasks.job import Job, JobSpec, check_flags
from pgtasks.options import JOB_OPTIONS, check_keyed_options, check_options

if TYPE_CHECKING:
    import datetime as dt

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.handlers import Handler
    from pgtasks.options import AsyncDeferOptions, AsyncKeyedOptions, DeferOptions, JobOptions, KeyedOptions
    from pgtasks.payload import PayloadType

X = TypeVar("X")
"""What a task's payload is given as."""
P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
"""What the handler returns when it is called: an `async def` one a coroutine."""
V = TypeVar("V")
MISTAKES: Final = (JobOptionError, PayloadError, TaskDefinitionError)
"""Errors of the caller, whose line is what matters, and not how we have come to see them."""


class Keys(Generic[Q]):
    """In place of a payload type: the payload is an object whose keys are the handler's parameters, without context."""


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


class Deferrable(Generic[X, P, R_co]):
    """What jobs can be added of, one or many: a `Task`."""

    name: str
    """By what jobs call it."""
    handler: Callable[..., R_co]
    inspected: Handler
    payload: PayloadType
    """The type of its payloads."""
    usual: dict[str, Any]
    """The options that its jobs have unless they say otherwise."""
    _enqueuer: Callable[[], Enqueuer]

    @overload
    def spec(
        self: Deferrable[Keys[Q], P, Any], payload: Mapping[str, Any] | None = None, /, **options: Unpack[JobOptions]
    ) -> JobSpec: ...

    @overload
    def spec(self: Deferrable[X, P, Any], payload: X, /, **options: Unpack[JobOptions]) -> JobSpec: ...

    def spec(self, payload: Any = None, /, **options: Any) -> JobSpec:
        """Return what `defer` with the same arguments would add, without adding it; for `defer_many`.

        Raises:
            JobOptionError: an option is unknown or cannot be stored.
            PayloadError: the handler does not take the payload.
        """
        try:
            return self._spec(payload, options, "spec")
        except MISTAKES as error:
            raise error.with_traceback(None) from None

    def _spec(self, payload: Any, options: dict[str, Any], method: str = "defer") -> JobSpec:
        if not options.keys() <= JOB_OPTIONS:
            self._refuse(options, method)
        if not self.payload.is_any:
            payload = self.payload.dump(payload)
        if self.usual:
            given = {name: value for name, value in options.items() if value is not None}
            options = {**self.usual, **given}
        if (flags := options.get("flags")) is not None:
            options["flags"] = check_flags(flags)
        return JobSpec(task=self.name, payload=payload, **options)

    def _refuse(self, options: Mapping[str, Any], method: str) -> None:
        """Complain of the first option that there is not."""
        keys = inspect.signature(self.handler).parameters.keys() if self.inspected.by_keys else ()
        argument = next((name for name in options if name not in JOB_OPTIONS), None) in keys
        hint = f"arguments of the handler go into the payload: {method}(task.args(…))" if argument else ""
        check_options(options, f"{method} of task {self.name!r}", hint)

    @overload
    def defer(
        self: Deferrable[Keys[Q], P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[DeferOptions],
    ) -> Job[V]: ...

    @overload
    def defer(
        self: Deferrable[Keys[Q], P, V], payload: Mapping[str, Any] | None = None, /, **options: Unpack[DeferOptions]
    ) -> Job[V]: ...

    @overload
    def defer(
        self: Deferrable[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[DeferOptions]
    ) -> Job[V]: ...

    @overload
    def defer(self: Deferrable[X, P, V], payload: X, /, **options: Unpack[DeferOptions]) -> Job[V]: ...

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
        except MISTAKES as error:
            raise error.with_traceback(None) from None
        return self._enqueuer().add_spec(spec, connection, notify=notify)

    @overload
    async def defer_async(
        self: Deferrable[Keys[Q], P, Coroutine[Any, Any, V]],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[AsyncDeferOptions],
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self: Deferrable[Keys[Q], P, V],
        payload: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[AsyncDeferOptions],
    ) -> Job[V]: ...

    @overload
    async def defer_async(
        self: Deferrable[X, P, Coroutine[Any, Any, V]], payload: X, /, **options: Unpack[AsyncDeferOptions]
    ) -> Job[V]: ...

    @overload
    async def defer_async(self: Deferrable[X, P, V], payload: X, /, **options: Unpack[AsyncDeferOptions]) -> Job[V]: ...

    async def defer_async(
        self, payload: Any = None, /, *, notify: bool = True, connection: Any = None, **options: Any
    ) -> Job[Any]:
        """Do what `defer` does, from asyncio code; `connection` is one of asyncio code, too."""
        try:
            spec = self._spec(payload, options)
        except MISTAKES as error:
            raise error.with_traceback(None) from None
        return await self._enqueuer().add_spec_async(spec, connection, notify=notify)

    def batch(
        self: Deferrable[list[V], P, Any],
        items: Iterable[V],
        /,
        *,
        key: str,
        delay: dt.timedelta | float,
        **options: Unpack[KeyedOptions],
    ) -> Job:
        """Add items to the batch that waits under a key: one job, which runs `delay` after its first item came.

        Args:
            items: what the handler, whose payload is a list, gets some of.
            key: the job key that the batch has while it waits.
            delay: how long items are gathered: a timedelta, or seconds.
            options: as of `defer`.

        Raises:
            JobOptionError: see `defer`, as for all that it raises.
            PayloadError: the handler does not take a list of such items.
        """
        check_keyed_options(options, f"batch of task {self.name!r}")
        return self.defer(_listed(items, self.name), **_gathering(key, delay), **options)

    async def batch_async(
        self: Deferrable[list[V], P, Any],
        items: Iterable[V],
        /,
        *,
        key: str,
        delay: dt.timedelta | float,
        **options: Unpack[AsyncKeyedOptions],
    ) -> Job:
        """Do what `batch` does, from asyncio code."""
        check_keyed_options(options, f"batch of task {self.name!r}")
        return await self.defer_async(_listed(items, self.name), **_gathering(key, delay), **options)

    def debounce(
        self, payload: Any = None, /, *, key: str, delay: dt.timedelta | float, **options: Unpack[KeyedOptions]
    ) -> Job:
        """Have the task run once all is quiet: `delay` after the last call with this key, with its payload.

        Of a list payload, what the waiting job has is kept in front: it runs with all items since it last ran.

        Args:
            payload: as of `defer`, like the options and what is raised.
            key: the job key that the job has while it waits.
            delay: how long no other call must have come: a timedelta, or seconds.
            options: as of `defer`.
        """
        check_keyed_options(options, f"debounce of task {self.name!r}")
        return self.defer(payload, job_key=key, delay=delay, **options)

    async def debounce_async(
        self, payload: Any = None, /, *, key: str, delay: dt.timedelta | float, **options: Unpack[AsyncKeyedOptions]
    ) -> Job:
        """Do what `debounce` does, from asyncio code."""
        check_keyed_options(options, f"debounce of task {self.name!r}")
        return await self.defer_async(payload, job_key=key, delay=delay, **options)

    def throttle(
        self, payload: Any = None, /, *, key: str, every: dt.timedelta | float, **options: Unpack[KeyedOptions]
    ) -> Job:
        """Have the task run, but not more often than `every` so long: with the payload of the last call.

        The first call makes a job that is due after that time; calls until then change its payload alone.

        Args:
            payload: as of `defer`, like the options and what is raised.
            key: the job key that the job has while it waits.
            every: the least time between two runs: a timedelta, or seconds.
            options: as of `defer`.
        """
        check_keyed_options(options, f"throttle of task {self.name!r}")
        return self.defer(payload, **_gathering(key, every), **options)

    async def throttle_async(
        self, payload: Any = None, /, *, key: str, every: dt.timedelta | float, **options: Unpack[AsyncKeyedOptions]
    ) -> Job:
        """Do what `throttle` does, from asyncio code."""
        check_keyed_options(options, f"throttle of task {self.name!r}")
        return await self.defer_async(payload, **_gathering(key, every), **options)

    @overload
    def defer_many(
        self: Deferrable[Keys[Q], P, Any],
        jobs: Iterable[Mapping[str, Any] | JobSpec | None],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: BlockingConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    def defer_many(
        self: Deferrable[Keys[Q], P, Any],
        jobs: Iterable[Mapping[str, Any] | JobSpec | None],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: BlockingConnection | None = None,
    ) -> int: ...

    @overload
    def defer_many(
        self: Deferrable[X, P, Any],
        jobs: Iterable[X | JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: BlockingConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    def defer_many(
        self: Deferrable[X, P, Any],
        jobs: Iterable[X | JobSpec],
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
        self: Deferrable[Keys[Q], P, Any],
        jobs: Iterable[Mapping[str, Any] | JobSpec | None] | AsyncIterable[Mapping[str, Any] | JobSpec | None],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    async def defer_many_async(
        self: Deferrable[Keys[Q], P, Any],
        jobs: Iterable[Mapping[str, Any] | JobSpec | None] | AsyncIterable[Mapping[str, Any] | JobSpec | None],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: AsyncConnection | None = None,
    ) -> int: ...

    @overload
    async def defer_many_async(
        self: Deferrable[X, P, Any],
        jobs: Iterable[X | JobSpec] | AsyncIterable[X | JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    async def defer_many_async(
        self: Deferrable[X, P, Any],
        jobs: Iterable[X | JobSpec] | AsyncIterable[X | JobSpec],
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
        return JobSpec(task=self.name, **self.usual)

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


def _listed(items: Any, task: str) -> list[Any]:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise JobOptionError(f"batch of task {task!r} takes a list of items, not {a_or_an(type(items).__name__)}")
    return list(items)


def _gathering(key: str, delay: dt.timedelta | float) -> dict[str, Any]:
    """Return the options with which calls become one job, due so long after the first."""
    return {"job_key": key, "job_key_mode": "preserve_run_at", "delay": delay}
