"""How a worker stops: whatever the moment, each job is done once or still there, and nothing stays locked."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.worker.conftest import alive

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


@pytest.mark.parametrize("task", ["work", "work_async"])
def test_term_in_the_middle_of_200_jobs_loses_and_doubles_none(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    db.connection.execute(
        "select graphile_worker.add_job(%s, '{\"seconds\": 0.05}') from generate_series(1, 200)", (task,)
    )
    worker = start_worker("--processes", "2", "--concurrency", "5")
    db.wait_for_effects(50)
    assert worker.stop() == 0
    done = db.effects()
    left = [row[0] for row in db.rows("select id from graphile_worker.jobs where attempts = 0")]
    assert len(done) == len(set(done))
    assert left
    assert sorted(done + left) == sorted(row[0] for row in db.rows("select generate_series(1, 200)"))
    assert db.locked() == 0


def test_int_lets_running_jobs_finish(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("wait_for_row", {"permit": "go"}) for _ in range(3)]
    worker = start_worker("--processes", "1")
    db.wait_for_effects(3, "began")
    worker.signal(signal.SIGINT)
    worker.wait_for("worker_draining", signal="SIGINT")
    late = db.app.add_job("note")
    db.permit("go")
    assert worker.wait() == 0
    assert sorted(db.effects()) == [job.id for job in jobs]
    assert db.job(late.id).attempts == 0


@pytest.mark.parametrize("task", ["hold", "hold_async"])
def test_a_second_signal_gives_running_jobs_back_without_a_charge(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    job = db.app.add_job(task, max_attempts=1, queue="q")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 9
    stored = db.job(job.id)
    assert (stored.attempts, stored.locked_at, stored.last_error) == (0, None, None)
    assert db.locked() == 0
    assert "shutdown did not wait for all running jobs" in worker.text


def test_the_shutdown_timeout_does_what_a_second_signal_does(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("hold")
    worker = start_worker("--processes", "1", "--shutdown-timeout", "0")
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 9
    assert db.job(job.id).attempts == 0
    assert db.locked() == 0


def test_a_third_signal_kills_and_even_then_the_jobs_are_given_back(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("hold")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    (pid,) = worker.process_ids()
    os.kill(pid, signal.SIGSTOP)  # it cannot even abort
    for event in ("worker_draining", "worker_aborting", "worker_killing"):
        worker.signal(signal.SIGTERM)
        worker.wait_for(event)
    assert worker.wait() == 9
    assert not alive(pid)
    assert db.job(job.id).attempts == 0
    assert db.locked() == 0


def test_processes_end_and_give_their_jobs_back_when_the_supervisor_is_killed(
    db: Database, start_worker: StartWorker
) -> None:
    jobs = [db.app.add_job(name) for name in ("hold", "hold_async")]
    worker = start_worker("--processes", "2", "--concurrency", "1")
    db.wait_for_effects(2, "began")
    pids = worker.process_ids()
    worker.signal(signal.SIGKILL)
    worker.wait()
    db.wait(lambda: not any(alive(pid) for pid in pids), "the end of the worker processes")
    assert db.locked() == 0
    assert [db.job(job.id).attempts for job in jobs] == [0, 0]


def test_a_worker_stops_while_the_database_is_away(db: Database, database: str, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    name = db.connection.info.dbname
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        worker.wait_for("listen_lost")
        assert worker.stop() == 0
