"""What either side does about a worker of the other that has died."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.interop.conftest import Shared, StartNode, StartPython

SWEEP = "select unlocked_jobs, unlocked_queues from graphile_worker._pgtasks_sweep_stale_locks()"
AGE = """
    with job as (
        update graphile_worker._private_jobs set locked_at = now() - interval '{age}' where locked_at is not null
    )
    update graphile_worker._private_job_queues set locked_at = now() - interval '{age}' where locked_at is not null
"""


def test_a_job_of_its_killed_worker_stays_locked_for_four_hours(
    db: Shared, start_node: StartNode, start_python: StartPython
) -> None:
    job = db.app.add_job("hold", {"permit": "go"}, queue="q")
    its = start_node()
    db.wait_for_run(job.id, ended=False)
    its.kill()
    db.permit("go")

    db.connection.execute(AGE.format(age="3 hours 59 minutes").encode())
    held = db.job(job.id)
    behind_it = db.app.add_job("py_note", {}, queue="q")
    ours = start_python()
    other = db.app.add_job("hold", {"permit": "go"})
    db.wait_for_run(other.id)
    db.wait(lambda: db.job(other.id) is None, "the end of the other job")
    assert db.rows(SWEEP) == [(0, 0)]
    assert db.job(job.id) == held
    assert db.job(behind_it.id).attempts == 0

    db.connection.execute(AGE.format(age="4 hours 1 minute").encode())
    assert db.rows(SWEEP) == [(1, 1)]
    db.wait_until_empty()
    assert db.runs("side, attempt", f"job_id = {job.id}") == [("node", 1), ("python", 2)]
    assert db.locked() == 0
    assert ours.stop() == 0


def test_a_job_of_our_killed_process_is_given_back_by_us_and_by_nobody_else(
    db: Shared, start_node: StartNode, start_python: StartPython
) -> None:
    job = db.app.add_job("hold", {"permit": "go"})
    ours = start_python()
    db.wait_for_run(job.id, ended=False)
    held = db.job(job.id)

    [pid] = ours.process_ids()
    ours.signal(signal.SIGSTOP)  # the supervisor, so that it does nothing about it yet
    os.kill(pid, signal.SIGKILL)
    db.permit("go")
    start_node()
    for _ in range(2):
        db.wait_for_run(db.app.add_job("hold", {"permit": "go"}).id)
    assert db.job(job.id) == held

    ours.signal(signal.SIGCONT)
    ours.wait_for("jobs_recovered", charged=1)
    assert "WorkerProcessDied" in ours.wait_for("job_retrying", job_id=job.id)["error"]
    db.wait_until_empty()
    assert [attempt for (attempt,) in db.runs("attempt", f"job_id = {job.id}")] == [1, 2]
