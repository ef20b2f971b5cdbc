"""`@task`: what makes a task of a function, and checks its options."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, Unpack, overload

from pgtasks.cron.declared import declare
from pgtasks.errors import JobOptionError, TaskDefinitionError, did_you_mean
from pgtasks.job import check_flags, check_max_attempts, check_priority, check_queue, check_task_name
from pgtasks.options import TaskOptions, check_grace, check_store_result, check_timeout
from pgtasks.retry import check_exceptions, check_function, check_retry
from pgtasks.tasks import AnyTask, Task

if TYPE_CHECKING:
    import datetime as dt

    from pgtasks import shapes
    from pgtasks.cron.declared import CronOptions
    from pgtasks.deferring import Enqueuer, Keys
    from pgtasks.registry import Registry
    from pgtasks.retry import RetryRule

X = TypeVar("X")
P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Exceptions = type[BaseException] | Iterable[type[BaseException]]


class Decorate:
    """What makes a task of a function. How its payload is typed for `defer` goes by the function's parameters.

    One parameter beside the context gets the whole payload, and says its type. Several get a key each.
    """

    @overload
    def __call__(self, handler: Task[X, P, R], /) -> Task[X, P, R]: ...  # type: ignore[overload-overlap]  # is first

    @overload
    def __call__(self, handler: shapes.ContextAlone[P, R], /) -> Task[Any, P, R]: ...

    @overload
    def __call__(self, handler: shapes.Amidst[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.PayloadAndContext[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.AnythingAndMore[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndKeys[P, Q, R], /) -> Task[Keys[Q], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndPayload[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.TwoAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ThreeAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.FourAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.Keys[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.KeyAndOthers[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.PayloadAndNamedContext[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.Payload[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.AnythingAndNamed[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndNamed[P, Q, R], /) -> Task[Keys[Q], P, R]: ...

    @overload
    def __call__(self, handler: Callable[P, R], /) -> Task[Keys[P], P, R]: ...

    def __call__(self, handler: Any, /) -> Any:
        """Make a task of the function."""
        return self._register(handler)

    def __init__(self, register: Callable[[Any], Any]) -> None:
        self._register = register


class TaskDecorator:
    """`@task`, bound to the registry that it fills."""

    def __init__(self, registry: Registry, enqueuer: Callable[[], Enqueuer], *, default: bool = False) -> None:
        self._registry = registry
        self._enqueuer = enqueuer
        self._default = default
        """Whether workers find its tasks by importing modules only."""

    @overload
    def __call__(self, handler: shapes.ContextAlone[P, R], /) -> Task[Any, P, R]: ...

    @overload
    def __call__(self, handler: shapes.Amidst[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.PayloadAndContext[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.AnythingAndMore[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndKeys[P, Q, R], /) -> Task[Keys[Q], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndPayload[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.TwoAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ThreeAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.FourAndContext[P, R], /) -> Task[Keys[...], P, R]: ...

    @overload
    def __call__(self, handler: shapes.Keys[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.KeyAndOthers[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.PayloadAndNamedContext[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.Payload[P, X, R], /) -> Task[X, P, R]: ...

    @overload
    def __call__(self, handler: shapes.AnythingAndNamed[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(self, handler: shapes.ContextAndNamed[P, Q, R], /) -> Task[Keys[Q], P, R]: ...

    @overload
    def __call__(self, handler: Callable[P, R], /) -> Task[Keys[P], P, R]: ...

    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
        transactional: bool = False,
        timeout: dt.timedelta | float | None = None,
        grace: dt.timedelta | float | None = None,
        retry: RetryRule | None = None,
        retry_on: Exceptions | None = None,
        no_retry_on: Exceptions = (),
        expected: Exceptions = (),
        upgrade: Callable[[Any], Any] | None = None,
        invalid_payload: Literal["fail", "retry"] = "fail",
        store_result: bool | dt.timedelta | float = False,
    ) -> Decorate: ...

    def __call__(self, handler: Any = None, /, **options: Any) -> Any:
        """Register a function, plain or `async def`, as a task.

        Use it bare or with options. The function gets the job's payload, as one argument or, if it has several
        parameters, as one for each key; and the job's context, if it has a parameter `ctx: JobContext`.

        Args:
            handler: the function.
            options: the fields of `TaskOptions`.

        Raises:
            TaskDefinitionError: an unknown option, a bad value, a name that is taken, or a function that no job can
                call.
        """
        checked = _check_options(options)
        if handler is None:
            return Decorate(functools.partial(self._register, options=checked))
        return self._register(handler, checked)

    def cron(self, schedule: str, /, **options: Unpack[CronOptions]) -> Decorate:
        """Have workers add a job at the times of a schedule, for a function, which becomes a task, or a task.

        Args:
            schedule: `minute hour day month weekday` as in a crontab, or `@hourly`, `@daily` and the like.
            options: as of `Task.cron`. What the task itself takes stands in a `@task(…)` below.

        Raises:
            CronError: as of `Task.cron`.

        Example:
            >>> from pgtasks import task
            >>> @task.cron("0 6 * * *", id="morning", payload={"text": "good morning"})
            ... @task.cron("0 18 * * *", id="evening", payload={"text": "good evening"})
            ... @task(queue="greetings")
            ... def greet_all(*, text: str): ...
        """
        declaration = declare(schedule, options, "@task.cron")

        def register(handler: Any) -> AnyTask:
            task = handler if isinstance(handler, Task) else self._register(handler, TaskOptions())
            return task.declare(declaration)

        return Decorate(register)

    def _register(self, handler: Any, options: TaskOptions) -> AnyTask:
        if isinstance(handler, Task):
            handler = handler.handler  # one `@task` above another: the same function under two names
        _check_handler(handler, options, importable=self._default)
        task: AnyTask = Task(handler, options, self._enqueuer)
        self._registry.add(task)
        return task


_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "name": functools.partial(check_task_name, what="name"),
    "queue": check_queue,
    "priority": check_priority,
    "max_attempts": check_max_attempts,
}
_READINGS: Final[dict[str, Callable[[Any], object]]] = {
    "flags": check_flags,
    "timeout": check_timeout,
    "grace": check_grace,
    "store_result": check_store_result,
    "retry": check_retry,
    "retry_on": functools.partial(check_exceptions, "retry_on"),
    "no_retry_on": functools.partial(check_exceptions, "no_retry_on"),
    "expected": functools.partial(check_exceptions, "expected"),
}
"""How the values of options are read, for those that are kept in another form."""


_INSTEAD: Final = {
    "bind": "; a parameter `ctx: JobContext` gets the context of the job",
    "cron": "; times are given by `@task.cron(…)` above it",
    "rate_limit": "; rates are held by the plugin pgtasks-ratelimit",
}
"""What there is for options that one may expect, and that are none."""


def _check_options(options: dict[str, Any]) -> TaskOptions:
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            hint = _INSTEAD.get(name) or did_you_mean(name, known) or f"; it has {', '.join(known)}"
            raise TaskDefinitionError(f"@task has no option {name!r}{hint}")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        for name, check in _CHECKS.items():
            if name in given:
                check(given[name])
        for name, read in _READINGS.items():
            if name in given:
                given[name] = read(given[name])
        if not isinstance(given.get("transactional", False), bool):
            raise JobOptionError(f"transactional={given['transactional']!r} must be True or False")
        if (upgrade := given.get("upgrade")) is not None:
            if not callable(upgrade):
                raise JobOptionError(f"upgrade={upgrade!r} must be a function of a payload")
            check_function("upgrade", upgrade, "payload")
        if (what := given.get("invalid_payload", "fail")) not in ("fail", "retry"):
            raise JobOptionError(f"invalid_payload={what!r} must be 'fail' or 'retry'")
    except JobOptionError as error:
        raise TaskDefinitionError(f"@task: {error}") from None
    return TaskOptions(**given)


def _check_handler(handler: object, options: TaskOptions, *, importable: bool) -> None:
    inner = inspect.unwrap(handler) if callable(handler) else handler
    if not inspect.isfunction(inner):
        raise TaskDefinitionError(
            f"@task takes a function, not {handler!r}"
            + ("; options are given by name, as in @task(name='…')" if isinstance(handler, str) else "")
        )
    place = f"{inner.__code__.co_filename}:{inner.__code__.co_firstlineno}"
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TaskDefinitionError(
            f"Task {inner.__name__!r} at {place} is a generator, which would do nothing when called; "
            f"collect its values inside the task"
        )
    if inner.__name__ == "<lambda>" and options.name is None:
        raise TaskDefinitionError(f"The lambda at {place} has no name to call it by; use @task(name=...)")
    if importable and "<locals>" in inner.__qualname__ and not _is_being_imported(inner.__module__):
        outer = inner.__qualname__.partition(".<locals>")[0]
        raise TaskDefinitionError(
            f"Task {inner.__name__!r} at {place} is defined inside of {outer!r}, where no worker finds it: a worker "
            f"imports the module, and does not call {outer!r}; move the task to module level, or give it an App with a "
            f"registry of its own: App(registry=Registry()).task"
        )


def _is_being_imported(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
