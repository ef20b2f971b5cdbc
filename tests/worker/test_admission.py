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
