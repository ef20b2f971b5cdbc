"""`@task` and the tasks that it has registered, by name."""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from pgtasks.errors import JobOptionError, TaskDefinitionError, did_you_mean
from pgtasks.job import check_flags, check_max_attempts, check_priority, check_queue, check_task_name
from pgtasks.tasks import AnyTask, Enqueuer, Task, TaskOptions, check_grace, check_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

P = ParamSpec("P")
R = TypeVar("R")


class Registry:
    """The tasks of an application.

    Registering a second task under a name is an error, unless it is the same function of the same file again, as
    happens when a module is reloaded or imported under two names: then the newer one takes the place of the older.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, AnyTask] = {}

    def add(self, task: AnyTask) -> None:
        """Register `task` under its name.

        Raises:
            TaskDefinitionError: another task has that name; the message shows both places.
        """
        known = self._tasks.get(task.name)
        if known is not None and not _replaces(task, known):
            raise TaskDefinitionError(
                f"Task {task.name!r} is defined twice: at {known.place} and at {task.place}; "
                f"give one of them another name with @task(name=...)"
            )
        self._tasks[task.name] = task

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


def _replaces(new: AnyTask, old: AnyTask) -> bool:
    if new.handler.__qualname__ != old.handler.__qualname__:
        return False
    if hasattr(sys, "ps1") and new.handler.__module__ == old.handler.__module__ == "__main__":
        return True  # a prompt or a notebook, where a cell is edited and run again, under another file name each time
    if new.file != old.file:
        return False
    if new.file.startswith("<"):
        return True
    # A module's spec is made anew by each import or reload, so the same spec means the same run of the same file.
    return new.execution is not old.execution


class TaskDecorator:
    """`@task`, bound to the registry that it fills."""

    def __init__(self, registry: Registry, enqueuer: Callable[[], Enqueuer]) -> None:
        self._registry = registry
        self._enqueuer = enqueuer

    @overload
    def __call__(self, handler: Callable[P, R], /) -> Task[P, R]: ...

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
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def __call__(self, handler: Any = None, /, **options: Any) -> Any:
        """Register a function, plain or `async def`, as a task.

        Use it bare or with options. The function gets the job's payload as its first argument and, if it takes a
        second one, the job's context.

        Args:
            handler: the function.
            options: the fields of `TaskOptions`.

        Raises:
            TaskDefinitionError: an unknown option, a bad value, a name that is taken, or a function that cannot be
                called with a payload.
        """
        checked = _check_options(options)
        if handler is None:
            return functools.partial(self._register, options=checked)
        return self._register(handler, checked)

    def _register(self, handler: Callable[P, R], options: TaskOptions) -> Task[P, R]:
        if isinstance(handler, Task):
            handler = handler.handler  # one `@task` above another: the same function under two names
        _check_handler(handler, options)
        task = Task(handler, options, self._enqueuer)
        if options.transactional and not task.takes_context:
            raise TaskDefinitionError(
                f"Task {task.name!r} at {task.place} is transactional, but cannot get at its transaction: "
                f"give its handler a second parameter `ctx: JobContext`, and use `ctx.connection`"
            )
        self._registry.add(task)
        return task


def _check_options(options: dict[str, Any]) -> TaskOptions:
    known = [field.name for field in fields(TaskOptions)]
    for name in options:
        if name not in known:
            raise TaskDefinitionError(
                f"@task has no option {name!r}{did_you_mean(name, known) or '; it has ' + ', '.join(known)}"
            )
    checks: dict[str, Callable[[Any], object]] = {
        "name": check_task_name,
        "queue": check_queue,
        "priority": check_priority,
        "max_attempts": check_max_attempts,
    }
    normalizations: dict[str, Callable[[Any], object]] = {
        "flags": check_flags,
        "timeout": check_timeout,
        "grace": check_grace,
    }
    try:
        for name, check in checks.items():
            if options.get(name) is not None:
                check(options[name])
        for name, normalize in normalizations.items():
            if options.get(name) is not None:
                options = {**options, name: normalize(options[name])}
        if not isinstance(options.get("transactional", False), bool):
            raise JobOptionError(f"transactional={options['transactional']!r} must be True or False")
    except JobOptionError as error:
        raise TaskDefinitionError(f"@task: {error}") from None
    return TaskOptions(**options)


def _check_handler(handler: object, options: TaskOptions) -> None:
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


default_registry = Registry()
"""Where `pgtasks.task` registers, and what an `App` uses unless it is given another."""
