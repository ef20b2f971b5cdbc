"""Whatever ends a job, and only that, is recorded once, in its transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgtasks_history import history

if TYPE_CHECKING:
    from pgtasks import App
    from tests.sql.queue import Queue, Row

PLAIN_AND_ODD = pytest.mark.parametrize("schema", ["graphile_worker", 'My "odd" schema\'s'], indirect=True)


def claim(queue: Queue, **options: object) -> Row:
    """Add a job and claim it."""
    queue.add(**{"max_attempts": 2, **options})  # type: ignore[arg-type]
    [claimed] = queue.claim()
    return claimed


def recorded(queue: Queue) -> list[tuple[int, str]]:
    rows = queue.rows("select job_id, outcome from {gw}._pgtasks_history_jobs order by id")
    return [(row["job_id"], row["outcome"]) for row in rows]


# Success


@PLAIN_AND_ODD
def test_a_success_is_recorded_with_all_that_is_known_of_the_job(queue: Queue, app: App) -> None:
    job = claim(queue, queue_name="q", job_key="k", priority=3, flags=["b", "a"], payload='{"n": 1}')
    assert queue.finish_successes(job) == []
    [entry] = history(app)
    assert (entry.job_id, entry.task, entry.queue, entry.key, entry.outcome) == (
        job["id"],
        "send",
        "q",
        "k",
        "succeeded",
    )
    assert (entry.attempts, entry.max_attempts, entry.priority, entry.flags) == (1, 2, 3, ("a", "b"))
    assert (entry.created_at, entry.run_at, entry.started_at) == (job["created_at"], job["run_at"], job["locked_at"])
    assert entry.started_at is not None
    assert entry.finished_at > entry.started_at
    assert entry.seconds == (entry.finished_at - entry.started_at).total_seconds()


def test_a_thousand_that_end_at_once_are_recorded_each_once(queue: Queue) -> None:
    queue.add_unkeyed(*({"queue_name": None} for _ in range(1000)))
    jobs = queue.claim(limit=1000)
    assert queue.finish_successes(*jobs) == []
    assert sorted(recorded(queue)) == sorted((job["id"], "succeeded") for job in jobs)
    assert len(jobs) == 1000


def test_the_jobs_of_a_queue_are_recorded_when_its_turn_goes_on(queue: Queue) -> None:
    ids = [queue.add(queue_name="q") for _ in range(3)]
    [job] = queue.claim()
    for _ in range(2):
        _, [job] = queue.advance(job)
    assert recorded(queue) == [(ids[0], "succeeded"), (ids[1], "succeeded")]
    assert queue.advance(job) == ([ids[2]], [])
    assert len(recorded(queue)) == 3


def test_what_is_rolled_back_has_not_ended(queue: Queue) -> None:
    job = claim(queue)
    with queue.conn.transaction(force_rollback=True):
        queue.finish({**job, "outcome": "success"})
        assert recorded(queue) == [(job["id"], "succeeded")]
    assert recorded(queue) == []
    queue.finish({**job, "outcome": "success"})
    assert recorded(queue) == [(job["id"], "succeeded")]


def test_who_has_lost_the_job_records_nothing(queue: Queue) -> None:
    job = claim(queue)
    assert queue.finish_successes(job, worker="other") == [job["id"]]
    assert recorded(queue) == []


# Failure


def test_only_the_last_failure_is_recorded(queue: Queue, app: App) -> None:
    job = claim(queue, queue_name="q")
    queue.finish({**job, "outcome": "retry", "last_error": "first", "delay": 0})
    assert recorded(queue) == []
    [again] = queue.claim()
    queue.finish({**again, "outcome": "retry", "last_error": "second"})
    [entry] = history(app)
    assert (entry.job_id, entry.outcome, entry.attempts, entry.error) == (job["id"], "failed", 2, "second")
    assert (entry.started_at, entry.worker, entry.queue) == (again["locked_at"], "worker", "q")
    assert queue.job(job["id"])["last_error"] == "second", "it stays in the queue"


def test_who_succeeds_after_a_failure_has_the_error_of_then(queue: Queue, app: App) -> None:
    job = claim(queue)
    queue.finish({**job, "outcome": "retry", "last_error": "first", "delay": 0})
    queue.finish_successes(*queue.claim())
    [entry] = history(app)
    assert (entry.outcome, entry.attempts, entry.error) == ("succeeded", 2, "first")


def test_a_failure_for_good_tells_how_often_the_job_was_started(queue: Queue, app: App) -> None:
    queue.finish({**claim(queue, max_attempts=9), "outcome": "fail", "last_error": "no"})
    [entry] = history(app)
    assert (entry.outcome, entry.attempts, entry.max_attempts) == ("failed", 1, 9)


def test_a_failed_job_that_is_retried_has_an_entry_for_each_end(queue: Queue, app: App) -> None:
    job = claim(queue)
    queue.finish({**job, "outcome": "fail"})
    app.jobs.retry([job["id"]])
    queue.finish_successes(*queue.claim())
    assert recorded(queue) == [(job["id"], "failed"), (job["id"], "succeeded")]


def test_a_job_whose_last_attempt_was_cut_off_has_failed(queue: Queue) -> None:
    job = claim(queue, max_attempts=1)
    queue.run("select {gw}.force_unlock_workers(array['worker'])")
    assert recorded(queue) == [(job["id"], "failed")]


def test_a_job_that_is_failed_by_hand_was_not_running(queue: Queue, app: App) -> None:
    job_id = queue.add()
    for _ in range(2):
        app.jobs.fail([job_id], "never mind")
    [entry] = history(app)
    assert (entry.outcome, entry.error, entry.attempts) == ("failed", "never mind", 0)
    assert (entry.started_at, entry.seconds, entry.worker) == (None, None, None)


@pytest.mark.parametrize("outcome", ["retry", "snooze", "return"])
def test_what_runs_again_has_not_ended(queue: Queue, outcome: str) -> None:
    queue.finish({**claim(queue), "outcome": outcome, "last_error": "x"})
    queue.run("select {gw}.reschedule_jobs(array(select id from {gw}._private_jobs), priority := 5)")
    assert recorded(queue) == []


# Other ends


def test_a_cancelled_job_is_told_from_one_that_has_succeeded(queue: Queue, app: App) -> None:
    jobs = [claim(queue) for _ in range(3)]
    queue.finish(
        {**jobs[0], "outcome": "cancel", "last_error": 'not "wanted"\n'},
        {**jobs[1], "outcome": "success"},
        {**jobs[2], "outcome": "cancel"},
    )
    found = {entry.job_id: (entry.outcome, entry.error) for entry in history(app)}
    expected = [("cancelled", 'not "wanted"\n'), ("succeeded", None), ("cancelled", None)]
    assert [found[job["id"]] for job in jobs] == expected


def test_a_removed_job_did_not_run(queue: Queue, app: App) -> None:
    removed, completed = queue.add(job_key="k"), queue.add()
    queue.run("select {gw}.remove_job('k')")
    app.jobs.complete([completed])
    assert recorded(queue) == [(removed, "removed"), (completed, "removed")]


def test_the_deletion_of_a_failed_job_is_no_second_end(queue: Queue, app: App) -> None:
    job = claim(queue)
    queue.finish({**job, "outcome": "fail"})
    app.jobs.cleanup("DELETE_PERMAFAILED_JOBS")
    assert (recorded(queue), queue.job_ids()) == ([(job["id"], "failed")], [])


@pytest.mark.parametrize("how", ["replaced", "removed"])
@pytest.mark.parametrize("outcome", ["retry", "fail", "return", "success"])
def test_a_job_that_was_replaced_or_removed_while_it_ran_ends_with_that_run(
    queue: Queue, how: str, outcome: str
) -> None:
    job = claim(queue, job_key="k")
    if how == "removed":
        queue.run("select {gw}.remove_job('k')")
    else:
        queue.add(job_key="k", run_at="2100-01-01")
    assert recorded(queue) == []
    queue.finish({**job, "outcome": outcome, "had_key": True})
    assert recorded(queue) == [(job["id"], "succeeded" if outcome == "success" else "superseded")]


def test_jobs_that_graphile_worker_ends_are_recorded_too(queue: Queue) -> None:
    done, failed = queue.add(), queue.add(max_attempts=1)
    for job_id in (done, failed):
        queue.lock(job_id, "somebody")
    queue.run("delete from {gw}._private_jobs where id = %s", done)
    queue.run(
        "update {gw}._private_jobs set last_error = 'x', run_at = now(), locked_by = null, locked_at = null "
        "where id = %s and locked_by = 'somebody'",
        failed,
    )
    assert recorded(queue) == [(done, "succeeded"), (failed, "failed")]


# Payloads, and what must not break an end


def test_payloads_are_recorded_only_if_wanted(queue: Queue, app: App) -> None:
    payload = '{"big": 123456789012345678901234567890, "odd": "\\u0000",\n "e": 1e400}'
    queue.finish_successes(claim(queue, payload=payload))
    queue.run("update {gw}._pgtasks_history_settings set payload = true")
    queue.finish_successes(claim(queue, payload=payload))
    queue.finish({**claim(queue, payload=payload), "outcome": "fail"})
    assert [entry.payload_json for entry in history(app)] == [payload, payload, None]


def test_odd_jobs_end_and_can_be_read(queue: Queue, app: App) -> None:
    job = claim(queue)
    queue.set(job["id"], flags=json.dumps(["no", "object"]), created_at="infinity", run_at="-infinity")
    queue.run("delete from {gw}._private_tasks")
    queue.finish_successes(job)
    [entry] = history(app)
    assert (entry.task, entry.run_at, entry.created_at, entry.flags) == (None, None, None, ())


def test_a_role_may_end_jobs_without_rights_on_the_history(queue: Queue, database: str) -> None:
    jobs = [claim(queue) for _ in range(2)]
    queue.run("create role ender login bypassrls")
    queue.run(f"grant usage on schema {queue.name} to ender; grant all on {{gw}}._private_jobs to ender")
    queue.run("grant all on {gw}._private_job_queues, {gw}._pgtasks_waits to ender")
    try:
        with psycopg.connect(make_conninfo(database, user="ender"), autocommit=True) as conn:
            ender = type(queue)(conn, queue.schema)
            ender.finish_successes(jobs[0])
            ender.run("update {gw}._private_jobs set attempts = max_attempts, locked_at = null")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ender.run("select from {gw}._pgtasks_history_jobs")
            conn.execute("create temporary table forged as select 1 as id")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ender.run(
                    "create trigger forge after delete on forged referencing old table as gone "
                    "for each statement execute function {gw}._pgtasks_history_record_deleted()"
                )
    finally:
        queue.run("drop owned by ender; drop role ender")
    assert recorded(queue) == [(jobs[0]["id"], "succeeded"), (jobs[1]["id"], "failed")]


def test_names_are_looked_up_by_index_however_many_there_are(queue: Queue) -> None:
    queue.run("insert into {gw}._private_tasks (identifier) select 'other' || n from generate_series(1, 2000) as n")
    job = claim(queue)
    queue.run("analyze {gw}._private_tasks")

    def reads() -> Any:
        return queue.value(
            "select pg_stat_get_xact_tuples_returned('{gw}._private_tasks'::regclass)".replace("{gw}", queue.name)
        )

    with queue.conn.transaction():
        before = reads()
        queue.run("delete from {gw}._private_jobs where id = %s", job["id"])
        assert reads() - before < 10
