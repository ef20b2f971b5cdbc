"""A plugin that notes what the limiter has let start, right after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks import Job

name = "watch"


@hookimpl(trylast=True)
async def admit_jobs(jobs: Sequence[Job]) -> None:
    """Note each job."""
    from ratelimit_jobs import note

    for job in jobs:
        if job.flags:
            note("admit", job.id)
