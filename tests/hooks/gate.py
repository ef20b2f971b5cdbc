"""A plugin that lets a job start as the table `permits` says, and has to be asked: `GATE` says how it refuses."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from pgtasks import hookimpl
from pgtasks.plugins import Snooze

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgtasks import Job
    from pgtasks.plugins import Application, ClaimPlan

name = "gate"
vital_hooks = ("admit_jobs",) if os.environ.get("GATE_VITAL") else ()
WAY = os.environ.get("GATE", "give back")
_app: Application | None = None
_refused = 0
_open = False
_watching: set[asyncio.Task[None]] = set()


@hookimpl
def configure(app: Application) -> None:
    global _app
    _app = app


@hookimpl
async def before_claim(plan: ClaimPlan) -> ClaimPlan | None:
    from dataclasses import replace

    return None if _open or not _refused else replace(plan, forbidden_flags=plan.forbidden_flags | {"gated"})


@hookimpl
async def admit_jobs(jobs: Sequence[Job]) -> Mapping[int, Snooze]:
    global _refused
    gated = [job for job in jobs if "gated" in job.flags]
    if not gated or _open:
        return {}
    if WAY == "raise" and not await _permitted():
        raise ValueError("nobody knows")
    if WAY == "raise":
        return {}
    _refused += 1
    if not _watching:
        _watching.add(asyncio.create_task(_watch()))
    return {job.id: Snooze(0) for job in gated}


async def _watch() -> None:
    global _open
    assert _app is not None
    while not await _permitted():  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(0.02)
    _open = True
    _app.look_for_jobs()


async def _permitted() -> Any:
    assert _app is not None
    async with _app.async_connection() as connection:
        return await (await connection.execute("select 1 from permits")).fetchone()
