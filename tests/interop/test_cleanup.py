"""Graphile Worker's cleanup, run while both work."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.conftest import Graphile, Shared, StartNode, StartPython

EVERYTHING = ("GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES", "DELETE_PERMAFAILED_JOBS")
ADD = "select id from graphile_worker.add_job(%s, '{}', queue_name := %s)"
ROUNDS = 80


def task_numbers(db: Shared) -> dict[str, int]:
    return dict(db.rows("select identifier, id from graphile_worker._private_tasks"))


def test_after_its_cleanup_our_running_worker_runs_jobs_of_tasks_and_queues_that_it_deleted(
    db: Shared, graphile: Graphile, start_python: StartPython, tmp_path: Path
) -> None:
    failed = db.app.add_job("py_note", {}).id
    db.connection.execute("select graphile_worker.permanently_fail_jobs(%s)", ([failed],))
    ours = start_python()
    db.wait_for_run(db.app.add_job("note", {}, queue="q").id)
    db.wait(lambda: db.count() == 1, "the end of the job")
    before = task_numbers(db)

    graphile.cleanup(*EVERYTHING, cwd=tmp_path)
    assert db.job(failed) is None
    assert db.value("select count(*) from graphile_worker._private_job_queues") == 0
    for task in ("note", "py_note"):
        db.wait_for_run(db.value(ADD, task, "q"))
    assert before.keys() == {"hold", "note", "py_note"}
    assert ours.stop() == 0


def test_while_its_cleanup_runs_again_and_again_no_job_is_lost_and_no_task_stays_forgotten(
    db: Shared, graphile: Graphile, start_python: StartPython
) -> None:
    ours = start_python()
    ours.wait_for("worker_ready")
    calls = graphile.command("call", [("cleanup", [{"tasks": EVERYTHING}])] * ROUNDS)
    added: list[int] = []
    with subprocess.Popen(
        calls, env=graphile.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as cleaning:
        while cleaning.poll() is None:
            with db.connection.transaction():
                added += [db.value(ADD, "py_note", f"q{len(added) % 7}"), db.value(ADD, "note", None)]
        assert cleaning.stdout is not None
        assert cleaning.wait(LONG) == 0, cleaning.stdout.read()
    db.wait(lambda: db.value("select count(*) from runs where ended is not null") == len(added), "all jobs")
    assert [job_id for (job_id,) in db.rows("select job_id from runs order by 1")] == added, ours.text
    db.wait(lambda: db.value("select count(*) = 0 from graphile_worker._private_jobs"), "an empty queue")
    db.wait(lambda: task_numbers(db).keys() == {"hold", "note", "py_note"}, "all tasks")
    assert ours.stop() == 0


def test_a_job_that_is_being_added_while_its_cleanup_deletes_its_task_and_queue_runs(
    db: Shared, database: str, graphile: Graphile, start_python: StartPython, tmp_path: Path
) -> None:
    db.app.add_job("note", {}, queue="q", job_key="only to register them")
    db.connection.execute("select graphile_worker.remove_job('only to register them')")
    with psycopg.connect(database) as producer:
        [(job_id,)] = producer.execute(ADD, ("note", "q")).fetchall()
        graphile.cleanup(*EVERYTHING, cwd=tmp_path)
        producer.commit()
    assert db.job(job_id) is None
    assert task_numbers(db) == {}
    ours = start_python()
    db.wait_for_run(job_id)
    ours.wait_for("names_restored", queues=1)
    assert db.rows("select queue_name from graphile_worker._private_job_queues") == [("q",)]
    assert ours.stop() == 0


@pytest.mark.parametrize("anew", [False, True], ids=["our functions", "its functions"])
def test_after_our_cleanup_its_running_worker_takes_jobs_of_a_forgotten_task_if_that_has_its_old_number_again(
    db: Shared, start_node: StartNode, anew: bool
) -> None:
    tasks = {"node_note": "note", "note": "note"}
    db.app.add_job("node_note", {}, delay=3600)
    its = start_node(tasks)
    db.wait_for_run(db.app.add_job("note", {}).id)
    db.wait(lambda: db.count() == 1, "the end of the job")
    assert db.app.jobs.cleanup("GC_TASK_IDENTIFIERS").tasks == 1
    if anew:  # as its add_job does
        db.connection.execute("insert into graphile_worker._private_tasks (identifier) values ('note')")
    forgotten = db.app.add_job("note", {})
    if not anew:
        db.wait_for_run(forgotten.id)
        return
    for _ in range(2):
        db.wait_for_run(db.app.add_job("node_note", {}).id)
    assert db.job(forgotten.id).attempts == 0
    its.stop()
    start_node(tasks)
    db.wait_for_run(forgotten.id)
