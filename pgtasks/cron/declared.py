"""Cron entries that code declares: `@task.cron(…)` and `app.cron(…)`."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict

from pgtasks import codec
from pgtasks.cron.entry import RESERVED, CronEntry, CronKeyMode, check_id, check_key_mode, payload_at
from pgtasks.cron.schedule import Schedule
from pgtasks.cron.spans import as_seconds
from pgtasks.errors import CronError, JobOptionError, PayloadError, did_you_mean
from pgtasks.job import JobSpec, check_flags, check_task_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

_INNER: Final = frozenset({"pgtasks.tasks", "pgtasks.decorating", "pgtasks.app", __name__})
"""Modules that are not where an entry is declared."""
_JOB_OPTIONS: Final = ("queue", "priority", "max_attempts", "job_key", "job_key_mode", "flags")


class CronOptions(TypedDict, total=False):
    """What may be said of a cron entry in code."""

    timezone: str
    """Name of the time zone that the times are in; `UTC` by default."""
    payload: Any
    """What the handler takes, as for `defer`; it has to be an object, since `_cron` is added to it."""
    id: str | None
    """Name by which the database remembers the entry, unique in a schema; the task's name by default."""
    backfill: str | dt.timedelta | float
    """For how long what was missed is made up for: `"2d"`, a timedelta or seconds. By default, not at all."""
    max_attempts: int | None
    """How often the job may be tried; as the task says by default, like `queue`, `priority` and `flags`."""
    queue: str | None
    """Name of a queue, whose jobs run one at a time, in order."""
    priority: int | None
    """From -32768 to 32767, lower runs earlier."""
    job_key: str | None
    """1 to 512 characters; a waiting job with this key is replaced."""
    job_key_mode: CronKeyMode | None
    """`replace` (the default) or `preserve_run_at`."""
    flags: Iterable[str] | None
    """Workers can be told to leave jobs with a flag alone."""


class _PayloadType(Protocol):
    """What is needed of a task's payload type."""

    def dump(self, payload: Any) -> Any: ...

    def load(self, text: str | bytes) -> Any: ...


class Target(Protocol):
    """What is needed of a task."""

    name: str

    @property
    def payload(self) -> _PayloadType:
        """The type of its payloads."""

    @property
    def usual(self) -> Mapping[str, Any]:
        """The options of its jobs."""


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """An entry as code has declared it, before the task's name and payload type are settled."""

    schedule: Schedule
    options: Mapping[str, Any]
    """Checked, apart from the payload."""
    source: str
    execution: object
    """Which run of its file has declared it."""

    def id_for(self, task: str) -> str:
        """Return the name of the entry, for a task of that name."""
        given: str | None = self.options.get("id")
        return task if given is None else given

    def entry(self, task: str, target: Target | None) -> CronEntry:
        """Return the entry.

        Args:
            task: the task's name.
            target: the task, if it is known here.

        Raises:
            CronError: the task does not take the payload.
            TaskDefinitionError: its annotations cannot be read.
        """
        usual: Mapping[str, Any] = {}
        if target is not None:
            usual = target.usual
        try:
            payload = read_payload(self.options.get("payload"), target)
        except PayloadError as error:
            raise CronError(f"{self.source}: {error}") from None
        given = {name: self.options[name] for name in _JOB_OPTIONS if self.options.get(name) is not None}
        return CronEntry(
            id=self.id_for(task),
            task=task,
            schedule=self.schedule,
            source=self.source,
            payload=payload,
            backfill=self.options["backfill"],
            **{**usual, **given},
        )


def read_payload(payload: Any, target: Target | None) -> Mapping[str, Any] | None:
    """Return the payload of an entry as JSON has it, checked as when a job is added, and as before it runs.

    Args:
        payload: as for `defer`.
        target: the task, if it is known here.

    Raises:
        PayloadError: the task does not take it.
    """
    dumped: Any = payload if target is None else target.payload.dump(payload)
    if dumped is not None:
        if not isinstance(dumped, Mapping):
            raise PayloadError(
                f"the payload of a cron entry has to be an object, since {RESERVED!r} is added to it, "
                f"not {_named(dumped)}"
            )
        # As the supervisor can hold it without the application.
        dumped = codec.decode(codec.encode(dumped))
    if target is not None:
        try:
            target.payload.load(codec.encode(payload_at(dumped, dt.datetime.now(dt.UTC))))
        except PayloadError as error:
            raise PayloadError(f"cron adds {RESERVED!r} to the payload, and {error}") from None
    return dumped  # type: ignore[no-any-return]  # None or an object, as was seen above


