"""Timetables that are kept in the database: changing them, finding those that are due, adding their jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pgtasks import codec
from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.queue.arguments import check_limit, check_string, check_text, each_checked
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from pgtasks.database import Row
    from pgtasks.job import Job, JobKeyMode, JobSpec
    from pgtasks.sql import Statements

CHANNEL: Final = "pgtasks:timetables"
"""Where workers hear that there is a timetable whose next time they have to find out."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """A timetable that is kept in the database."""

    id: str
    """Its name."""
    task: str
    """Name of the task whose jobs it adds."""
    schedule: str
    """When: five fields, or `@daily` and the like."""
    timezone: str
    """Name of the time zone that the fields are in."""
    payload_json: str
    """What its jobs get, beside the key `_cron`, as JSON: an object."""
    queue: str | None
    """Name of its jobs' queue, if they have one."""
    max_attempts: int | None
    """How often a job may be tried; None, here and below: the database's default."""
    job_key: str | None
    """The key of its jobs."""
    priority: int | None
    """Lower runs earlier."""
    flags: tuple[str, ...] | None
    """Flags of its jobs."""
    job_key_mode: JobKeyMode | None
    """What happens to a job that has the same key."""
    backfill: float
    """Seconds for which times that were missed are made up for, one by one; of older ones only the latest is."""
    paused: bool
    """Whether it adds no jobs until it is resumed."""
    settled_until: dt.datetime
    """Its times up to here are dealt with."""
    next_at: dt.datetime | None
    """Its next time; None while a worker has yet to find it out, and if there is none."""
    error: str | None
    """Why it cannot be scheduled, if so: its schedule or time zone is none, or it has no time ever again."""
    last_at: dt.datetime | None
    """The latest of its times for which a job was added."""
    scheduled_at: dt.datetime | None
    """When that was done."""
    scheduled_by: str | None
    """Id of the host that did it."""
    created_at: dt.datetime
    """When it was made."""
    updated_at: dt.datetime
    """When somebody changed it last."""

    @property
    def payload(self) -> dict[str, Any]:
        """What its jobs get, beside the key `_cron`.

        Raises:
            PayloadError: Python cannot hold the JSON.
        """
        payload: dict[str, Any] = codec.decode(self.payload_json)
        return payload

    @property
    def lag(self) -> float | None:
        """Seconds from its latest time to when the job was added."""
        if self.last_at is None or self.scheduled_at is None:
            return None
        return (self.scheduled_at - self.last_at).total_seconds()


class Due(NamedTuple):
    """A timetable whose next time has come, or has to be found out."""

    id: str
    task: str
    schedule: str
    timezone: str
    backfill: float
    """Seconds."""
    settled_until: dt.datetime
    """All its times up to here are dealt with."""
    next_at: dt.datetime | None
    """The time that has come, if it is known."""


class Found(NamedTuple):
    """What a look for timetables that are due has found."""

    at: dt.datetime
    """What time it was, by the database's clock."""
    following_at: dt.datetime | None
    """The next time of all other timetables."""
    due: list[Due]


class Settlement(NamedTuple):
    """What is to be done about a timetable that is due."""

    due: Due
    moments: Sequence[dt.datetime]
    """The times for which jobs are to be added, in order."""
    until: dt.datetime
    """All its times up to here are dealt with then."""
    next_at: dt.datetime | None
    """Its next time."""
    error: str | None
    """Why there is none."""


def put(
    sql: Statements, timetable_id: str, spec: JobSpec, schedule: str, timezone: str, backfill: float
) -> Operation[Timetable]:
    """Make a timetable, or change the one that has this id.

    Args:
        sql: the statements.
        timetable_id: its name.
        spec: what its jobs are like.
        schedule: its times.
        timezone: in which time zone.
        backfill: seconds for which times that were missed are made up for.
    """
    parameters = (
        timetable_id,
        spec.task,
        schedule,
        timezone,
        None if spec.payload is None else codec.encode(spec.payload, f"payload of timetable {timetable_id!r}"),
        spec.queue,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        None if spec.flags is None else list(spec.flags),
        spec.job_key_mode,
        backfill,
    )
    return Operation("put_timetable", sql.get("put_timetable"), parameters, _first)


