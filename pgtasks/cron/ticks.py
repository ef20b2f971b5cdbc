"""Which times of crontab entries are due: plain functions of entries and moments, without a clock or a database."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pgtasks.cron.entry import payload_at
from pgtasks.job import JobSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgtasks.cron.entry import CronEntry

_INSTANT: Final = timedelta(microseconds=1)
"""The smallest step of the database's clock."""


@dataclass(frozen=True, slots=True)
class CronTick:
    """One of the times at which an entry is due, and the job that it stands for."""

    entry: CronEntry
    at: datetime
    """The minute, in UTC."""
    backfilled: bool
    """Whether it is made up for: nobody scheduled it when it came."""
    spec: JobSpec
    """The job."""
    job_id: int | None = None
    """Of the job, once it was added."""

    @property
    def name(self) -> tuple[str, datetime]:
        """What tells the tick from all others."""
        return self.entry.id, self.at


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of an entry."""

    since: datetime
    """When it was recorded for the first time."""
    last: datetime | None
    """Its latest time that was dealt with."""


def minute_of(moment: datetime) -> datetime:
    """Return the beginning of the minute, in UTC.

    >>> minute_of(datetime(2026, 5, 4, 12, 30, 59, 999999, UTC)).isoformat()
    '2026-05-04T12:30:00+00:00'
    """
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def just_before(moment: datetime) -> datetime:
    """Return the last moment after which this one still comes."""
    return moment - _INSTANT


def due(entries: Sequence[CronEntry], after: datetime, until: datetime) -> Iterator[CronTick]:
    """Yield what is due, with `after < at <= until`: the oldest first, and within a minute in the order of entries."""
    return _merged((entry, after, until) for entry in entries)


def missed(entries: Sequence[CronEntry], known: Mapping[str, Known], now: datetime) -> Iterator[CronTick]:
    """Yield what is to be made up for at `now`, in the same order.

    Those are the times before now that are no longer ago than an entry's `backfill`, after the last one that was dealt
    with, and not before the entry was known. Of an entry that is not known there are none.
    """
    windows = [
        (entry, _not_dealt_with(entry, known[entry.id], now), just_before(now))
        for entry in entries
        if entry.backfill > 0 and entry.id in known
    ]
    return _merged(windows, backfilled=True)


def _not_dealt_with(entry: CronEntry, known: Known, now: datetime) -> datetime:
    try:
        beginning = just_before(now - timedelta(seconds=entry.backfill))
    except OverflowError:  # since ever
        beginning = datetime.min.replace(tzinfo=UTC)
    return max(beginning, just_before(known.since) if known.last is None else known.last)


def _merged(windows: Iterable[tuple[CronEntry, datetime, datetime]], *, backfilled: bool = False) -> Iterator[CronTick]:
    times = (_times(number, entry, after, until) for number, (entry, after, until) in enumerate(windows))
    for at, _, entry in heapq.merge(*times, key=lambda found: found[:2]):
        yield CronTick(entry, at, backfilled, _spec(entry, at, backfilled=backfilled))


def _times(
    number: int, entry: CronEntry, after: datetime, until: datetime
) -> Iterator[tuple[datetime, int, CronEntry]]:
    for at in entry.schedule.between(after, until):
        yield at, number, entry


def _spec(entry: CronEntry, at: datetime, *, backfilled: bool) -> JobSpec:
    return JobSpec(
        task=entry.task,
        payload=payload_at(entry.payload, at, backfilled=backfilled),
        queue=entry.queue,
        run_at=at,
        priority=entry.priority,
        max_attempts=entry.max_attempts,
        job_key=entry.job_key,
        job_key_mode=entry.job_key_mode if entry.job_key is not None else None,
        flags=entry.flags,
    )
