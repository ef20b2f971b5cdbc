"""Jobs that plugins are being asked about when a worker stops."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

SLOW_TO_DECIDE = """
import asyncio
from pgtasks.plugins import hookimpl


@hookimpl
async def retry_decision(job):
    print("asked", flush=True)
    await asyncio.sleep(0.9)
"""


def test_an_attempt_that_plugins_are_asked_about_is_charged_though_the_worker_aborts(
    start_worker: StartWorker, db: Database, tmp_path: Path
) -> None:
    (tmp_path / "slow_to_decide.py").write_text(SLOW_TO_DECIDE)
    job = db.app.add_job("fail", {"message": "it failed"})
    db.app.add_job("hold_async", {})
    worker = start_worker("--processes", "1", "-p", "slow_to_decide", env={"PYTHONPATH": str(tmp_path)})
    db.wait(lambda: "asked" in worker.text, "the plugin to be asked")
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    worker.wait()
    row = db.job(job.id)
    assert (row.attempts, row.locked_at) == (1, None)
    assert "it failed" in row.last_error
