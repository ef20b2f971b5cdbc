"""Handlers, applications and neighbours that do what they should not."""

from __future__ import annotations

import datetime as dt
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.waiting import wait_until
from tests.worker.conftest import LONG, ROOT, alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker


def seconds_between(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How much later the other record was written."""
    began, ended = (dt.datetime.fromisoformat(record["timestamp"]) for record in (one, other))
    return (ended - began).total_seconds()


WAITING_CLAIMS = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%%claim_jobs%%'"


@pytest.mark.parametrize("task", ["stop_loop", "cancel_everything"])
def test_a_handler_that_breaks_the_event_loop_is_charged_and_ends_failed(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    job = db.app.add_job(task, max_attempts=1)
    good = db.app.add_job("note", priority=1)
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait_for_effects(1)
    db.wait(lambda: db.job(job.id).locked_at is None, "the job's end")
    stored = db.job(job.id)
    assert (stored.attempts, stored.max_attempts) == (1, 1)
    assert db.effects() == [good.id]
    assert worker.stop() == 0


def test_a_handler_that_refuses_to_be_cancelled_does_not_hold_up_the_end(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("refuse_to_end")
    worker = start_worker("--processes", "1", "--shutdown-timeout", "0")
    db.wait_for_effects(1, "began")
    assert worker.stop() == 9
    assert db.job(job.id).attempts == 0
    assert db.locked() == 0


def test_an_error_that_cannot_be_shown_fails_its_job_and_no_more(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("fail_unspeakably")
    good = db.app.add_job("note")
    worker = start_worker("--once", "--processes", "1", "--concurrency", "1")
    assert worker.wait() == 0
    assert db.job(job.id).last_error.startswith("tests.worker.jobs.UnspeakableError: <its text cannot be shown>")
    assert db.effects() == [good.id]


def test_a_handler_can_fork_a_child_and_terminate_it(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("fork_and_terminate")
    after = db.app.add_job("note", priority=1)
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait_for_effects(1)
    assert db.effects("child ended by 15")
    assert db.effects() == [after.id]
    assert worker.records("process_exited") == []
    assert worker.stop() == 0


@pytest.mark.parametrize("task", ["fork_and_return", "fork_and_raise_async"])
def test_a_child_that_comes_back_from_the_handler_that_forked_it_ends_there(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    job = db.app.add_job(task, max_attempts=1)
    after = db.app.add_job("note", priority=1)
    worker = start_worker("--processes", "1", "--concurrency", "1")
    db.wait_for_effects(1)
    assert db.effects() == [after.id]
    child = int(db.value("select what from effects where what like 'child %%'").split()[1])
    wait_until(lambda: not alive(child), LONG, "the child's end")
    assert db.rows("select job_id from ledger") == [(job.id,)]
    assert worker.records("process_exited") == []
    assert worker.stop() == 0
    assert db.count() == 0


@pytest.mark.parametrize("task", ["remember", "remember_async"])
def test_no_context_variable_leaks_from_one_job_into_another(
    db: Database, start_worker: StartWorker, task: str
) -> None:
    for number in range(5):
        db.app.add_job(task, {"tenant": f"tenant {number}"})
    assert start_worker("--once", "--processes", "1", "--concurrency", "1").wait() == 0
    assert db.rows("select distinct what from effects") == [("saw None",)]


def test_a_claim_that_is_done_after_its_process_was_killed_leaves_nothing_locked(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    start_worker("--once", "--processes", "1").wait()  # registers the tasks, which would wait for the table too
    jobs = [db.app.add_job("note", max_attempts=1, queue="q") for _ in range(3)]
    with psycopg.connect(database) as other:
        other.execute("lock table graphile_worker._private_jobs in share mode")
        second = start_worker("--processes", "1", "--no-migrate")
        second.wait_for("process_started")
        db.wait(lambda: db.value(WAITING_CLAIMS) > 0, "a claim that waits")
        os.kill(second.process_ids()[0], signal.SIGKILL)
        second.wait_for("process_exited")
    db.wait_for_effects(3)
    assert db.effects() == [job.id for job in jobs]
    db.wait_until_empty()
    assert second.stop() == 0
    assert db.locked() == 0


def test_a_row_that_somebody_has_locked_does_not_keep_the_others_of_a_dead_process_from_going_back(
    db: Database, start_worker: StartWorker
) -> None:
    held = db.app.add_job("hold", job_key="k")
    others = [db.app.add_job("hold") for _ in range(3)]
    worker = start_worker("--processes", "1")
    db.wait_for_effects(4, "began")
    with db.app.connection() as connection, connection.transaction():
        db.app.add_job("note", job_key="k", delay=3600, connection=connection)
        for _ in range(2):
            worker.signal(signal.SIGTERM)
            worker.wait_for("worker_draining")
        db.wait(
            lambda: all(db.job(job.id).locked_at is None and db.job(job.id).attempts == 0 for job in others),
            "the other jobs' return",
        )
    assert worker.wait() == 9
    assert db.locked() == 0
    assert db.job(held.id).attempts == db.job(held.id).max_attempts


def test_a_claim_that_the_database_refuses_is_tried_again_and_charges_no_job(
    db: Database, start_worker: StartWorker
) -> None:
    held = db.app.add_job("wait_for_row", {"permit": "go"}, max_attempts=1)
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    db.connection.execute("alter function graphile_worker._pgtasks_claim_jobs rename to gone")
    after = db.app.add_job("note")
    refusal = worker.wait_for("statement_refused", statement="claim_jobs")
    assert "_pgtasks_claim_jobs" in refusal["error"]
    db.connection.execute("alter function graphile_worker.gone rename to _pgtasks_claim_jobs")
    db.wait_for_effects(1)
    db.permit("go")
    db.wait_until_empty()
    assert db.effects() == [after.id, held.id]
    assert worker.records("process_exited") == []
    assert worker.stop() == 0


def test_an_end_that_the_database_refuses_is_kept_and_written_when_it_is_not_refused_any_more(
    db: Database, start_worker: StartWorker
) -> None:
    db.connection.execute("""
        create function refuse() returns trigger language plpgsql as $$
        begin
            if not exists (select from permits) then
                raise exception 'not now';
            end if;
            return new;
        end $$;
        create trigger refuse before update on graphile_worker._private_jobs
        for each row when (new.last_error is not null) execute function refuse();
    """)
    failing = db.app.add_job("fail", max_attempts=1)
    worker = start_worker("--processes", "1", modules=("tests.worker.refused",))
    worker.wait_for("job_unwritable", job_id=failing.id)
    # Each claim first gives back what is locked for this worker without its knowing.
    after = db.app.add_job("note")
    db.wait_for_effects(1)
    assert db.effects() == [after.id]
    assert db.job(failing.id).locked_by
    db.permit("go")
    worker.wait_for("job_failed", job_id=failing.id)
    assert db.job(failing.id).attempts == 1
    assert db.effects("tried") == [failing.id]
    assert len(worker.records("job_unwritable")) == 1
    assert worker.stop() == 0


def test_a_process_that_gets_no_thread_leaves_jobs_to_others_for_a_while(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("note")
    worker = start_worker("--processes", "1", modules=("tests.worker.threadless",))
    fourth = worker.wait_for("no_thread", 4)
    first = worker.records("no_thread")[0]
    assert seconds_between(first, fourth) > 0.05 + 0.1 + 0.2  # the least of its pauses
    mending = db.app.add_job("give_threads", priority=-1)
    db.wait_until_empty()
    assert db.effects() == [mending.id, job.id]
    assert worker.stop() == 0


def test_a_job_that_the_database_cannot_fail_does_not_take_others_with_it(
    db: Database, start_worker: StartWorker
) -> None:
    job = db.app.add_job("fail")
    db.connection.execute("select graphile_worker.reschedule_jobs(array[%s::bigint], attempts := -1000)", (job.id,))
    good = [db.app.add_job("note") for _ in range(5)]
    worker = start_worker("--once", "--processes", "1")
    assert worker.wait() == 0
    assert sorted(db.effects()) == [job.id for job in good]
    assert db.job(job.id).attempts == -999


def test_once_waits_until_the_jobs_of_a_dead_process_are_back_and_run(db: Database, start_worker: StartWorker) -> None:
    killer = db.app.add_job("die", {"how": "exit", "code": 3}, max_attempts=1, priority=-1)
    others = [db.app.add_job("note") for _ in range(10)]
    worker = start_worker("--once", "--processes", "1", "--concurrency", "1")
    assert worker.wait() == 0
    assert sorted(db.effects()) == [job.id for job in others]
    assert db.job(killer.id).last_error.startswith("WorkerProcessDied")
    assert db.locked() == 0


def test_an_application_that_uses_the_database_while_it_is_imported_is_told_so(start_worker: StartWorker) -> None:
    worker = start_worker(modules=("tests.worker.eager",))
    assert worker.wait() == 6
    assert "the application has used the database while it was imported" in worker.text


def test_an_application_that_changes_what_signals_do_loses_no_death(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("note_meddling")
    worker = start_worker("--processes", "1", modules=("tests.worker.meddling",))
    db.wait_for_effects(1)
    os.kill(worker.process_ids()[0], signal.SIGKILL)
    worker.wait_for("process_exited", status="killed by SIGKILL")
    worker.wait_for("process_started", count=2)
    assert db.effects() == [job.id]
    assert worker.stop() == 0


def test_a_worker_without_standard_streams_runs_its_jobs(db: Database, database: str) -> None:
    db.app.add_job("note")
    done = subprocess.run(
        [
            *("/bin/sh", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-'),
            *(sys.executable, "-m", "pgtasks", "worker", "tests.worker.jobs", "--once", "--processes", "1"),
        ],
        cwd=ROOT,
        env={**os.environ, "PGTASKS_DATABASE_URL": database},
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0
    assert len(db.effects()) == 1


def test_a_worker_whose_output_nobody_reads_runs_the_jobs_of_an_application_that_prints(
    db: Database, database: str, tmp_path: Path
) -> None:
    (tmp_path / "printing.py").write_text("print('hello')\nfrom tests.worker.jobs import *\n")
    db.app.add_job("note")
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "pgtasks", "worker", "printing", "--once", "--processes", "1"],
        cwd=tmp_path,
        env={**os.environ, "PGTASKS_DATABASE_URL": database, "PYTHONUNBUFFERED": "", "PYTHONPATH": str(ROOT)},
        stdout=theirs,
        timeout=LONG,
        check=False,
    )
    os.close(theirs)
    assert done.returncode == 0
    assert len(db.effects()) == 1


PRINTING = """
import os
from pgtasks import task

@task
def tell() -> None:
    print("one", end="")
    os.write(1, b"of another process\\n")
    print(" line")
"""


def test_lines_that_handlers_print_stay_whole_where_output_is_unbuffered(
    db: Database, database: str, tmp_path: Path
) -> None:
    (tmp_path / "telling.py").write_text(PRINTING)
    db.app.add_job("tell")
    done = subprocess.run(
        [sys.executable, "-m", "pgtasks", "worker", "telling", "--once", "--processes", "1"],
        cwd=tmp_path,
        env={**os.environ, "PGTASKS_DATABASE_URL": database, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert "of another process\none line\n" in done.stdout


def test_a_program_that_a_job_starts_inherits_no_socket(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("list_inheritable")
    assert start_worker("--once", "--processes", "1").wait() == 0
    assert db.effects("inheritable: []")


def test_a_job_that_asks_the_terminal_has_none_and_stops_no_process(db: Database, start_worker: StartWorker) -> None:
    ours, theirs = pty.openpty()
    # Its session's terminal is the one that the fixture's session gets by opening it first.
    name = os.ttyname(theirs)
    take = f"import os, sys; os.open({name!r}, os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
    worker = start_worker("--processes", "1", before=(sys.executable, "-c", take))
    worker.wait_for("worker_ready")
    worker.signal(signal.SIGHUP)  # those of a fresh interpreter have none either
    worker.wait_for("application_reloaded")
    db.app.add_job("ask_terminal")
    db.wait_for_effects(1, "nobody to ask")
    os.write(ours, b"\x03")
    worker.wait_for("worker_draining", signal="SIGINT")
    assert worker.wait() == 0
    assert {record["status"] for record in worker.records("process_exited")} == {"exit code 0"}
    for end in (ours, theirs):
        os.close(end)


def test_term_during_a_long_import_ends_the_worker_and_its_import(start_worker: StartWorker, tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.environ["PT_IMPORT_STARTED"] = str(started)
    try:
        worker = start_worker(modules=("tests.worker.slow_import",))
    finally:
        del os.environ["PT_IMPORT_STARTED"]
    wait_until(started.exists, LONG, "the import")
    zygote = int(started.read_text())
    assert worker.stop() == 0
    wait_until(lambda: not alive(zygote), LONG, "the end of the importing process")
