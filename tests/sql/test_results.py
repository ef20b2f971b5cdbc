"""What ends of jobs leave for those who wait for them: word, and results."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.database import run
from pgtasks.job import SUCCESS, Completion, Job, Outcome, OutcomeKind
from pgtasks.queue.finish import finish_and_keep, finish_batch, finish_jobs, keep_result, sweep_results
from pgtasks.queue.waits import CHANNEL, End, ended_jobs, forget_waits, register_waits
from pgtasks.sql import Statements

if TYPE_CHECKING:
    import psycopg

    from tests.sql.queue import Queue, Row

every = pytest.mark.every_postgres

DAY = 86_400.0
LATER = datetime(2040, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@pytest.fixture
def sql(schema: str) -> Statements:
    return Statements(schema)


def held(row: Row, task: str = "send") -> Job:
    """A job that was claimed, as a worker has it."""
    return Job(
        id=row["id"],
        task=task,
        queue=None,
        payload_json="{}",
        priority=0,
        run_at=row["run_at"],
        attempts=1,
        max_attempts=row["max_attempts"],
        last_error=None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        key=None,
        locked_at=row["locked_at"],
        locked_by="worker",
        revision=0,
    )


def claim(queue: Queue, count: int, **options: object) -> list[Row]:
    for _ in range(count):
        queue.add(**options)  # type: ignore[arg-type]
    return sorted(queue.claim(), key=lambda row: row["id"])


def ends(connection: psycopg.Connection[Any], sql: Statements, *job_ids: int) -> dict[int, End]:
    return run(connection, ended_jobs(sql, dict.fromkeys(job_ids)))


@every
def test_who_ends_jobs_tells_those_who_wait_for_them(
    queue: Queue, other: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    heard: list[str] = []
    other.conn.add_notify_handler(lambda note: heard.append(note.payload))
    other.run(f'listen "{CHANNEL}"')
    jobs = claim(queue, 8, max_attempts=2)
    queued = claim(queue, 1, queue_name="q")
    me = uuid.uuid4()
    awaited = [job["id"] for job in (*jobs[::2], jobs[3], *queued)]
    run(connection, register_waits(sql, me, awaited, 60))
    run(connection, register_waits(sql, uuid.uuid4(), awaited, 60))

    queue.finish_successes(*jobs[:2])
    queue.finish({**jobs[2], "outcome": "retry"}, {**jobs[4], "outcome": "fail"}, {**jobs[5], "outcome": "fail"})
    queue.set(jobs[3]["id"], attempts=2)
    assert queue.finish({**jobs[3], "outcome": "retry", "had_key": True}) == {jobs[3]["id"]: "superseded"}
    queue.finish({**jobs[6], "outcome": "cancel"}, {**jobs[7], "outcome": "success"})
    queue.advance(*queued)
    other.run("select 1")
    assert heard == [str(job["id"]) for job in (jobs[0], jobs[4], jobs[3], jobs[6], *queued)]

    run(connection, forget_waits(sql, me, awaited))
    assert queue.value("select count(*) from {gw}._pgtasks_waits") == len(awaited)


def test_more_jobs_are_told_than_one_notification_holds(
    queue: Queue, other: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    heard: list[str] = []
    other.conn.add_notify_handler(lambda note: heard.append(note.payload))
    other.run(f'listen "{CHANNEL}"')
    ids = [2**62 + number for number in range(800)]
    run(connection, register_waits(sql, uuid.uuid4(), ids, 60))
    queue.run("select {gw}._pgtasks_tell_waiters(%s)", ids)
    other.run("select 1")
    assert sorted(int(each) for note in heard for each in note.split(",")) == ids
    assert len(heard) == 3


@every
def test_an_end_looks_at_no_waits_but_its_own_even_at_those_that_were(queue: Queue, other: Queue) -> None:
    calls = [
        "select {gw}._pgtasks_finish_jobs('worker', '{1}', array[now()], '{success}', null, null, null, null)",
        "select {gw}._pgtasks_finish_successes('worker', '{1}', '{1}')",
        "select {gw}._pgtasks_advance_queues('worker', '{send}', '{}', '{1}', '{1}')",
    ]

    def pages(call: str) -> int:
        plan = queue.value(f"explain (analyze, buffers, format json) {call}")
        plan = json.loads(plan) if isinstance(plan, str) else plan
        return int(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])

    with other.conn.transaction():
        other.run("set transaction isolation level repeatable read")
        other.rows("select from {gw}._private_jobs")
        queue.run(
            "insert into {gw}._pgtasks_waits select g, gen_random_uuid(), now() from generate_series(10000, 40000) g"
        )
        queue.run("delete from {gw}._pgtasks_waits")
        for call in calls:
            pages(call)  # fills the caches of the session
            assert pages(call) < 100, call


@every
def test_what_has_ended_is_told_from_what_has_not(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    ready, running, failed = (queue.add(max_attempts=1) for _ in range(3))
    queue.lock(running)
    queue.set(failed, attempts=1, last_error="no")
    assert ends(connection, sql, ready, running, failed, 10_000) == {
        failed: End(failed, "failed", "send", None, "no"),
        10_000: End(10_000, "gone", None, None, None),
    }


def test_a_job_of_an_open_transaction_is_not_gone(
    queue: Queue, other: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    with other.conn.transaction():
        job = other.add_job()
        asked = {job["id"]: job["created_at"]}
        assert run(connection, ended_jobs(sql, asked))[job["id"]].state == "open"
    assert run(connection, ended_jobs(sql, asked)) == {}
    queue.run("select {gw}.complete_jobs(array[%s::bigint])", job["id"])
    assert run(connection, ended_jobs(sql, asked))[job["id"]].state == "gone"


@every
@pytest.mark.every_schema
def test_ends_are_kept_of_tasks_that_store_results(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    done, failed, cancelled, again, lost, other, unasked = (held(row) for row in claim(queue, 7, max_attempts=2))
    queue.set(lost.id, locked_by="somebody")
    batch = [
        Completion(done, SUCCESS, result_json='{"n": 1}'),
        Completion(failed, Outcome(OutcomeKind.FAIL, "bad")),
        Completion(cancelled, Outcome(OutcomeKind.CANCEL, "off")),
        Completion(again, Outcome(OutcomeKind.RETRY, "once more")),
        Completion(lost, SUCCESS, result_json="2"),
        Completion(held(queue.job(other.id), "plain"), SUCCESS),
        Completion(held(queue.job(unasked.id), "plain"), Outcome(OutcomeKind.CANCEL, "off")),
    ]
    states = run(connection, finish_batch(sql, "worker", batch, {"send": DAY}))
    assert states == {
        done.id: "deleted",
        failed.id: "failed",
        cancelled.id: "deleted",
        again.id: "retrying",
        other.id: "deleted",
        unasked.id: "deleted",
    }
    assert queue.rows("select job_id, state, value, error from {gw}._pgtasks_results order by job_id") == [
        {"job_id": done.id, "state": "succeeded", "value": '{"n": 1}', "error": None},
        {"job_id": failed.id, "state": "failed", "value": None, "error": "bad"},
        {"job_id": cancelled.id, "state": "cancelled", "value": None, "error": "off"},
    ]
    assert ends(connection, sql, done.id, cancelled.id) == {
        done.id: End(done.id, "succeeded", "send", b'{"n": 1}', None),
        cancelled.id: End(cancelled.id, "cancelled", "send", None, "off"),
    }
    left = queue.values("select extract(epoch from expires_at - finished_at) from {gw}._pgtasks_results")
    assert left == [DAY] * 3


@pytest.mark.parametrize("dead", [False, True])
def test_a_cancel_is_kept_for_who_waits_whatever_the_task(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements, *, dead: bool
) -> None:
    awaited, unasked = (held(row) for row in claim(queue, 2))
    run(connection, register_waits(sql, uuid.uuid4(), [awaited.id], 60))
    ended = [(job, Outcome(OutcomeKind.CANCEL, "off")) for job in (awaited, unasked)]
    if dead:
        run(connection, finish_jobs(sql, "worker", [(job.claim, outcome) for job, outcome in ended]))
    else:
        run(connection, finish_batch(sql, "worker", [Completion(job, outcome) for job, outcome in ended]))
    found = ends(connection, sql, awaited.id, unasked.id)
    assert (found[awaited.id].state, found[awaited.id].error) == ("cancelled", "off")
    assert found[unasked.id].state == "gone"


def test_what_somebody_has_cancelled_is_told_as_cancelled_however_its_claim_ends(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    stored, plain, given_up, stopped = (held(row) for row in claim(queue, 4))
    waiting = queue.add()
    ids = [stored.id, plain.id, given_up.id, stopped.id, waiting]
    queue.rows("select * from {gw}._pgtasks_cancel_jobs(%s, 'off')", ids)
    batch = [
        Completion(stored, Outcome(OutcomeKind.RETRY, "broken")),
        Completion(held(queue.job(plain.id), "plain"), Outcome(OutcomeKind.RETURN)),
        Completion(given_up, Outcome(OutcomeKind.CANCEL, "off")),
        Completion(held(queue.job(stopped.id), "plain"), Outcome(OutcomeKind.CANCEL, "off")),  # as it was asked to
    ]
    run(connection, finish_batch(sql, "worker", batch, {"send": DAY}))
    found = ends(connection, sql, *ids)
    assert {job_id: (end.state, end.error) for job_id, end in found.items()} == dict.fromkeys(ids, ("cancelled", "off"))


def test_a_job_that_somebody_has_cancelled_without_a_reason_has_none(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    [job] = (held(row) for row in claim(queue, 1))
    queue.rows("select * from {gw}._pgtasks_cancel_jobs(%s)", [job.id])
    run(connection, finish_batch(sql, "worker", [Completion(job, Outcome(OutcomeKind.CANCEL, "cancelled"))]))
    assert ends(connection, sql, job.id) == {job.id: End(job.id, "cancelled", "send", None, None)}


def test_a_result_says_nothing_while_its_job_is_there(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    [row] = claim(queue, 1)
    job = held(row)
    failure = Completion(job, Outcome(OutcomeKind.FAIL, "bad"))
    run(connection, finish_and_keep(sql, "worker", [failure], {"send": DAY}, quickly=False))
    assert ends(connection, sql, job.id)[job.id].state == "failed"
    queue.run("select {gw}.reschedule_jobs(array[%s::bigint], attempts := 0)", job.id)
    assert ends(connection, sql, job.id) == {}
    [row] = queue.claim()
    with connection.transaction():
        run(connection, keep_result(sql, held(row), "[1]", DAY))
        queue.finish({**row, "outcome": "success"})
    assert ends(connection, sql, job.id) == {job.id: End(job.id, "succeeded", "send", b"[1]", None)}


@every
def test_results_and_registrations_expire(queue: Queue, connection: psycopg.Connection[Any], sql: Statements) -> None:
    jobs = [held(row) for row in claim(queue, 4)]
    for job, seconds in zip(jobs, (DAY, 1e-6, 1e-6, 1e-6), strict=True):
        run(connection, keep_result(sql, job, "1", seconds))
        run(connection, register_waits(sql, uuid.uuid4(), [job.id], seconds))
        queue.run("delete from {gw}._private_jobs where id = %s", job.id)
    assert [ends(connection, sql, job.id)[job.id].state for job in jobs] == ["succeeded", "gone", "gone", "gone"]
    assert [run(connection, sweep_results(sql, 2)) for _ in range(3)] == [2, 1, 0]
    for table in ("_pgtasks_results", "_pgtasks_waits"):
        assert queue.values(f"select job_id from {{gw}}.{table}") == [jobs[0].id]


def test_a_job_may_run_again_at_a_time_that_is_given(
    queue: Queue, connection: psycopg.Connection[Any], sql: Statements
) -> None:
    retried, snoozed, delayed, failed = (held(row) for row in claim(queue, 4))
    outcomes = [
        (retried.claim, Outcome(OutcomeKind.RETRY, "no", delay=5, run_at=LATER)),
        (snoozed.claim, Outcome(OutcomeKind.SNOOZE, run_at=LATER + timedelta(days=1))),
        (delayed.claim, Outcome(OutcomeKind.RETRY, "no", delay=3600)),
        (failed.claim, Outcome(OutcomeKind.FAIL, "no", run_at=LATER)),
    ]
    run(connection, finish_jobs(sql, "worker", outcomes))
    assert queue.job(retried.id)["run_at"] == LATER
    assert queue.job(snoozed.id)["run_at"] == LATER + timedelta(days=1)
    assert queue.job(delayed.id)["run_at"] == queue.job(delayed.id)["updated_at"] + timedelta(hours=1)
    assert queue.job(failed.id)["run_at"] == failed.run_at