def get(sql: Statements, timetable_id: str) -> Operation[Timetable | None]:
    """Return the timetable of an id, if there is one."""
    parameters = ([check_string("id", timetable_id)], None, None, 1)
    return Operation("list_timetables", sql.get("list_timetables"), parameters, _first_if_any)


def list_timetables(
    sql: Statements, ids: Iterable[str] | None, task: str | None, limit: int, after: str | None
) -> Operation[list[Timetable]]:
    """Return timetables in the order of their ids."""
    check_text("task", task)
    check_text("after", after)
    some = None if ids is None else each_checked("ids", "strings", ids, check_string)
    parameters = (some, task, after, check_limit(limit))
    return Operation("list_timetables", sql.get("list_timetables"), parameters, _all)


def change(sql: Statements, timetable_id: str, what: Literal["remove", "pause", "resume"]) -> Operation[bool]:
    """Change a timetable; returns whether there is one of this id."""
    parameters = (check_string("id", timetable_id), what)
    return Operation("change_timetable", sql.get("change_timetable"), parameters, _value)


def run_now(sql: Statements, timetable_id: str) -> Operation[Job | None]:
    """Add the job of a timetable now; returns None if there is no timetable of this id."""
    parameters = (check_string("id", timetable_id),)
    return Operation("run_timetable", sql.get("run_timetable"), parameters, _job, UNREAD_TIMES)


def due_timetables(
    sql: Statements, limit: int, *, at: dt.datetime | None = None, left_out: Sequence[str] = ()
) -> Operation[Found]:
    """Look for timetables that are due at a time, by default now, or whose next time has to be found out."""
    return Operation("due_timetables", sql.get("due_timetables"), (at, list(left_out), limit), _found)


def settle_timetables(
    sql: Statements, host: str, at: dt.datetime, settlements: Sequence[Settlement]
) -> Operation[set[str]]:
    """Add the jobs of timetables and note their next times.

    Returns:
        The ids of those of which this was done: all that are still as they were found, and nobody is just changing.
    """
    dues = [settlement.due for settlement in settlements]
    parameters = (
        host,
        at,
        [due.id for due in dues],
        [due.schedule for due in dues],
        [due.timezone for due in dues],
        [due.settled_until for due in dues],
        [settlement.until for settlement in settlements],
        [settlement.next_at for settlement in settlements],
        [settlement.error for settlement in settlements],
        [len(settlement.moments) for settlement in settlements],
        [moment for settlement in settlements for moment in settlement.moments],
    )
    return Operation("settle_timetables", sql.get("settle_timetables"), parameters, _ids)


def _timetable(row: Row) -> Timetable:
    timetable_id, task, schedule, timezone, payload, queue, max_attempts, job_key, priority, flags, *rest = row
    return Timetable(
        timetable_id,
        task,
        schedule,
        timezone,
        "{}" if payload is None else payload.decode("utf-8", "replace"),
        queue,
        max_attempts,
        job_key,
        priority,
        None if flags is None else tuple(flags),
        *rest,
    )


def _first(rows: list[Row]) -> Timetable:
    return _timetable(rows[0])


def _first_if_any(rows: list[Row]) -> Timetable | None:
    return _timetable(rows[0]) if rows else None


def _all(rows: list[Row]) -> list[Timetable]:
    return [_timetable(row) for row in rows]


def _value(rows: list[Row]) -> bool:
    return bool(rows[0][0])


def _job(rows: list[Row]) -> Job | None:
    return job_from_row(rows[0], rows[0][14], rows[0][15]) if rows else None


def _found(rows: list[Row]) -> Found:
    (at, following_at, *_), *due = rows
    return Found(at, following_at, [Due(*row[2:]) for row in due])


def _ids(rows: list[Row]) -> set[str]:
    return {row[0] for row in rows}
