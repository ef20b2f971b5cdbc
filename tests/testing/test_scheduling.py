"""Tests add the jobs of cron entries, without waiting for their times."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.testing import add_cron_jobs, add_cron_jobs_async, run_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pgtasks import App

    MakeApp = Callable[..., App]

SUNDAY = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def app(pgtasks_app: MakeApp, tmp_path: Path) -> App:
    crontab = tmp_path / "crontab"
    crontab.write_text("0 12 * * * report ?id=noon&priority=3 {of: 'noon'}\n")
    app = pgtasks_app(crontab=crontab)
    seen: list[str] = []

    @app.task.cron("30 4 * * mon-fri", timezone="Europe/Berlin", payload={"of": "morning"})
    @app.task(queue="reports")
    def report(*, of: str) -> list[str]:
        seen.append(of)
        return seen

    return app


def test_the_jobs_of_entries_are_added_in_the_order_of_their_times_and_can_run(app: App) -> None:
    jobs = add_cron_jobs(SUNDAY, SUNDAY + 2 * DAY, app=app)
    assert [(job.payload["_cron"]["ts"], job.payload["of"], job.queue, job.priority) for job in jobs] == [
        ("2026-11-29T12:00:00.000Z", "noon", None, 3),
        ("2026-11-30T03:30:00.000Z", "morning", "reports", 0),
        ("2026-11-30T12:00:00.000Z", "noon", None, 3),
    ]
    assert run_jobs(app=app)[-1].value == ["morning", "noon", "noon"]
    [job] = asyncio.run(add_cron_jobs_async(SUNDAY, SUNDAY + 2 * DAY, id="report", app=app))
    assert job.payload["of"] == "morning"
    asyncio.run(app.aclose())


def test_times_and_entries_that_cannot_be_are_refused(app: App) -> None:
    bad: list[tuple[Any, Any, str | None, str]] = [
        (SUNDAY, SUNDAY.replace(tzinfo=None), None, "has no time zone"),
        (SUNDAY, SUNDAY + DAY, "nightly", "there is no cron entry 'nightly'; there are 'noon', 'report'"),
        (SUNDAY, SUNDAY + 20_000 * DAY, None, "more than 10000 jobs would be added"),
    ]
    for after, until, entry, message in bad:
        with pytest.raises(ValueError, match=message):
            add_cron_jobs(after, until, id=entry, app=app)
