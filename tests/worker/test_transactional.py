"""Tasks whose end commits with their effects: exactly once, whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


@pytest.mark.parametrize("task", ["pay", "pay_async"])
def test_the_jobs_end_and_its_effects_are_one_transaction(db: Database, start_worker: StartWorker, task: str) -> None:
    job = db.app.add_job(task, {}, queue="q")
    after = db.app.add_job(task, {}, queue="q")
    # Whenever a row is in the ledger its job is gone, by a trigger that looks as the transaction commits.
    db.connection.execute("""
        create function check_gone() returns trigger language plpgsql as $$
        begin
            if exists (select from graphile_worker.jobs where id = new.job_id) then
                raise exception 'the job is still there';
            end if;
            return new;
        end $$;
        create constraint trigger check_gone after insert on ledger
        deferrable initially deferred for each row execute procedure check_gone();
    """)
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    assert db.rows("select job_id, attempt from ledger") == [(job.id, 1), (after.id, 1)]
    assert db.count() == 0
    assert len(worker.records("job_succeeded")) == 2
    assert db.locked() == 0


@pytest.mark.parametrize("task", ["pay", "pay_async"])
def test_a_handler_that_raises_after_its_write_has_written_nothing(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    job = db.app.add_job(task, {"then": "fail"})
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert db.rows("select * from ledger") == []
    assert db.job(job.id).last_error.startswith("RuntimeError: after the write")
    assert db.locked() == 0


def test_a_handler_that_returns_a_coroutine_has_written_nothing(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("pay_not_awaited")
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert db.rows("select * from ledger") == []
    assert "returned a coroutine" in db.job(job.id).last_error


def test_a_claim_that_was_taken_away_takes_the_effects_with_it(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("pay", {"then": "wait"})
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    db.connection.execute("""
        update graphile_worker._private_jobs set locked_by = 'other', locked_at = now() + interval '1 second'
    """)
    db.permit("go")
    worker.wait_for("job_lost", job_id=job.id)
    assert db.rows("select * from ledger") == []
    assert db.job(job.id).locked_by == "other"
    assert worker.stop() == 0


@pytest.mark.parametrize("task", ["pay", "pay_async"])
def test_a_job_whose_commit_is_not_answered_is_perhaps_written(
    db: Database, database: str, start_worker: StartWorker, task: str
) -> None:
    db.connection.execute("""
        create function wait() returns trigger language plpgsql as $$
        begin
            perform pg_advisory_xact_lock(7);
            return new;
        end $$;
        create constraint trigger wait after insert on ledger
        deferrable initially deferred for each row execute procedure wait();
        select pg_advisory_lock(7);
    """)
    job = db.app.add_job(task, {})
    proxy = Proxy(database)
    try:
        worker = start_worker("--processes", "1", env={"PGTASKS_DATABASE_URL": proxy.conninfo})
        db.wait(lambda: db.value("select count(*) from pg_locks where not granted"), "a commit that waits")
        proxy.cut()
        db.connection.execute("select pg_advisory_unlock(7)")
        lost = worker.wait_for("job_lost", job_id=job.id)
        assert lost["perhaps_written"]
        assert db.rows("select job_id, attempt from ledger") == [(job.id, 1)]
        assert worker.stop() == 0
    finally:
        proxy.close()


@pytest.mark.parametrize("task", ["pay", "pay_async"])
def test_processes_that_are_killed_between_write_and_commit_leave_the_ledger_exact(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    # Each of the dying ones takes down the others that run beside it, some of them just before their commit.
    jobs = [db.app.add_job(task, {"then": "die" if number % 10 == 0 else None}) for number in range(200)]
    worker = start_worker("--processes", "2", "--concurrency", "4", "--poll-interval", "0.1")
    db.wait(lambda: none_left_without_back_off(db), "an empty queue")
    assert worker.stop() == 0
    assert sorted(db.rows("select job_id from ledger")) == [(job.id,) for job in jobs]
    assert db.value("select count(*) from ledger where attempt > 1") >= 20


def test_what_a_handler_has_left_running_adds_no_job_in_the_transaction_of_another(
    db: Database, start_worker: StartWorker
) -> None:
    jobs = [db.app.add_job(task) for task in ("leave_behind", "leave_behind_async")]
    worker = start_worker("--processes", "1")
    for job in jobs:
        worker.wait_for("job_succeeded", job_id=job.id)
    db.permit("go")
    db.wait(lambda: db.value("select count(*) from effects") == 4, "all attempts")
    told = db.rows("select distinct job_id, split_part(what, ',', 1) from effects order by 1")
    assert told == [(job.id, f"the handler of job {job.id} has ended") for job in jobs]
    assert worker.stop() == 0


def test_handlers_that_take_a_second_connection_do_not_starve_each_other(
    db: Database, start_worker: StartWorker
) -> None:
    jobs = [db.app.add_job("pay", {"then": "wait"}) for _ in range(3)]
    worker = start_worker("--processes", "1", "--concurrency", "3", env={"PGTASKS_POOL_MAX_SIZE": "3"})
    db.wait_for_effects(3, "began")
    db.permit("go")
    db.wait_until_empty()
    assert sorted(db.rows("select job_id, attempt from ledger")) == [(job.id, 1) for job in jobs]
    assert worker.stop() == 0


def test_a_task_without_a_transaction_says_so(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("no_transaction")
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert "declare it with @task(transactional=True)" in db.job(job.id).last_error


def none_left_without_back_off(db: Database) -> bool:
    db.rows("""
        select graphile_worker.reschedule_jobs(array(select id from graphile_worker.jobs where run_at > now()), now())
    """)
    return db.count() == 0
