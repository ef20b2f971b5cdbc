"""What a worker survives: processes that die, a database that goes away, a schema that changes under it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from tests.worker.conftest import alive, parent_of

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({"how": "exit", "code": 0}, "exit code 0"),
        ({"how": "exit", "code": 5}, "exit code 5"),
        ({"how": "segfault"}, "killed by SIGSEGV"),
        ({"how": "signal", "signal": int(signal.SIGKILL)}, "killed by SIGKILL"),
        ({"how": "signal its group", "signal": int(signal.SIGKILL)}, "killed by SIGKILL"),
    ],
)
def test_a_job_that_takes_its_process_down_is_charged_and_ends_failed_and_its_neighbours_are_not(
    db: Database, start_worker: StartWorker, payload: dict[str, object], status: str
) -> None:
    # One slot, so that the neighbours wait in the process's queue or the table while it dies.
    killer = db.app.add_job("die", payload, max_attempts=1, priority=-1)
    neighbours = [db.app.add_job("note") for _ in range(20)]
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait_for_effects(20)
    worker.wait_for("jobs_recovered")
    assert worker.stop() == 0
    stored = db.job(killer.id)
    assert (stored.attempts, stored.max_attempts, stored.locked_at) == (1, 1, None)
    assert stored.last_error.startswith("WorkerProcessDied: the process that ran this job (pid ")
    assert status in stored.last_error
    assert db.effects("tried") == [killer.id]
    assert sorted(db.effects()) == [job.id for job in neighbours]
    assert db.value("select max(attempt) from effects") == 1


def test_jobs_that_a_dead_process_had_only_claimed_go_back_uncharged(db: Database, start_worker: StartWorker) -> None:
    # Quick jobs make it claim ahead; then one of them dies while its followers wait in the local queue. One slot, since
    # a job that runs beside the killer may be the one to blame, and is charged.
    db.connection.execute("select graphile_worker.add_job('nothing') from generate_series(1, 500)")
    killer = db.app.add_job("die", {"how": "exit", "code": 5}, max_attempts=2)
    db.connection.execute("select graphile_worker.add_job('note', max_attempts := 1) from generate_series(1, 200)")
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait(lambda: len(set(db.effects())) == 200, "all the others")
    worker.wait_for("jobs_recovered")
    assert db.job(killer.id).attempts >= 1
    # With max_attempts 1, a charge would have ended them as failed.
    assert db.rows("select id from graphile_worker.jobs where last_error is not null and id <> %s", killer.id) == []
    assert worker.stop() == 0
    assert db.locked() == 0


def test_a_killed_process_is_replaced_and_its_running_jobs_run_again(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("wait_for_row", {"permit": "go"}) for _ in range(4)]
    worker = start_worker("--processes", "2", "--concurrency", "2")
    db.wait_for_effects(4, "began")
    victim = worker.process_ids()[0]
    os.kill(victim, signal.SIGKILL)
    worker.wait_for("process_exited", pid=victim, status="killed by SIGKILL")
    worker.wait_for("jobs_recovered", charged=2)
    worker.wait_for("process_started", count=3)
    charged = db.rows("select id from graphile_worker.jobs where last_error like 'WorkerProcessDied%%'")
    assert len(charged) == 2
    db.permit("go")
    db.wait_for_effects(4)
    db.wait_until_empty()
    assert sorted(db.effects()) == [job.id for job in jobs]
    assert worker.stop() == 0


def test_processes_that_cannot_start_end_the_worker_with_an_exit_code_of_its_own(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2", modules=("tests.worker.stillborn",))
    assert worker.wait() == 7
    assert "5 worker processes in a row ended before they were ready" in worker.text


def test_a_killed_zygote_ends_the_worker_and_nothing_stays_locked(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("hold") for _ in range(2)]
    worker = start_worker("--processes", "2", "--concurrency", "1")
    db.wait_for_effects(2, "began")
    pids = worker.process_ids(2)
    os.kill(parent_of(pids[0]), signal.SIGKILL)
    assert worker.wait() == 1
    assert "the process that forks worker processes was killed" in worker.text
    db.wait(lambda: not any(alive(pid) for pid in pids), "the end of the worker processes")
    assert db.locked() == 0
    assert [db.job(job.id).attempts for job in jobs] == [0, 0]


def test_a_restarted_server_is_found_again(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    db.connection.execute("""
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and query ilike 'listen%' and pid <> pg_backend_pid()
    """)
    worker.wait_for("listen_lost")
    worker.wait_for("listen_restored")
    db.app.add_job("note")
    db.wait_for_effects(1)
    assert worker.stop() == 0


def test_a_breaking_migration_drains_the_worker_and_it_exits_with_the_documented_code(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "go"})
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    announce = 'notify "worker:migrate", \'{"migrationNumber": 999, "breaking": true}\''
    db.connection.execute(announce)  # only hearsay: the schema has no such step
    db.connection.execute("insert into graphile_worker.migrations (id, breaking) values (999, true)")
    db.connection.execute(announce)
    worker.wait_for("worker_draining")
    db.permit("go")
    assert worker.wait() == 8
    assert db.effects() == [job.id]
    assert db.locked() == 0


def test_a_breaking_migration_whose_word_was_missed_is_found_as_soon_as_words_can_be_heard_again(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    listening = "select pid from pg_stat_activity where query ilike 'listen%%' and datname = current_database()"
    db.wait(lambda: db.rows(listening), "a session that listens")
    db.connection.execute("insert into graphile_worker.migrations (id, breaking) values (999, true)")
    db.rows(f"select pg_terminate_backend(pid) from ({listening}) as session")
    assert worker.wait() == 8
    assert "migration 999 of the schema needs a newer release" in worker.wait_for("worker_draining")["error"]


def test_a_transaction_that_holds_one_job_does_not_hold_up_the_others(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    held = db.app.add_job("wait_for_row", {"permit": "go"}, job_key="k")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    with db.app.connection() as connection, connection.transaction():
        new = db.app.add_job("note", job_key="k", delay=3600, connection=connection)
        db.permit("go")
        db.wait_for_effects(1)
        others = [db.app.add_job("note") for _ in range(50)]
        for job in others:
            worker.wait_for("job_succeeded", job_id=job.id)
        assert worker.records(job_id=held.id) == []
    worker.wait_for("job_succeeded", job_id=held.id)
    assert worker.stop() == 0
    assert [row[0] for row in db.rows("select id from graphile_worker.jobs")] == [new.id]


def test_what_a_dead_process_held_is_given_back_also_after_the_database_refused_that(
    db: Database, start_worker: StartWorker
) -> None:
    db.app.add_job("wait_for_row", {"permit": "go"})
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait_for_effects(1, "began")
    db.connection.execute("""
        create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
        create trigger refuse before update on graphile_worker._private_jobs for each row execute function refuse();
    """)
    os.kill(worker.process_ids()[0], signal.SIGKILL)
    assert worker.wait_for("statement_refused", statement="release_worker")["error"] == "not now"
    db.connection.execute("drop trigger refuse on graphile_worker._private_jobs")
    worker.wait_for("jobs_recovered")
    db.permit("go")
    db.wait_until_empty()
    assert worker.stop() == 0


def test_a_listener_that_the_database_refuses_something_tries_again(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    db.connection.execute("""
        create schema trap;
        create function trap.pg_backend_pid() returns integer language plpgsql as $$ begin raise 'not now'; end $$;
    """)
    trapped = make_conninfo(database, options="-c search_path=trap,pg_catalog")
    worker = start_worker("--processes", "1", env={"PGTASKS_LISTEN_URL": trapped})
    assert worker.wait_for("listen_lost")["error"] == "not now"
    db.connection.execute("drop function trap.pg_backend_pid")
    worker.wait_for("listen_restored")
    assert worker.stop() == 0
