"""The tasks that `@task` has registered, by name."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, ClassVar

from pgtasks.cron.declared import Declarations
from pgtasks.errors import TaskDefinitionError, did_you_mean
from pgtasks.tasks import Unregistered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.cron.declared import Declaration
    from pgtasks.cron.entry import CronEntry
    from pgtasks.tasks import AnyTask


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


default_registry = Registry()
"""Where `pgtasks.task` registers, and what an `App` uses unless it is given another."""
