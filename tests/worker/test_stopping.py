"""How a worker stops: whatever the moment, each job is done once or still there, and nothing stays locked."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.worker.conftest import LONG, ROOT, alive, prepared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker, Worker

WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.mark.parametrize("task", ["work", "work_async"])
def test_term_in_the_middle_of_many_jobs_loses_and_doubles_none(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    db.connection.execute(
        "select graphile_worker.add_job(%s, '{\"seconds\": 0.05}') from generate_series(1, 2000)", (task,)
    )
    worker = start_worker("--processes", "2", "--concurrency", "5")
    db.wait_for_effects(50)
    assert worker.stop() == 0
    done = db.effects()
    left = [row[0] for row in db.rows("select id from graphile_worker.jobs where attempts = 0")]
    assert len(done) == len(set(done))
    assert left
    assert sorted(done + left) == sorted(row[0] for row in db.rows("select generate_series(1, 2000)"))
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


def test_items_of_a_batch_that_were_cut_off_are_given_back_without_a_charge(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("each", [1, 2, 3], max_attempts=1)
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 9
    assert worker.records("job_returned", job_id=job.id, state="returned")
    assert db.rows("select attempts, last_error, payload::text from graphile_worker._private_jobs") == [
        (0, None, "[2,3]")
    ]


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


def test_jobs_of_killed_processes_are_given_back_while_housekeeping_waits_for_a_lock(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    assert start_worker("--once", "--processes", "1").wait() == 0  # registers the tasks, which takes the same table
    waits = (
        "select from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'pgtasks supervisor%%'"
    )
    with psycopg.connect(database) as other:
        other.execute("lock table graphile_worker._pgtasks_forgotten_names in access exclusive mode")
        job = db.app.add_job("hold")
        worker = start_worker("--processes", "1")
        db.wait_for_effects(1, "began")
        db.wait(lambda: db.rows(waits), "the supervisor to wait for it")
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 9
        assert (db.job(job.id).attempts, db.locked()) == (0, 0)
    assert worker.records("jobs_left_locked") == []


def test_a_worker_that_cannot_give_jobs_back_at_its_end_says_so(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    job = db.app.add_job("hold")
    hasty = prepared("import pgtasks.worker.supervisor as s; s._RECOVERY_SECONDS = 0.1")
    worker = start_worker("--processes", "1", before=hasty)
    db.wait_for_effects(1, "began")
    with psycopg.connect(database) as other:
        other.execute("lock table graphile_worker._private_jobs in exclusive mode")
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 9
        assert db.job(job.id).locked_at is not None
    worker.wait_for("jobs_left_locked")
    assert "they stay locked until" in worker.text
    assert "they were given back" not in worker.text


@pytest.mark.parametrize("loop", ["Heartbeats", "HeartbeatWatch"])  # of the supervisor, of a process
def test_a_loop_that_a_cancellation_did_not_reach_is_told_again(
    db: Database, start_worker: StartWorker, loop: str
) -> None:
    deaf = f"""
import asyncio, pgtasks.worker.heartbeats as h
run = h.{loop}.run
async def deaf(self):
    try:
        await run(self)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)
h.{loop}.run = deaf
"""
    worker = start_worker("--processes", "1", before=prepared(deaf))
    worker.wait_for("worker_ready")
    assert worker.stop() == 0
    (ended,) = worker.records("process_exited")
    assert ended["level"] == "info"  # not killed for it, late


def test_processes_end_and_give_their_jobs_back_when_the_supervisor_is_killed(
    db: Database, start_worker: StartWorker
) -> None:
    jobs = [db.app.add_job(name) for name in ("hold", "hold_async")]
    worker = start_worker("--processes", "2", "--concurrency", "1")
    db.wait_for_effects(2, "began")
    pids = worker.process_ids(2)
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


def test_signals_that_come_when_all_work_is_done_change_nothing(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--once", "--processes", "1")
    worker.wait_for("worker_stopped")
    with contextlib.suppress(ProcessLookupError):
        while worker.process.poll() is None:
            worker.signal(signal.SIGINT)
            worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


OF_LITTLE_PATIENCE = """
import sys
from pgtasks.cli import main
from pgtasks.logs import writing

writing._PATIENCE = 0.05
sys.exit(main())
"""


def test_term_is_obeyed_though_nobody_reads_the_log(db: Database, start_worker: StartWorker, tmp_path: Path) -> None:
    job = db.app.add_job("hold")
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    options = ("--processes", "1", "--shutdown-timeout", "0")
    script = f'python=$1; shift 3; exec "$python" -c \'{OF_LITTLE_PATIENCE}\' "$@" 2>{shlex.quote(str(pipe))}'
    worker = start_worker(*options, before=("/bin/sh", "-c", script, "sh"))
    with pipe.open() as log:
        while "worker_ready" not in log.readline():
            assert worker.process.poll() is None
        filling = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(filling, b"-" * size)
        os.close(filling)
        db.wait_for_effects(1, "began")
        worker.signal(signal.SIGUSR1)
        assert worker.stop() == 9
    assert db.job(job.id).attempts == 0


# While it starts


@contextlib.contextmanager
def waiting_worker(db: Database, database: str, start_worker: StartWorker) -> Iterator[Worker]:
    """Start a worker that has to wait in the database for as long as the block runs."""
    with psycopg.connect(database) as other:
        other.execute("lock table graphile_worker._private_tasks in access exclusive mode")
        worker = start_worker("--processes", "1")
        db.wait(lambda: db.value(WAITING) > 0, "the wait")
        yield worker


def test_term_is_obeyed_while_the_start_waits_for_the_database(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    with waiting_worker(db, database, start_worker) as worker:
        assert worker.stop() == 0
        assert db.value(WAITING) == 0
    worker.wait_for("worker_stopped", message="told to stop while it was starting")


def test_signals_for_the_pool_are_harmless_before_there_is_one(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    with waiting_worker(db, database, start_worker) as worker:
        for number in (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP):
            worker.signal(number)
    worker.wait_for("worker_ready", processes=1)
    assert worker.stop() == 0


TOLD_AT_THE_LAST_INSTANT = """
import os, signal, sys
from pgtasks.cli import main
from pgtasks.worker.supervisor import Supervisor

make = Supervisor.__init__

def make_and_be_told(self, *args, **kwargs):
    make(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGTERM)

Supervisor.__init__ = make_and_be_told
sys.exit(main(["worker", "tests.worker.jobs", "--processes", "1"]))
"""


def test_term_just_before_the_supervisor_runs_is_obeyed(db: Database, database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD_AT_THE_LAST_INSTANT],
        cwd=ROOT,
        env={**os.environ, "PGTASKS_DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "told to stop while it was starting" in done.stderr