def declare(schedule: str, options: Mapping[str, Any], what: str) -> Declaration:
    """Check what code says of an entry.

    Args:
        schedule: the five fields, or `@daily` and the like.
        options: `CronOptions`.
        what: how messages call the function that was called.

    Raises:
        CronError: the schedule or an option cannot be used; the message names the place and the fix.
    """
    frame = _calling_frame()
    place = _place(frame)
    for name in options:
        if name not in CronOptions.__annotations__:
            raise CronError(f"{place}: {what} has no option {name!r}{_hint(name)}")
    given = dict(options)
    try:
        made = Schedule(schedule, given.get("timezone", "UTC"))
        given["backfill"] = as_seconds(given.get("backfill", 0), "backfill")
        if given.get("flags") is not None:
            given["flags"] = check_flags(given["flags"])
        _check(given)
    except (CronError, JobOptionError, PayloadError) as error:
        raise CronError(f"{place}: {error}") from None
    return Declaration(made, given, place, frame.f_globals.get("__spec__"))


class Declarations:
    """Entries by their names."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Declaration]] = {}
        """With the names of their tasks."""

    def add(self, task: str, declaration: Declaration) -> None:
        """Add an entry for a task, in place of the same one of a module that was loaded again.

        Raises:
            CronError: another entry has the same name; the message shows both places.
        """
        id = declaration.id_for(task)
        known = self._known.get(id)
        if known is not None and known[1] is not declaration and not _replaces(declaration, known[1]):
            raise taken(id, known[1].source, declaration.source)
        self._known[id] = (task, declaration)

    def drop(self, task: str, execution: object) -> None:
        """Forget what one run of a file has declared for a task."""
        for id, (name, declaration) in list(self._known.items()):
            if name == task and declaration.execution is execution:
                del self._known[id]

    def entries(self, tasks: Mapping[str, Target]) -> list[CronEntry]:
        """Return the entries, as `Declaration.entry` does, for the tasks that there are."""
        return [declaration.entry(task, tasks.get(task)) for task, declaration in self._known.values()]


def taken(id: str, first: str, second: str) -> CronError:
    """Return the error that two entries have the same name, at two places."""
    return CronError(f"cron entry {id!r} is there twice: at {first} and at {second}; give one of them another id")


def check_entry(entry: CronEntry) -> CronEntry:
    """Return an entry that somebody has made by hand, as it can be scheduled.

    Raises:
        TypeError: something in it is of the wrong type.
        ValueError: something in it cannot be used: the database would refuse it, with all other entries.
    """
    if not isinstance(entry.schedule, Schedule):
        raise TypeError(f"cron entry {entry.id!r}: schedule={entry.schedule!r} has to be a Schedule")
    try:
        check_id(entry.id)
        check_task_name(entry.task)
        _check({name: getattr(entry, name) for name in _JOB_OPTIONS})
        payload = read_payload(entry.payload, None)
        backfill = as_seconds(entry.backfill, "backfill")
        flags = None if entry.flags is None else check_flags(entry.flags)
    except (CronError, JobOptionError, PayloadError) as error:
        raise ValueError(f"cron entry {entry.id!r}: {error}") from None
    return replace(entry, payload=payload, backfill=backfill, flags=flags)


def join_entries(*groups: Iterable[CronEntry]) -> list[CronEntry]:
    """Return the entries of all groups, in their order: those of the crontab, of code, of plugins.

    Raises:
        CronError: two entries have the same name; the message shows both places.
    """
    known: dict[str, CronEntry] = {}
    for group in groups:
        for entry in group:
            if (other := known.setdefault(entry.id, entry)) is not entry:
                raise taken(entry.id, other.source, entry.source)
    return list(known.values())


def _replaces(new: Declaration, old: Declaration) -> bool:
    if hasattr(sys, "ps1"):
        return True  # a prompt or a notebook, where a cell is edited and run again
    same_file = new.source.rpartition(":")[0] == old.source.rpartition(":")[0]
    return same_file and new.execution is not old.execution


def _check(options: Mapping[str, Any]) -> None:
    id = options.get("id")
    if id is not None:
        check_id(id)
    if (mode := options.get("job_key_mode")) is not None:
        check_key_mode(mode)
    JobSpec(task="any", **{name: options.get(name) for name in _JOB_OPTIONS})


def _named(payload: object) -> str:
    return "null" if payload is codec.NULL else type(payload).__name__


def _hint(name: str) -> str:
    if name in ("run_at", "delay", "notify", "connection"):
        return ", since the schedule says when jobs are added"
    if name in (
        "name",
        "timeout",
        "grace",
        "retry",
        "retry_on",
        "no_retry_on",
        "expected",
        "upgrade",
        "store_result",
        "transactional",
        "invalid_payload",
    ):
        return f", which is the task's: say @task({name}=…) below"
    meant = {
        "fill": "backfill",
        "tz": "timezone",
        "max": "max_attempts",
        "jobKey": "job_key",
        "args": "payload",
        "kwargs": "payload",
    }.get(name)
    hint = f"; did you mean {meant!r}?" if meant else did_you_mean(name, CronOptions.__annotations__)
    return hint or f"; it has {', '.join(CronOptions.__annotations__)}"


def _calling_frame() -> FrameType:
    """Return where the entry is declared: the first frame that is not one of ours."""
    frame = sys._getframe(1)  # noqa: SLF001 - to name the line, as warnings do
    while frame.f_globals.get("__name__") in _INNER and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _place(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{frame.f_lineno}"
