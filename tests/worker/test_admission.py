from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

ONCE_MORE = """
from pgtasks.plugins import Snooze, hookimpl

refused = []


@hookimpl
def admit_jobs(jobs):
    if not refused:
        refused.extend(jobs)
        return {job.id: Snooze(0) for job in jobs}
"""


def test_a_job_that_is_snoozed_for_no_time_keeps_its_place_in_its_queue(
    start_worker: StartWorker, db: Database, tmp_path: Path
) -> None:
    (tmp_path / "once_more.py").write_text(ONCE_MORE)
    jobs = [db.app.add_job("note", queue="q") for _ in range(5)]
    worker = start_worker("--once", "--processes", "1", "-p", "once_more", env={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == 0
    assert db.effects() == [job.id for job in jobs]
    assert {attempt for (attempt,) in db.rows("select attempt from effects")} == {1}
    assert [record["job_id"] for record in worker.records("job_returned")] == [jobs[0].id]


REFUSES_NOTES = """
from pgtasks.plugins import Snooze, hookimpl


@hookimpl
async def admit_jobs(jobs):
    return {job.id: Snooze(3600) for job in jobs if job.task == "note"}
"""
NO_HINTS = ("--no-listen", "--poll-interval", "3600", "--processes", "1", "--concurrency", "2")


def test_what_waits_behind_refused_jobs_is_claimed_without_a_hint(
    start_worker: StartWorker, db: Database, tmp_path: Path
) -> None:
    (tmp_path / "refuses.py").write_text(REFUSES_NOTES)
    for _ in range(20):
        db.app.add_job("note")
    last = db.app.add_job("note_async")
    start_worker(*NO_HINTS, "-p", "refuses", env={"PYTHONPATH": str(tmp_path)})
    db.wait_for_effects(1)
    assert db.effects() == [last.id]


def test_jobs_that_were_given_back_are_claimed_again_without_a_hint(
    start_worker: StartWorker, db: Database, tmp_path: Path
) -> None:
    (tmp_path / "once_more.py").write_text(ONCE_MORE)
    for _ in range(5):
        db.app.add_job("note")
    start_worker(*NO_HINTS, "-p", "once_more", env={"PYTHONPATH": str(tmp_path)})
    db.wait_for_effects(5)
