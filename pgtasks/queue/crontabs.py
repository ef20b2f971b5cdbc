"""Crontab entries in the database: making them known, scheduling their jobs, pausing them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from pgtasks import codec
from pgtasks.cron.data import write_entry
from pgtasks.cron.ticks import Known
from pgtasks.database import Operation
from pgtasks.queue.arguments import check_string, each_checked

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from pgtasks.cron.entry import CronEntry
    from pgtasks.cron.ticks import CronTick
    from pgtasks.database import Row
    from pgtasks.sql import Statements

TickState = Literal["added", "paused", "refused"]
"""What became of a tick: its job was added; or not, since its entry is paused, or the job is not wanted."""


class Recorded(NamedTuple):
    """What the database knows of entries."""

    clock: datetime
    """What time it was."""
    known: Mapping[str, Known]
    """By the entry's id."""


class Settled(NamedTuple):
    """A tick that this call has dealt with, and nobody before."""

    number: int
    """Which of those that were asked for, from 0 on."""
    state: TickState
    job_id: int | None


class Scheduled(NamedTuple):
    """What has become of ticks."""

    clock: datetime
    """What time it was: later ticks were left alone."""
    settled: Sequence[Settled]
    """What was dealt with; somebody else has done so with the others."""


@dataclass(frozen=True, slots=True)
class CrontabStatus:
    """What the database knows of a crontab entry, or has known: entries that were removed stay in its memory."""

    id: str
    known_since: datetime
    last_execution: datetime | None
    """The latest time that was dealt with, by anybody."""
    entry: dict[str, Any] | None
    """What it is, as the worker has it that was started last; None if only Graphile Workers have it."""
    recorded_at: datetime | None
    recorded_by: str | None
    """The host that says so."""
    paused_at: datetime | None
    """Since when it is paused."""
    last_tick: datetime | None
    """The latest time for which a worker of pgtasks has added a job."""
    scheduled_at: datetime | None
    """When that was done."""
    scheduled_by: str | None
    """By which host."""
    last_job_id: int | None


def record_crontabs(
    sql: Statements, host: str, entries: Sequence[CronEntry], clock: datetime | None = None
) -> Operation[Recorded]:
    """Make entries known from now on that are not, and ask what is known of all."""
    ids = [entry.id for entry in entries]
    written = [write_entry(entry) for entry in entries]
    return Operation("record_crontabs", sql.get("record_crontabs"), (host, clock, ids, written), _recorded)


def schedule_crontab(
    sql: Statements,
    host: str,
    ticks: Sequence[CronTick],
    refused: Collection[tuple[str, datetime]] = (),
    clock: datetime | None = None,
) -> Operation[Scheduled]:
    """Deal with ticks, oldest first: add their jobs, where that was not done yet and their time has come.

    Without ticks it only asks what time it is.
    """
    specs = [tick.spec for tick in ticks]
    parameters = (
        host,
        clock,
        [tick.at for tick in ticks],
        [tick.entry.id for tick in ticks],
        [tick.name not in refused for tick in ticks],
        [spec.task for spec in specs],
        [codec.encode(tick.spec.payload, f"payload of cron entry {tick.entry.id!r}") for tick in ticks],
        [spec.queue for spec in specs],
        [_run_at(tick) for tick in ticks],
        [spec.max_attempts for spec in specs],
        [spec.job_key for spec in specs],
        [spec.priority for spec in specs],
        [None if spec.flags is None else codec.encode(list(spec.flags), "flags") for spec in specs],
        [spec.job_key_mode for spec in specs],
    )
    return Operation("schedule_crontab", sql.get("schedule_crontab"), parameters, _scheduled)


def pause_crontabs(sql: Statements, ids: Iterable[str], *, pause: bool) -> Operation[list[str]]:
    """Pause entries for all hosts, or resume them; returns the ids of those that are known."""
    checked = each_checked("ids", "texts", ids, check_string)
    return Operation("pause_crontabs", sql.get("pause_crontabs"), (checked, pause), _ids)


def list_crontabs(sql: Statements, ids: Iterable[str] | None = None) -> Operation[list[CrontabStatus]]:
    """Ask what is known of entries, or of all, in the order of their ids."""
    checked = None if ids is None else each_checked("ids", "texts", ids, check_string)
    return Operation("list_crontabs", sql.get("list_crontabs"), (checked,), _statuses)


def _run_at(tick: CronTick) -> datetime:
    spec = tick.spec
    if spec.delay_seconds is not None:
        return tick.at + timedelta(seconds=spec.delay_seconds)
    return tick.at if spec.run_at is None else spec.run_at


def _recorded(rows: list[Row]) -> Recorded:
    return Recorded(rows[0][0], {row[1]: Known(row[2], row[3]) for row in rows[1:]})


def _scheduled(rows: list[Row]) -> Scheduled:
    return Scheduled(rows[0][0], [Settled(row[1] - 1, row[2], row[3]) for row in rows[1:]])


def _ids(rows: list[Row]) -> list[str]:
    return [row[0] for row in rows]


def _statuses(rows: list[Row]) -> list[CrontabStatus]:
    return [_status(*row) for row in rows]


def _status(id: str, known_since: datetime, last: datetime | None, entry: bytes | None, *noted: Any) -> CrontabStatus:
    return CrontabStatus(id, known_since, last, None if entry is None else codec.decode(entry), *noted)
