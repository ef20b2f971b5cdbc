"""What the database knows of crontab entries and of timetables, as the commands show it: both in one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pgtasks.cron.schedule import Schedule
from pgtasks.errors import CronError, PayloadError, did_you_mean
from pgtasks.queue.arguments import MAX_LIMIT
from pgtasks.queue.crontabs import list_crontabs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import psycopg

    from pgtasks.app import App
    from pgtasks.queue.crontabs import CrontabStatus
    from pgtasks.queue.timetables import Timetable

_SOON: Final = 10.0
"""So many seconds may pass before a time is scheduled."""


@dataclass(frozen=True)
class Entry:
    """A crontab entry or a timetable."""

    kind: Literal["crontab", "timetable"]
    id: str
    about: Mapping[str, Any]
    """What it is: task, schedule, timezone, payload, and what else there is to a job; empty if that is not known."""
    paused: bool
    settled: dt.datetime
    """Up to here its times were dealt with."""
    last_at: dt.datetime | None
    """The latest time for which a job was added."""
    scheduled_at: dt.datetime | None
    """When that was done."""
    scheduled_by: str | None
    """Id of the host that did it."""
    error: str | None = None
    """Why it has no next time."""

    @property
    def schedule(self) -> Schedule | None:
        """Its times, if they are known and can be read."""
        try:
            return Schedule(self.about["schedule"], self.about["timezone"])
        except (KeyError, CronError):
            return None

    def next_times(self, now: dt.datetime) -> Iterator[dt.datetime]:
        """Yield the times to come; none of what is paused."""
        schedule = self.schedule
        start = max(now, self.settled)  # after a clock that was wrong, times to come may be dealt with already
        following = None if schedule is None or self.paused or self.error else schedule.next_after(start)
        while schedule is not None and following is not None:
            yield following
            following = schedule.next_after(following)

    def overdue(self, now: dt.datetime) -> float | None:
        """Return how many seconds ago the first time was that nobody has dealt with; None if there is none.

        A timetable makes up for it, a crontab entry only as far as its `backfill` goes.
        """
        schedule = self.schedule
        if schedule is None or self.paused or self.error:
            return None
        waiting = schedule.next_after(self.settled)
        seconds = 0.0 if waiting is None else (now - waiting).total_seconds()
        return seconds if seconds > _SOON else None

    @property
    def lag(self) -> float | None:
        """Seconds from its latest time to when that was scheduled."""
        if self.last_at is None or self.scheduled_at is None:
            return None
        return max(0.0, (self.scheduled_at - self.last_at).total_seconds())


def find_entries(
    app: App, ids: Sequence[str] | None = None, connection: psycopg.Connection[Any] | None = None
) -> list[Entry]:
    """Return the crontab entries and the timetables that have these ids, or all, in the order of their ids.

    Raises:
        PgtasksError: the database cannot be used.
    """
    found = [_of_crontab(status) for status in app.run(list_crontabs(app.statements, ids), connection)]
    after = None
    while page := app.timetables.list(ids=ids, limit=MAX_LIMIT, after=after, connection=connection):
        found += [_of_timetable(timetable) for timetable in page]
        after = page[-1].id
        if len(page) < MAX_LIMIT:
            break
    return sorted(found, key=lambda entry: (entry.id, entry.kind))


def explain_unknown(app: App, ids: Iterable[str], connection: psycopg.Connection[Any] | None = None) -> dict[str, str]:
    """Return by id what is wrong with ids that nothing has."""
    unknown = list(ids)
    known = {entry.id for entry in find_entries(app, connection=connection)} if unknown else set()
    what = "no crontab entry of a worker and no timetable has it"
    return {each: f"{what}{did_you_mean(each, known)}" for each in unknown}


def _of_crontab(status: CrontabStatus) -> Entry:
    # While an entry is paused its times are dealt with, too. Otherwise a Graphile Worker has added the latest job.
    paused = status.paused_at is not None
    ours = status.last_tick is not None and (paused or status.last_tick == status.last_execution)
    return Entry(
        kind="crontab",
        id=status.id,
        about={name: value for name, value in (status.entry or {}).items() if name != "id"},
        paused=paused,
        settled=status.last_execution or status.known_since,
        last_at=status.last_tick if ours else status.last_execution,
        scheduled_at=status.scheduled_at if ours else None,
        scheduled_by=status.scheduled_by if ours else None,
    )


def _of_timetable(timetable: Timetable) -> Entry:
    names = ("task", "schedule", "timezone", "backfill", "queue", "max_attempts", "priority", "job_key", "job_key_mode")
    about = {name: value for name in names if (value := getattr(timetable, name))}
    try:
        about["payload"] = timetable.payload
    except PayloadError:
        about["payload"] = None
    if timetable.flags:
        about["flags"] = list(timetable.flags)
    return Entry(
        kind="timetable",
        id=timetable.id,
        about=about,
        paused=timetable.paused,
        settled=timetable.settled_until,
        last_at=timetable.last_at,
        scheduled_at=timetable.scheduled_at,
        scheduled_by=timetable.scheduled_by,
        error=timetable.error,
    )
