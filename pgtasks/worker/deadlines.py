"""What becomes of a process in which a job has not stopped when it was asked to.

It was, over its time limit, or since somebody has cancelled it.

A thread cannot be stopped from outside, nor an interpreter that never comes back from a library's code. So the whole
process goes: first it is told to drain, and gives back what waits in its queue, while another one is started in its
place; then it is killed. The jobs that are overdue are charged, and its others are given back.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from pgtasks.worker.fleet import Fleet
    from pgtasks.worker.member import Member

log = get_logger("pgtasks.worker")

_LOOK_SECONDS = 0.5
"""Between two looks at the slots, and so how long a process has to give back what waits."""


async def enforce_deadlines(fleet: Fleet) -> None:
    """Look for overdue jobs, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for member in list(fleet.members):
            _enforce(fleet, member)


def _enforce(fleet: Fleet, member: Member) -> None:
    now = time.monotonic()
    overdue = member.overdue(now)
    if not overdue or member.uncharged or member.overdue_at is not None:
        return
    if not member.leaving:
        fleet.expel(member)
        return
    log.warning(
        "jobs_overdue",
        process=member.index,
        pid=member.pid,
        worker=member.worker_id,
        jobs=[claim.job_id for claim in overdue],
        message="did not stop when asked to, so the process that runs them is killed",
    )
    member.overdue_at = now
    member.kill()
