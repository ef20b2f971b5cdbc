"""Jobs that plugins are asked about since their process has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

ALL_AT_ONCE = """
import asyncio
from pgtasks.plugins import Fail, hookimpl

asked = []


@hookimpl
async def recover_job(lost):
    asked.append(lost)
    while len(asked) < 3:
        await asyncio.sleep(0.01)
    return Fail("with two others")
"""


def test_plugins_are_asked_about_all_at_once(start_worker: StartWorker, db: Database, tmp_path: Path) -> None:
    (tmp_path / "all_at_once.py").write_text(ALL_AT_ONCE)
    held = [db.app.add_job("hold_async", {}) for _ in range(2)]
    options = ("--processes", "1", "-p", "all_at_once")
    env = {"PYTHONPATH": str(tmp_path), "PGTASKS_HOOK_TIMEOUT": "10"}
    start_worker(*options, env=env)
    db.wait_for_effects(2, "began")
    dead = db.app.add_job("die", {"how": "exit", "code": 3})
    jobs = [*held, dead]
    db.wait(lambda: all((row := db.job(job.id)) and row.attempts == row.max_attempts for job in jobs), "their failure")
    assert all(db.job(job.id).last_error.startswith("with two others") for job in jobs)
