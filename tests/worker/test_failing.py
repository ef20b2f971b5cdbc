"""What becomes of jobs whose handlers fail, and of claims that are no longer held."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


@pytest.mark.parametrize("task", ["fail", "fail_async"])
def test_a_job_that_raises_is_retried_after_the_back_off_with_its_error(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    job = db.app.add_job(task, {"message": "no luck"})
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    stored = db.job(job.id)
    assert stored.attempts == 1
    assert stored.last_error.startswith("ValueError: no luck\n\nTraceback (most recent call last):\n")
    assert "tests/worker/jobs.py" in stored.last_error
    assert "pgtasks/worker" not in stored.last_error
    (seconds,) = db.rows("select extract(epoch from run_at - updated_at) from graphile_worker.jobs")[0]
    assert float(seconds) == pytest.approx(2.718281828, abs=1e-5)
    assert db.locked() == 0


def test_a_job_that_fails_on_its_last_attempt_stays_as_permanently_failed(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("fail", max_attempts=1, queue="q")
    after = db.app.add_job("note", queue="q")
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    stored = db.job(job.id)
    assert (stored.attempts, stored.max_attempts) == (1, 1)
    assert db.effects() == [after.id]
    assert worker.records("job_failed", job_id=job.id)[0]["error"] == "ValueError: no luck"


def test_more_last_attempts_than_slots_all_run(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("note", max_attempts=1) for _ in range(100)]
    assert start_worker("--once", "--processes", "1", "--concurrency", "3").wait() == 0
    assert sorted(db.effects()) == [job.id for job in jobs]


def test_an_error_that_text_cannot_hold_is_stored_readably(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("fail", {"message": "nul \0 surrogate \ud800 " + "x" * 50_000})
    assert start_worker("--once", "--processes", "1").wait() == 0
    error = db.job(job.id).last_error
    assert error.startswith("ValueError: nul \\0 surrogate \\ud800 xxx")
    assert len(error) < 40_000


@pytest.mark.parametrize(
    ("task", "error"),
    [("leave", "SystemExit: 3"), ("not_awaited", "TypeError: Task 'not_awaited' returned a coroutine")],
)
def test_a_handler_that_exits_or_forgets_to_await_fails_its_job_and_no_more(
    db: Database, start_worker: StartWorker, task: str, error: str
) -> None:
    job = db.app.add_job(task)
    good = db.app.add_job("note")
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    assert db.job(job.id).last_error.startswith(error)
    assert db.effects() == [good.id]
    assert all(record["status"] == "exit code 0" for record in worker.records("process_exited"))


def test_a_handler_that_exits_in_a_task_of_its_own_fails_its_job_and_no_more(
    db: Database, start_worker: StartWorker
) -> None:
    beside = db.app.add_job("wait_for_row", {"permit": "go"})
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    jobs = [db.app.add_job("leave_together", [how, how]) for how in ("grouped", "listed")]
    for job in jobs:
        worker.wait_for("job_retrying", job_id=job.id)
    db.permit("go")
    worker.wait_for("job_succeeded", job_id=beside.id, attempt=1)
    assert worker.stop() == 0
    group, items = (db.job(job.id).last_error for job in jobs)
    assert group.startswith("SystemExit: 3\n")
    assert items.startswith("1 of 2 items failed; the first is item 1: SystemExit: 3\n")
    assert [record["error"] for record in worker.records("exit_ignored")] == ["SystemExit(3)"] * 2


@pytest.mark.parametrize("outcome", ["succeed", "fail"])
def test_a_completion_for_a_claim_that_was_taken_away_changes_nothing(
    db: Database, start_worker: StartWorker, outcome: str
) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "go", "then": outcome}, queue="q")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    # Somebody unlocks it and another worker claims it, with its queue.
    db.connection.execute("""
        update graphile_worker._private_jobs set locked_by = 'other', locked_at = now() + interval '1 second';
        update graphile_worker._private_job_queues set locked_by = 'other', locked_at = now() + interval '1 second';
    """)
    db.permit("go")
    worker.wait_for("job_lost", job_id=job.id)
    stored = db.job(job.id)
    assert (stored.locked_by, stored.attempts, stored.last_error) == ("other", 1, None)
    assert db.value("select locked_by from graphile_worker._private_job_queues") == "other"
    assert worker.stop() == 0


def test_the_late_end_of_a_first_claim_does_not_end_the_second_by_the_same_worker(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "go"})
    worker = start_worker("--processes", "1", "--concurrency", "2", "--poll-interval", "0.05")
    db.wait_for_effects(1, "began")
    worker_id = db.job(job.id).locked_by
    db.connection.execute("select graphile_worker.force_unlock_workers(array[%s])", (worker_id,))
    db.wait_for_effects(2, "began")
    assert db.job(job.id).locked_by == worker_id
    db.permit("go")
    worker.wait_for("job_lost", job_id=job.id)
    worker.wait_for("job_succeeded", job_id=job.id)
    assert len(worker.records("job_succeeded")) == 1
    assert worker.stop() == 0


@pytest.mark.parametrize("outcome", ["succeed", "fail"])
def test_a_job_that_was_superseded_while_it_ran_never_runs_again(
    db: Database, start_worker: StartWorker, outcome: str
) -> None:
    old = db.app.add_job("wait_for_row", {"permit": "go", "then": outcome}, job_key="k")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    new = db.app.add_job("note", job_key="k", delay=3600)
    assert new.id != old.id
    db.permit("go")
    worker.wait_for("job_succeeded" if outcome == "succeed" else "job_failed", job_id=old.id)
    assert worker.stop() == 0
    left = db.job(old.id)
    if outcome == "succeed":
        assert left is None
    else:
        assert left.attempts == left.max_attempts
        assert left.last_error.startswith("RuntimeError: as told")
    assert db.job(new.id).key == "k"


def test_a_superseded_job_that_is_given_back_stays_dead(db: Database, start_worker: StartWorker) -> None:
    old = db.app.add_job("hold_async", job_key="k")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    db.app.add_job("note", job_key="k", delay=3600)
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 9
    left = db.job(old.id)
    assert left.attempts == left.max_attempts
    assert left.locked_at is None


def test_records_inside_a_job_carry_its_keys_and_nothing_else_leaks(db: Database, start_worker: StartWorker) -> None:
    jobs = [
        db.app.add_job("talk", {"password": "hunter2"}, queue="q", job_key="k"),
        db.app.add_job("talk_async", {"password": "hunter2"}),
        db.app.add_job("fail", {"message": "no luck", "password": "hunter2"}),
    ]
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    for event in ("from the standard library", "from structlog", "from the context"):
        (record,) = worker.records(event)
        assert {
            "job_id": jobs[0].id,
            "task": "talk",
            "attempt": 1,
            "queue": "q",
            "job_key": "k",
        }.items() <= record.items()
    for event in ("from a task", "from an executor"):
        (record,) = worker.records(event)
        assert {"job_id": jobs[1].id, "task": "talk_async"}.items() <= record.items()
    for job in jobs:
        assert len([record for record in worker.records(job_id=job.id) if record["event"].startswith("job_")]) == 1
    assert "hunter2" not in worker.text
    assert "a local variable" not in worker.text.replace("# noqa", "").replace('secret = "a local variable"', "")
