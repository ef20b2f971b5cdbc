"""A task: a function that runs as jobs."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from pgtasks.cron.declared import declare
from pgtasks.deferring import Deferrable, Keys
from pgtasks.errors import JobOptionError, PayloadError, TaskDefinitionError
from pgtasks.handlers import Handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.cron.declared import CronOptions, Declaration
    from pgtasks.deferring import Enqueuer
    from pgtasks.options import TaskOptions

X = TypeVar("X")
"""What a task's payload is given as."""
P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
"""What the handler returns when it is called: an `async def` one a coroutine."""


class _Unsaid:
    """What only a task takes of whose payload nothing is said."""


_INSTEAD: Final = {
    **dict.fromkeys(("delay", "send", "enqueue"), "defer(payload)"),
    **dict.fromkeys(("apply_async", "send_with_options"), "defer(payload, queue=…, delay=…)"),
    **dict.fromkeys(("aenqueue", "kiq"), "await defer_async(payload)"),
}
"""What there is for methods that other frameworks have."""


class Timetable(Protocol):
    """What keeps cron entries."""

    def schedule(self, task: str, declaration: Declaration) -> None:
        """Add an entry for the task of that name."""


class Unregistered:
    """Keeps the cron entries of a task that is in no registry yet, and may be given another name."""

    def __init__(self) -> None:
        self.declarations: list[Declaration] = []

    def schedule(self, task: str, declaration: Declaration) -> None:
        """Add an entry."""
        self.declarations.append(declaration)


class Task(Deferrable[X, P, R_co]):
    """A registered function. Calling it runs the function here and now; `defer` adds a job that runs it in a worker.

    Made by `@task` or `@app.task`, not directly.
    """

    def __init__(self, handler: Callable[..., R_co], options: TaskOptions, enqueuer: Callable[[], Enqueuer]) -> None:
        functools.update_wrapper(self, handler)
        self.name: str = options.name if options.name is not None else handler.__name__
        self.options = options
        inspected = Handler(handler, self.name, stores_result=bool(options.store_result))
        self.inspected = inspected
        self.handler = handler
        self.run: Callable[..., Any] = inspected.run
        """Calls the handler with what it takes of a payload and a context."""
        self.payload = inspected.payload
        """The type of its payloads."""
        self.result = inspected.result
        """The type of what it returns."""
        self.place: str = inspected.place
        self.is_async: bool = inspected.is_async
        self.takes_payload: bool = inspected.takes_payload
        self.takes_context: bool = inspected.takes_context
        self._enqueuer = enqueuer
        self.usual: dict[str, Any] = {
            name: value
            for name in ("queue", "priority", "max_attempts", "flags")
            if (value := getattr(options, name)) is not None
        }
        """The options that its jobs have unless they say otherwise."""
        self.timetable: Timetable = Unregistered()
        """What keeps its cron entries: the registry, once it is in one."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function itself, in the caller's process."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name!r} at {self.place}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say what is in place of the methods of other frameworks."""
            hint = f"; add a job by {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise AttributeError(f"task {self.__dict__.get('name', '')!r} has no attribute {name!r}{hint}")

    def check(self) -> None:
        """Raise `TaskDefinitionError` if what its annotations name cannot be read."""
        self.payload.check()
        if self.options.store_result:
            self.result.check()

    def rename(self, name: str) -> None:
        """Give it another name, before it is registered."""
        timetable = self.timetable
        Task.__init__(self, self.handler, replace(self.options, name=name), self._enqueuer)
        self.timetable = timetable

    def cron(self, schedule: str, /, **options: Unpack[CronOptions]) -> Self:
        """Have workers add a job at the times of a schedule. Also as a decorator, `@task.cron(…)`, any number of times.

        Args:
            schedule: `minute hour day month weekday` as in a crontab, or `@hourly`, `@daily` and the like.
            options: `timezone`: name of the time zone that the times are in; `UTC` by default.
                `payload`: what the handler takes, an object.
                `id`: name by which the database remembers the entry; the task's name by default.
                `backfill`: for how long what was missed is made up for: `"2d"`, a timedelta or seconds; not at all by
                default.
                `max_attempts`, `queue`, `priority`, `job_key`, `job_key_mode`, `flags`: as for `defer`.

        Returns:
            The task itself.

        Raises:
            CronError: the schedule or an option cannot be used, the handler does not take the payload, or another entry
                has that id.

        Example:
            >>> from pgtasks import task
            >>> @task.cron("30 4 * * mon-fri", timezone="Europe/Berlin", payload={"days": 1}, backfill="2d")
            ... def report(*, days: int): ...
        """
        return self.declare(declare(schedule, options, "cron"))

    def declare(self, declaration: Declaration) -> Self:
        """Add a cron entry whose options were checked: what `cron` ends with."""
        try:
            declaration.entry(self.name, self)
        except TaskDefinitionError as error:
            # What annotations name may be defined further below. The payload is checked once more when workers load it.
            if error.missing is None:
                raise
        self.timetable.schedule(self.name, declaration)
        return self

    # Where a handler says nothing of a parameter, mypy takes the task for one of anything, and by the second form alone
    # would let `args` take nothing.
    @overload
    def args(self: Task[_Unsaid, P, Any], *args: Any, **kwargs: Any) -> dict[str, Any]: ...

    @overload
    def args(self: Task[Keys[Q], P, Any], *args: Q.args, **kwargs: Q.kwargs) -> dict[str, Any]: ...

    def args(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the payload with which a worker calls the handler with these arguments.

        For handlers whose parameters are the payload's keys. Type checkers see whether the handler takes them.

        Raises:
            PayloadError: it does not, or its payload is not an object of keys.

        Examples:
            >>> from pgtasks import task
            >>> @task
            ... def send_email(*, to: str, subject: str = "hello"): ...
            >>> send_email.args(to="ada@example.com")
            {'to': 'ada@example.com'}
        """
        try:
            return self.inspected.bind(args, kwargs)
        except PayloadError as error:
            raise error.with_traceback(None) from None


AnyTask = Task[Any, ..., Any]


def name_of(task: AnyTask | str) -> str:
    """Return the name of a task that is given as such or by its name.

    Raises:
        JobOptionError: it is neither.
    """
    if isinstance(task, str):
        return task
    if not isinstance(task, Task):
        raise JobOptionError(f"{task!r} is no task, nor the name of one: a task is what @task has made of a function")
    return task.name
