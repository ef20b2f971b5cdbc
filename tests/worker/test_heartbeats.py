"""Hosts that die, stop or cannot reach the database: others take their jobs over, and nothing is done twice unseen."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.worker.conftest import parent_of

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker

QUICK = {"PGTASKS_STALE_AFTER": "2"}


def beats(db: Database) -> dict[str, object]:
    return dict(db.rows("select id, heartbeat_at from graphile_worker._pgtasks_workers where retired_at is null"))


def test_each_process_is_listed_with_its_host_and_counters(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "2", env=QUICK)
    worker.wait_for("worker_ready")
    db.app.add_job("note")
    failing = db.app.add_job("fail")
    pids = set(worker.process_ids())
    db.wait(
        lambda: db.rows("select sum(succeeded), sum(failed) from graphile_worker._pgtasks_workers")[0] == (1, 1),
        "counters of what has run",
    )
    assert {row[0] for row in db.rows("select pid from graphile_worker._pgtasks_workers")} == pids
    first = beats(db)
    db.wait(lambda: all(beats(db)[worker] != at for worker, at in first.items()), "the next heartbeat")
    assert db.job(failing.id).attempts == 1
    assert worker.stop() == 0


def test_another_host_takes_over_from_one_that_was_killed_with_all_its_processes(
    db: Database, start_worker: StartWorker
) -> None:
    survivor = start_worker("--processes", "1", env=QUICK)
    survivor.wait_for("worker_ready")
    doomed = start_worker("--processes", "1", "--concurrency", "2", env=QUICK)
    doomed.wait_for("worker_ready")
    # The survivor has its hands full with jobs that wait, so the other one takes these.
    os.kill(survivor.process_ids()[0], signal.SIGSTOP)
    jobs = [db.app.add_job("wait_for_row", {"permit": "go"}, max_attempts=1) for _ in range(2)]
    db.wait_for_effects(2, "began")
    doomed.kill_all()
    os.kill(survivor.process_ids()[0], signal.SIGCONT)

    lost = survivor.wait_for("worker_lost")
    assert (lost["returned"], lost["failed"]) == (2, 0)
    db.permit("go")
    db.wait_until_empty()
    assert sorted(db.effects()) == [job.id for job in jobs]
    assert db.value("select max(attempt) from effects") == 1
    assert survivor.stop() == 0
    assert db.locked() == 0


def test_a_job_that_cannot_be_given_back_keeps_none_of_other_dead_workers(
    db: Database, start_worker: StartWorker
) -> None:
    ids = []
    for worker_id in ("dead-1", "dead-2", "dead-3"):
        job = db.app.add_job("elsewhere")
        ids.append(job.id)
        db.connection.execute(
            "insert into graphile_worker._pgtasks_workers (id, heartbeat_at) values (%s, now() - interval '1 hour')",
            (worker_id,),
        )
        db.connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = %s, attempts = 1 where id = %s",
            (worker_id, job.id),
        )
    db.connection.execute("""
        create function refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$;
        create trigger refuse before update on graphile_worker._private_jobs
            for each row when (old.locked_by in ('dead-1', 'dead-3')) execute function refuse();
    """)
    worker = start_worker("--processes", "1", env={"PGTASKS_STALE_AFTER": "1"})
    assert worker.wait_for("worker_lost")["worker"] == "dead-2"
    for worker_id in ("dead-1", "dead-3"):
        assert worker.wait_for("statement_refused", worker=worker_id)["error"] == "not this one"
    db.connection.execute("drop trigger refuse on graphile_worker._private_jobs")
    worker.wait_for("worker_lost", count=3)
    assert [db.job(id_).attempts for id_ in ids] == [0, 0, 0]
    assert worker.stop() == 0


def test_a_job_whose_hosts_die_over_it_fails_for_good_in_the_end(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "never"})
    for number in range(2):
        doomed = start_worker("--processes", "1", env=QUICK)
        db.wait_for_effects(number + 1, "began")
        doomed.kill_all()
        doomed.process.wait()
        if number == 0:
            # Only ours may start it again: so it is given back by hand, as a host does that is there.
            db.connection.execute(
                "update graphile_worker._pgtasks_workers set heartbeat_at = now() - interval '1 hour'"
            )
            db.connection.execute(
                "select graphile_worker._pgtasks_release_worker(id, retire => true, max_interruptions => 1, "
                "stale_after => 2) from graphile_worker._pgtasks_workers"
            )
    survivor = start_worker("--processes", "1", env={**QUICK, "PGTASKS_MAX_INTERRUPTIONS": "1"})
    lost = survivor.wait_for("worker_lost")
    assert (lost["returned"], lost["failed"]) == (0, 1)
    stored = db.job(job.id)
    assert (stored.attempts, stored.max_attempts, stored.locked_at) == (25, 25, None)
    assert stored.last_error.startswith("WorkerLost: ")
    assert survivor.stop() == 0


def test_a_process_that_was_stopped_for_too_long_loses_its_jobs_and_changes_nothing_afterwards(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2", "--concurrency", "1", env=QUICK)
    worker.wait_for("worker_ready")
    job = db.app.add_job("wait_for_row", {"permit": "go"}, max_attempts=1)
    db.wait_for_effects(1, "began")
    stopped = db.value("select pid from effects")
    os.kill(stopped, signal.SIGSTOP)
    worker.wait_for("process_stopped", pid=stopped)
    assert worker.wait_for("worker_lost")["returned"] == 1
    db.wait_for_effects(2, "began")  # in the other process

    db.permit("go")
    db.wait_for_effects(1)
    os.kill(stopped, signal.SIGCONT)
    worker.wait_for("process_continued", pid=stopped)
    worker.wait_for("worker_evicted")
    worker.wait_for("process_exited", pid=stopped)
    worker.wait_for("process_started", count=3)
    db.wait_until_empty()
    assert len(db.effects()) in (1, 2)  # it was running when it was stopped, so it may have ended in both
    assert db.effects()[0] == job.id
    worker.wait_for("worker_ready", count=2)
    later = db.app.add_job("note")
    db.wait(lambda: later.id in db.effects(), "a job that was added later")
    assert worker.stop() == 0
    assert db.locked() == 0


def test_a_dead_process_has_no_heartbeats_even_if_the_zygote_does_not_say_that_it_is_dead(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2", env=QUICK)
    worker.wait_for("worker_ready")
    dead, other = (record["worker"] for record in worker.records("process_started"))
    pid = worker.process_ids()[0]

    def alike() -> bool:
        found = beats(db)
        return found.get(dead) == found[other]

    db.wait(alike, "a heartbeat of both")
    zygote = parent_of(pid)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    db.wait(lambda: not alike(), "a heartbeat of the other one alone")
    os.kill(zygote, signal.SIGCONT)
    worker.wait_for("process_exited", pid=pid)
    worker.wait_for("process_started", count=3)
    assert worker.stop() == 0


def test_a_supervisor_that_was_stopped_is_taken_for_dead_and_goes_on_with_new_processes(
    db: Database, start_worker: StartWorker
) -> None:
    other = start_worker("--processes", "1", env=QUICK)
    worker = start_worker("--processes", "1", env=QUICK)
    other.wait_for("worker_ready")
    worker.wait_for("worker_ready")
    pid = worker.process_ids()[0]
    for each in (worker.process.pid, pid):
        os.kill(each, signal.SIGSTOP)
    db.wait(
        lambda: db.value("select retired_at is not null from graphile_worker._pgtasks_workers where pid = %s", pid),
        "the other host to retire the worker",
    )
    for each in (worker.process.pid, pid):
        os.kill(each, signal.SIGCONT)
    worker.wait_for("process_exited", pid=pid)
    worker.wait_for("process_started", count=2)
    db.wait(
        lambda: worker.process_ids()[1] in dict(db.rows("select pid, 1 from graphile_worker._pgtasks_workers")), "it"
    )
    assert worker.stop() == 0
    assert other.stop() == 0


def test_jobs_are_asked_to_stop_and_nothing_is_started_while_heartbeats_do_not_go_through(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "1", env=QUICK)
    worker.wait_for("worker_ready")
    job = db.app.add_job("hold_async", {"seconds": 3600}, max_attempts=1)
    db.wait_for_effects(1, "began")
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.wait_for("heartbeats_lost")
    later = db.app.add_job("note")
    os.kill(worker.process.pid, signal.SIGCONT)
    worker.wait_for("heartbeats_restored")
    db.wait(lambda: later.id in db.effects(), "the job that was added meanwhile")
    db.wait_for_effects(2, "began")
    assert db.job(job.id).attempts == 1  # the first attempt was given back
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    worker.wait()


def test_a_host_that_slept_starts_nothing_of_what_others_have_been_given(
    db: Database, start_worker: StartWorker
) -> None:
    sleeper = start_worker("--processes", "1", "--concurrency", "1", env=QUICK)
    sleeper.wait_for("worker_ready")
    # Quick jobs make it claim ahead: what follows waits in its process, behind a job that takes its time.
    db.connection.execute("select graphile_worker.add_job('nothing') from generate_series(1, 500)")
    db.app.add_job("wait_for_row", {"permit": "go"})
    notes = [db.app.add_job("note", max_attempts=1).id for _ in range(20)]
    db.wait_for_effects(1, "began")
    pid = sleeper.process_ids()[0]
    for each in (sleeper.process.pid, pid):
        os.kill(each, signal.SIGSTOP)
    other = start_worker("--processes", "1", env=QUICK)
    other.wait_for("worker_lost")
    db.permit("go")
    db.wait(lambda: set(notes) <= set(db.effects()), "the other host to run them")
    for each in (pid, sleeper.process.pid):
        os.kill(each, signal.SIGCONT)
    sleeper.wait_for("process_exited", pid=pid)
    assert db.rows("select job_id from effects where job_id = any(%s) and pid = %s", notes, pid) == []
    assert sorted(job_id for job_id in db.effects() if job_id in notes) == notes
    assert sleeper.stop() == 0
    assert other.stop() == 0


def test_a_leap_of_the_databases_clock_takes_no_jobs_from_workers_that_are_alive(
    db: Database, start_worker: StartWorker
) -> None:
    workers = [start_worker("--processes", "1", env=QUICK) for _ in range(2)]
    for worker in workers:
        worker.wait_for("worker_ready")
    job = db.app.add_job("wait_for_row", {"permit": "go"})
    db.wait_for_effects(1, "began")
    for _ in range(3):
        # Long enough between two leaps for each host to be trusted again.
        before = beats(db)
        db.wait(lambda: all(now != before.get(id_) for id_, now in beats(db).items()), "heartbeats")  # noqa: B023
        db.connection.execute("update graphile_worker._pgtasks_workers set heartbeat_at = now() - interval '1 hour'")
    db.permit("go")
    db.wait_until_empty()
    assert db.effects() == [job.id]
    assert db.effects("began") == [job.id]
    for worker in workers:
        assert worker.stop() == 0
        assert worker.records("worker_lost") == []


def test_a_worker_that_has_ended_is_not_listed(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("note")
    assert start_worker("--once", "--processes", "2").wait() == 0
    assert db.app.jobs.workers() == []
