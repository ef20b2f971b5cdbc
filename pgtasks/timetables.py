"""Timetables of users' own data: making them, changing them, looking at them, from blocking and from asyncio code.

As in `administration`, each method is made of one definition, a function that gives the operation.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from pgtasks.administration import dressed
from pgtasks.cron.declared import read_payload
from pgtasks.cron.entry import RESERVED
from pgtasks.cron.schedule import Schedule
from pgtasks.cron.spans import as_seconds
from pgtasks.errors import JobOptionError
from pgtasks.job import JobSpec, check_flags
from pgtasks.queue import timetables
from pgtasks.queue.arguments import check_string
from pgtasks.tasks import name_of

if TYPE_CHECKING:
    import builtins
    import datetime as dt
    from collections.abc import Callable, Coroutine, Iterable

    from pgtasks.administration import Connection
    from pgtasks.database import Operation
    from pgtasks.job import Job, JobKeyMode
    from pgtasks.queue.timetables import Timetable
    from pgtasks.registry import Registry
    from pgtasks.sql import Statements
    from pgtasks.tasks import Task

P = ParamSpec("P")
T = TypeVar("T")


class Host(Protocol):
    """What runs the operations: the App."""

    registry: Registry

    @property
    def statements(self) -> Statements:
        """The SQL statements."""

    def run(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""


# Definitions. `connection` is the caller's business, and stands here for the signature.


def _put(
    host: Host,
    id: str,
    task: str | Task[Any, Any, Any],
    schedule: str,
    *,
    timezone: str = "UTC",
    payload: Any = None,
    backfill: str | dt.timedelta | float = 0,
    queue: str | None = None,
    max_attempts: int | None = None,
    priority: int | None = None,
    job_key: str | None = None,
    job_key_mode: JobKeyMode | None = None,
    flags: Iterable[str] | None = None,
    connection: Connection = None,
) -> Operation[Timetable]:
    """Make a timetable, or change the one that has this id to be just so.

    One whose schedule stays the same goes on as if nothing had happened; else it begins with the first time from now
    on. A paused one stays paused. Workers hear of it when the transaction commits.

    Args:
        id: its name, up to 512 characters.
        task: the task, or its name, which need not be known here. A task's options count for the jobs, as they are now,
            a name's do not: what is None is the database's default.
        schedule: its times: five fields, minute, hour, day, month and weekday, or `@daily` and the like.
        timezone: the time zone that they are in.
        payload: what the jobs get, an object; `_cron` is added to it. If the task is known here, it is checked.
        backfill: a time phrase such as `"2d"`, a `timedelta` or seconds. If times were missed, those of so long ago get
            a job each; otherwise the latest gets one.
        queue: name of a queue for the jobs.
        max_attempts: how often each may be tried.
        priority: lower runs earlier.
        job_key: a key for the jobs.
        job_key_mode: what happens if the last one is still there.
        flags: flags of the jobs.
        connection: where to do it, in whatever transaction is open there; by default one of the app's pool.

    Raises:
        CronError: the schedule, the time zone or `backfill` cannot be read.
        JobOptionError: another argument is not what it can be.
        PayloadError: the task does not take the payload, or it is not an object.
    """
    if not 0 < len(check_string("id", id)) <= 512:
        raise JobOptionError(f"id={id!r} must have 1 to 512 characters")
    name = name_of(task)
    times, seconds = Schedule(schedule, timezone), as_seconds(backfill, "backfill")
    known = host.registry.get(task) if isinstance(task, str) else task
    usual = {} if isinstance(task, str) else task.usual
    options = {
        "queue": queue,
        "max_attempts": max_attempts,
        "priority": priority,
        "job_key": job_key,
        "job_key_mode": job_key_mode,
        "flags": None if flags is None else check_flags(flags),
    }
    given = {**usual, **{name: value for name, value in options.items() if value is not None}}
    checked = read_payload(payload, known)
    if checked is not None and RESERVED in checked:
        raise JobOptionError(f"the payload of timetable {id!r} has the key {RESERVED!r}, which is added to each job's")
    spec = JobSpec(task=name, payload=checked, **given)
    return timetables.put(host.statements, id, spec, times.text, times.timezone, seconds)


def _get(host: Host, id: str, *, connection: Connection = None) -> Operation[Timetable | None]:
    """Return the timetable of this id, or None if there is none."""
    return timetables.get(host.statements, id)


def _list(
    host: Host,
    *,
    ids: Iterable[str] | None = None,
    task: str | None = None,
    limit: int = 1_000,
    after: str | None = None,
    connection: Connection = None,
) -> Operation[builtins.list[Timetable]]:
    """Return the first `limit` timetables, in the order of their ids.

    Args:
        ids: only those of these ids.
        task: only those of the task of this name.
        limit: the most to return, from 1 to 10,000.
        after: an id: only those that follow it.
        connection: where to look; by default one of the app's pool.
    """
    return timetables.list_timetables(host.statements, ids, task, limit, after)


def _remove(host: Host, id: str, *, connection: Connection = None) -> Operation[bool]:
    """Remove a timetable; the jobs that it has added stay. Returns whether there was one of this id."""
    return timetables.change(host.statements, id, "remove")


def _pause(host: Host, id: str, *, connection: Connection = None) -> Operation[bool]:
    """Have a timetable add no more jobs until it is resumed. Returns whether there is one of this id."""
    return timetables.change(host.statements, id, "pause")


def _resume(host: Host, id: str, *, connection: Connection = None) -> Operation[bool]:
    """Let a paused timetable go on with its next time from now on. Returns whether there is one of this id."""
    return timetables.change(host.statements, id, "resume")


def _run(host: Host, id: str, *, connection: Connection = None) -> Operation[Job | None]:
    """Add the job of a timetable now, beside those of its times; returns None if there is none of this id."""
    return timetables.run_now(host.statements, id)


# Methods of them


def _blocking(define: Callable[Concatenate[Host, P], Operation[T]]) -> Callable[Concatenate[Timetables, P], T]:
    @functools.wraps(define)
    def method(self: Timetables, /, *args: P.args, **kwargs: P.kwargs) -> T:
        host = self._host
        return host.run(define(host, *args, **kwargs), kwargs.get("connection"))

    return dressed(method, define, "Timetables")


def _asynchronous(
    define: Callable[Concatenate[Host, P], Operation[T]],
) -> Callable[Concatenate[AsyncTimetables, P], Coroutine[Any, Any, T]]:
    @functools.wraps(define)
    async def method(self: AsyncTimetables, /, *args: P.args, **kwargs: P.kwargs) -> T:
        host = self._host
        return await host.run_async(define(host, *args, **kwargs), kwargs.get("connection"))

    return dressed(method, define, "AsyncTimetables")


class Timetables:
    """Timetables that are kept in the database, from blocking code: `app.timetables`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    put = _blocking(_put)
    get = _blocking(_get)
    list = _blocking(_list)
    remove = _blocking(_remove)
    pause = _blocking(_pause)
    resume = _blocking(_resume)
    run = _blocking(_run)


class AsyncTimetables:
    """The same from asyncio code: `app.timetables_async`. Its methods are those of `Timetables`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    put = _asynchronous(_put)
    get = _asynchronous(_get)
    list = _asynchronous(_list)
    remove = _asynchronous(_remove)
    pause = _asynchronous(_pause)
    resume = _asynchronous(_resume)
    run = _asynchronous(_run)
