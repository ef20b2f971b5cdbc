"""Adding the jobs of cron entries, without waiting for their times."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from pgtasks.app import App, current_app
from pgtasks.cron.ticks import due
from pgtasks.worker.cron_entries import find_entries

if TYPE_CHECKING:
    import datetime as dt

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.job import Job, JobSpec

_MOST = 10_000
"""Jobs that one call adds: a mistake in the times is a more likely reason for more."""


def add_cron_jobs(
    after: dt.datetime,
    until: dt.datetime,
    *,
    id: str | None = None,
    app: App | None = None,
    connection: BlockingConnection | None = None,
) -> list[Job]:
    """Add the jobs of cron entries whose times are in between, as workers would have done then.

    The entries are those of code, of the crontab file and of plugins. In the order of their times, each job gets the
    payload and the options that its entry says, and can run at once. What workers have recorded is not looked at, and
    nothing is recorded: a second call with the same times adds the jobs once more.

    Args:
        after: times after this one, with a time zone.
        until: times up to this one, with a time zone.
        id: only those of the entry of this id.
        app: whose entries; by default those of the App that `pgtasks.task` uses.
        connection: where to add the jobs, as `defer` takes it.

    Raises:
        CronError: the entries have mistakes, as those with which no worker starts.
        ValueError: a time has no zone; there is no such entry; or there are more than 10,000 jobs.

    Examples:
        ```python
        (job,) = add_cron_jobs(datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), id="report")
        assert job.payload["_cron"]["ts"] == "2026-11-30T03:30:00.000Z"
        run_jobs()
        ```
    """
    app = app or current_app()
    return [app.add_spec(spec, connection, notify=True) for spec in _specs(app, after, until, id)]


async def add_cron_jobs_async(
    after: dt.datetime,
    until: dt.datetime,
    *,
    id: str | None = None,
    app: App | None = None,
    connection: AsyncConnection | None = None,
) -> list[Job]:
    """Do what `add_cron_jobs` does, from asyncio code; `connection` is one of asyncio's."""
    app = app or current_app()
    return [await app.add_spec_async(spec, connection, notify=True) for spec in _specs(app, after, until, id)]


def _specs(app: App, after: dt.datetime, until: dt.datetime, id: str | None) -> list[JobSpec]:
    for time in (after, until):
        if time.utcoffset() is None:
            raise ValueError(f"{time!r} has no time zone; say which is meant, for example with tzinfo=datetime.UTC")
    entries = find_entries(app)
    if id is not None and id not in (known := [entry.id for entry in entries]):
        raise ValueError(f"there is no cron entry {id!r}; there are {', '.join(map(repr, known)) or 'none'}")
    wanted = [entry for entry in entries if id in (None, entry.id)]
    ticks = list(islice(due(wanted, after, until), _MOST + 1))
    if len(ticks) > _MOST:
        raise ValueError(f"more than {_MOST} jobs would be added from {after} to {until}; take a shorter time")
    return [replace(tick.spec, run_at=None) for tick in ticks]
