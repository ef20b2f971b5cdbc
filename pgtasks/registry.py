"""`@task` and the tasks that it has registered, by name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, ParamSpec, TypeVar, Unpack, overload

from pgtasks.cron.declared import Declarations, declare
from pgtasks.errors import JobOptionError, TaskDefinitionError, did_you_mean
from pgtasks.job import check_flags, check_max_attempts, check_priority, check_queue, check_task_name
from pgtasks.options import TaskOptions, check_grace, check_store_result, check_timeout
from pgtasks.retry import check_exceptions, check_function, check_retry
from pgtasks.tasks import AnyTask, Enqueuer, Keys, Task, Unregistered

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from pgtasks import shapes
    from pgtasks.cron.declared import CronOptions, Declaration
    from pgtasks.cron.entry import CronEntry
    from pgtasks.retry import RetryRule

X = TypeVar("X")
P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
Exceptions = type[BaseException] | Iterable[type[BaseException]]


class Registry:
    """The tasks of an application.

    Registering a second task under a name is an error, unless it is the same function of the same file again, as
    happens when a module is reloaded or imported under two names: then the newer one takes the place of the older.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, AnyTask] = {}
        self._declared = Declarations()

    def add(self, task: AnyTask) -> None:
        """Register `task` under its name.

        Raises:
            TaskDefinitionError: another task has that name; the message shows both places.
        """
        if _Apart.package is not None and task.handler.__module__.startswith(_Apart.package):
            _Apart.tasks.append(task)
            return
        known = self._tasks.get(task.name)
        if known is not None and not _replaces(task, known):
            if known.handler is task.handler:
                raise TaskDefinitionError(
                    f"Task {task.name!r} at {task.place} is made twice; put @task(…) below @task.cron(…), or give it "
                    f"another name with @task(name=...)"
                )
            raise TaskDefinitionError(
                f"Task {task.name!r} is defined twice: at {known.place} and at {task.place}; "
                f"give one of them another name with @task(name=...)"
            )
        self._tasks[task.name] = task
        if known is not None and known is not task:
            self._declared.drop(task.name, known.inspected.execution)
        before, task.timetable = task.timetable, self
        if isinstance(before, Unregistered):
            for declaration in before.declarations:
                self.schedule(task.name, declaration)

    def schedule(self, task: str, declaration: Declaration) -> None:
        """Add a cron entry for a task by its name, which need not be known here.

        Raises:
            CronError: another entry has the same name; the message shows both places.
        """
        self._declared.add(task, declaration)

    def cron_entries(self) -> list[CronEntry]:
        """Return the cron entries that code has declared, with payloads as their tasks take them.

        Raises:
            CronError: a task does not take its payload.
            TaskDefinitionError: the annotations of one cannot be read.
        """
        return self._declared.entries(self._tasks)

    def get(self, name: str) -> AnyTask | None:
        """Return the task of that name, or None."""
        return self._tasks.get(name)

    def __getitem__(self, name: str) -> AnyTask:
        try:
            return self._tasks[name]
        except KeyError:
            hint = did_you_mean(name, self._tasks)
            raise TaskDefinitionError(f"Task {name!r} is not registered{hint}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def names(self) -> list[str]:
        """The names of all tasks, sorted."""
        return sorted(self._tasks)


class _Apart:
    package: str | None = None
    tasks: ClassVar[list[AnyTask]] = []


@contextlib.contextmanager
def kept_apart(package: str) -> Iterator[list[AnyTask]]:
    """Have tasks of a package's modules registered in no registry, for a `with` block; gives them in a list.

    For the import of files that are tasks themselves, and have their names from where they lie.
    """
    own: list[AnyTask] = []
    _Apart.package, _Apart.tasks = f"{package}.", own
    try:
        yield own
    finally:
        _Apart.package, _Apart.tasks = None, []


def _replaces(new: AnyTask, old: AnyTask) -> bool:
    if new.handler.__qualname__ != old.handler.__qualname__:
        return False
    if hasattr(sys, "ps1") and new.handler.__module__ == old.handler.__module__ == "__main__":
        return True  # a prompt or a notebook, where a cell is edited and run again, under another file name each time
    if new.inspected.file != old.inspected.file:
        return False
    if new.inspected.file.startswith("<"):
        return True
    # A module's spec is made anew by each import or reload, so the same spec means the same run of the same file.
    return new.inspected.execution is not old.inspected.execution


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
        timeout: float | None = None,
        grace: float | None = None,
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
    "name": check_task_name,
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


def _check_options(options: dict[str, Any]) -> TaskOptions:
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            raise TaskDefinitionError(
                f"@task has no option {name!r}{did_you_mean(name, known) or '; it has ' + ', '.join(known)}"
            )
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


default_registry = Registry()
"""Where `pgtasks.task` registers, and what an `App` uses unless it is given another."""
