"""What a worker does with jobs when nothing goes wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pgtasks import JobSpec
from tests.cli.running import run
from tests.worker.conftest import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker


@pytest.mark.every_postgres
def test_plain_and_async_tasks_run_and_their_jobs_are_gone(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job(name) for name in ("note", "note_async", "nothing")]
    worker = start_worker("--once", "--processes", "2")
    assert worker.wait() == 0
    assert sorted(db.effects()) == [job.id for job in jobs[:2]]
    assert db.count() == 0


def test_a_waiting_worker_runs_a_job_that_a_trigger_adds(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute("""
        create table users (id int);
        create function user_added() returns trigger language plpgsql as $$
        begin
            perform graphile_worker.add_job('note', json_build_object('id', new.id));
            return new;
        end $$;
        create trigger user_added after insert on users for each row execute procedure user_added();
    """)
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    db.connection.execute("insert into users values (1), (2)")
    db.wait_for_effects(2)
    assert worker.stop() == 0


def test_a_waiting_worker_finds_jobs_of_which_it_was_not_told(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1", env={"PGTASKS_POLL_INTERVAL": "0.3"})
    worker.wait_for("worker_ready")
    db.connection.execute('listen "jobs:insert"')
    db.app.add_job("note", notify=False)
    db.app.add_jobs([JobSpec(task="note")] * 3, notify=False)
    db.wait_for_effects(4)
    assert list(db.connection.notifies(timeout=0)) == []
    assert worker.stop() == 0


def test_jobs_are_spread_over_processes_and_each_runs_once(db: Database, start_worker: StartWorker) -> None:
    # The first ones take the slots of both processes.
    for count, task in ((10, "wait_for_row"), (190, "note")):
        query = 'select graphile_worker.add_job(%s, \'{"permit": "go"}\') from generate_series(1, %s)'
        db.connection.execute(query, (task, count))
    worker = start_worker("--once", "--processes", "2", "--concurrency", "5")
    db.wait_for_effects(10, "began")
    db.permit("go")
    assert worker.wait() == 0
    assert len(db.effects()) == len(set(db.effects())) == 200
    assert db.value("select count(distinct pid) from effects") == 2


def test_two_workers_share_a_queue_and_no_job_runs_twice(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute("select graphile_worker.add_job('note') from generate_series(1, 2000)")
    workers = [start_worker("--once", "--processes", "2") for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert len(db.effects()) == len(set(db.effects())) == 2000


def test_a_named_queue_runs_in_order_one_at_a_time(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("hold", {"seconds": 0.005}, queue="q") for _ in range(60)]
    worker = start_worker("--once", "--processes", "2")
    assert worker.wait() == 0
    what_happened = db.rows("select job_id, what from effects order by position")
    assert what_happened == [(job.id, what) for job in jobs for what in ("began", "ran")]


def test_short_jobs_do_not_wait_in_a_process_whose_slots_long_ones_have_taken(
    db: Database, start_worker: StartWorker
) -> None:
    """The first host has claimed ahead, judging by jobs that took no time; the second one runs what it gives back."""
    many = "select graphile_worker.add_job('nothing', priority := %s) from generate_series(1, 500)"
    db.connection.execute(many, (0,))
    long = [db.app.add_job("wait_for_row", {"permit": "go"}, priority=1) for _ in range(2)]
    db.connection.execute(many, (2,))
    first = start_worker("--processes", "1", "--concurrency", "2")
    db.wait_for_effects(2, "began")
    db.wait(lambda: db.locked() == 2, "the first host to give back what waits")
    assert db.value("select count(*) from graphile_worker.jobs where attempts > 0") == 2
    second = start_worker("--processes", "1", "--concurrency", "2")
    db.wait(lambda: db.count() == 2, "the second host to run them")
    db.permit("go")
    db.wait_until_empty()
    assert [first.stop(), second.stop()] == [0, 0]
    assert sorted(db.effects()) == [job.id for job in long]


DEAR_LOOKS = """
import pgtasks.worker.marks as m
m._CHEAP_SECONDS, m._CHEAP_ANSWER_SECONDS, m._PAUSE_FACTOR = -1, -1, 0.5
"""


def test_a_job_that_is_not_near_the_marks_is_found_in_time(db: Database, start_worker: StartWorker) -> None:
    """Every full look counts as one of a second, and lets half a second pass until the next."""
    first = db.app.add_job("note")
    worker = start_worker("--processes", "1", before=prepared(DEAR_LOOKS))
    db.wait_for_effects(1)
    jobs = [db.app.add_job("note", priority=priority, queue=queue) for priority in (5, -5) for queue in (None, "q")]
    db.wait_for_effects(5)
    assert worker.stop() == 0
    assert sorted(db.effects()) == [first.id, *(job.id for job in jobs)]


def test_once_ends_when_nothing_is_left_also_far_from_the_marks(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute("select graphile_worker.add_job('note', priority := n % 5) from generate_series(1, 100) n")
    worker = start_worker("--once", "--processes", "2", before=prepared(DEAR_LOOKS))
    assert worker.wait() == 0
    assert len(db.effects()) == len(set(db.effects())) == 100


def test_once_goes_on_while_jobs_add_jobs(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("follow_up", {"left": 20})
    db.app.add_job("follow_up", {"left": 20}, queue="chain")
    worker = start_worker("--once", "--processes", "2")
    assert worker.wait() == 0
    assert db.value("select count(*) from effects where what = 'link 0'") == 2
    assert db.count() == 0


def test_once_finds_jobs_that_only_its_own_looks_find(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("follow_up", {"left": 30})
    unheard = {"PGTASKS_LISTEN": "false", "PGTASKS_POLL_INTERVAL": "60"}
    worker = start_worker("--once", "--processes", "1", env=unheard)
    db.wait_for_effects(1, "link 30")
    assert worker.wait() == 0
    assert db.count() == 0


def test_once_leaves_jobs_that_are_not_due(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("note", delay=3600)
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert db.job(job.id) is not None


def test_jobs_start_by_priority_then_time_then_id(db: Database, start_worker: StartWorker) -> None:
    with db.connection.transaction():
        late = db.app.add_job("note", priority=5, connection=db.connection)
        first = db.app.add_job("note", priority=-5, connection=db.connection)
        same_time = [db.app.add_job("note", connection=db.connection) for _ in range(20)]
    assert start_worker("--once", "--processes", "1", "--concurrency", "1").wait() == 0
    assert db.effects() == [first.id, *(job.id for job in same_time), late.id]


def test_no_more_jobs_run_at_a_time_than_there_are_slots(db: Database, start_worker: StartWorker) -> None:
    for name in ["hold"] * 20 + ["hold_async"] * 20:
        db.app.add_job(name, {"seconds": 0.01})
    assert start_worker("--once", "--processes", "1", "--concurrency", "3").wait() == 0
    running = most = 0
    for (what,) in db.rows("select what from effects order by position"):
        running += 1 if what == "began" else -1
        most = max(most, running)
    # A job that has written its last row may still have a slot, so the count above can only err to the low side.
    assert 1 < most <= 3


def test_jobs_with_a_forbidden_flag_stay(db: Database, start_worker: StartWorker) -> None:
    kept = db.app.add_job("note", flags=["slow", "gpu"])
    ran = db.app.add_job("note", flags=["slow"])
    assert start_worker("--once", "--processes", "1", "--forbidden-flag", "gpu").wait() == 0
    assert db.effects() == [ran.id]
    assert db.job(kept.id).attempts == 0


def test_a_job_of_an_unknown_task_stays_and_is_logged_once_with_a_suggestion_and_found_by_the_doctor(
    db: Database, database: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    job = db.app.add_job("nota")
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")  # and is known to be alive
    record = worker.wait_for("task_unknown", task="nota")
    assert record["message"] == "no task of that name here; did you mean 'note'?"
    assert db.job(job.id).attempts == 0
    db.connection.execute("update graphile_worker._private_jobs set run_at = now() - interval '1 hour'")
    doctor = run("doctor", "--database-url", database, cwd=tmp_path)
    assert "1 job of task 'nota' is due, the oldest for 1 h, and none of it runs though workers are alive" in doctor.out
    assert worker.stop() == 0
    assert len(worker.records("task_unknown")) == 1


def test_jobs_run_without_listening(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1", "--no-listen", "--poll-interval", "0.05")
    worker.wait_for("worker_ready")
    db.app.add_job("note")
    db.wait_for_effects(1)
    assert db.value("select count(*) from pg_stat_activity where query ilike 'listen%%'") == 0
    assert worker.stop() == 0


def test_a_job_that_becomes_due_runs_without_a_notification(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "2", "--poll-interval", "0.1")
    worker.wait_for("worker_ready")
    db.app.add_job("note", delay=0.3)
    db.wait_for_effects(1)
    assert worker.stop() == 0


def test_a_burst_of_notifications_is_no_burst_of_statements(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_for("worker_ready")
    for _ in range(300):
        db.connection.execute('notify "jobs:insert", \'{"count": 1}\'')
    job = db.app.add_job("note")
    db.wait_for_effects(1)
    assert db.effects() == [job.id]
    assert worker.stop() == 0


@pytest.mark.parametrize("path", ["add_job", "sql"])
def test_what_json_and_python_disagree_on_reaches_the_handler_exactly(
    db: Database, start_worker: StartWorker, path: str
) -> None:
    text = '{"big": 123456789012345678901234567890, "exact": 0.1234567890123456789, "nul": "\\u0000"}'
    if path == "sql":
        db.connection.execute("select graphile_worker.add_job('typed', %s::json)", (text,))
    else:
        payload = {"big": 123456789012345678901234567890, "exact": Decimal("0.1234567890123456789"), "nul": "\0"}
        db.app.add_job("typed", payload)
    assert start_worker("--once", "--processes", "1").wait() == 0
    what = db.value("select what from effects")
    assert "'big': 123456789012345678901234567890" in what
    assert "Decimal('0.1234567890123456789')" in what
    assert "'\\x00'" in what


def test_a_payload_that_python_cannot_hold_fails_its_own_job_alone(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute("select graphile_worker.add_job('note', ('[' || repeat('9', 5000) || ']')::json)")
    db.connection.execute("select graphile_worker.add_job('note', '{}', run_at := '-infinity')")
    db.connection.execute("select graphile_worker.add_job('note', '\"\\ud800\"')")
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert len(db.effects()) == 2
    ((attempts, max_attempts, error),) = db.rows("select attempts, max_attempts, last_error from graphile_worker.jobs")
    assert attempts == max_attempts
    assert "PayloadError: payload cannot be read as a Python value" in error
    assert db.locked() == 0
