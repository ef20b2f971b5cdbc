"""The tasks that the benchmarks run."""

from __future__ import annotations

import time
from typing import Any

from pgtasks import JobContext, current_app, task


@task
def noop() -> None:
    """Do nothing, in a thread."""


@task
async def noop_async() -> None:
    """Do nothing, on the loop."""


@task
def timed(payload: dict[str, Any], ctx: JobContext) -> None:
    """Write down how long the job waited from its adding to this line, by one clock."""
    waited = time.time() - payload["added"]
    with current_app().connection() as connection:
        connection.execute("insert into public.waits (job_id, seconds) values (%s, %s)", (ctx.job.id, waited))
