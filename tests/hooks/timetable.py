"""A plugin with an entry that is due each minute and made up for, and another one each time that it is loaded."""

from __future__ import annotations

import os

from pgtasks import hookimpl
from pgtasks.plugins import CronEntry, Schedule

name = "timetable"


@hookimpl
def register_cron() -> list[CronEntry]:
    return [
        CronEntry(
            id="often",
            task="works",
            schedule=Schedule("* * * * *"),
            source="plugin timetable",
            payload={"loaded_by": os.getpid()},
            backfill=600,
        )
    ]
