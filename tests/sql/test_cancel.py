"""Cancelling jobs in SQL: what becomes of them in each state, and whoever ends the claim of one that is held."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres


def cancel(queue: Queue, *ids: int, reason: str | None = None) -> dict[int, str]:
    rows = queue.rows(
        "select state, (job).id from {gw}._pgtasks_cancel_jobs(%s::bigint[], %s::text)", list(ids), reason
    )
    return {row["id"]: row["state"] for row in rows}


def cancellations(queue: Queue) -> list[int]:
    return queue.values("select job_id from {gw}._pgtasks_cancellations order by job_id")


def pending(queue: Queue, *workers: str) -> dict[int, str]:
    rows = queue.rows("select * from {gw}._pgtasks_find_cancellations(%s)", list(workers))
    return {row["job_id"]: row["worker_id"] for row in rows}


def register(queue: Queue, worker: str = "worker") -> None:
    queue.run("select {gw}._pgtasks_register_worker(%s, 'host', 'host', 1, '1')", worker)


def claim_one(queue: Queue, **options: Any) -> Row:
    queue.add(**{"max_attempts": 3, **options})
    [claimed] = queue.claim()
    return claimed


def results(queue: Queue) -> dict[int, tuple[str, str | None]]:
    """How jobs have ended, for those who wait for them."""
    rows = queue.rows("select job_id, state, error from {gw}._pgtasks_results")
    return {row["job_id"]: (row["state"], row["error"]) for row in rows}


def see_deletes(queue: Queue) -> None:
    """Note what triggers are told of each statement that deletes jobs, in the table `seen`."""
    queue.run("""
        create table seen (told text);
        create function see() returns trigger language plpgsql as $$
        begin
          insert into seen select nullif(current_setting('pgtasks.cancelled', true), '') from gone;
          return null;
        end $$;
        create trigger see after delete on {gw}._private_jobs
          referencing old table as gone for each statement execute function see();
    """)


@pytest.mark.every_schema
def test_what_waits_is_deleted_and_what_is_held_never_runs_again(queue: Queue) -> None:
    see_deletes(queue)
    register(queue)
    held = claim_one(queue, job_key="k", queue_name="q")
    foreign = queue.add()
    queue.lock(foreign, "graphile-1")
    forgotten = queue.add()
    queue.lock(forgotten, "graphile-2", "4 hours 1 minute")
    waiting, failed = queue.add(), queue.add(max_attempts=1)
    queue.set(failed, attempts=1)
    kept = queue.add()
    named = (held["id"], foreign, forgotten, waiting, failed, 99)
    expected = {
        held["id"]: "stopping",
        foreign: "running",
        forgotten: "removed",
        waiting: "removed",
        failed: "removed",
    }
    assert cancel(queue, *named, reason='it\'s "off"') == expected
    assert queue.job_ids() == [held["id"], foreign, kept]
    told = json.loads(queue.values("select told from seen")[0])
    assert told == dict.fromkeys(map(str, (forgotten, waiting, failed)), 'it\'s "off"')
    assert queue.value("select current_setting('pgtasks.cancelled', true)") == ""
    row = queue.job(held["id"])
    assert (row["key"], row["attempts"], row["locked_by"]) == (None, 3, "worker")
    assert row["updated_at"] > row["locked_at"]
    assert pending(queue, "worker", "graphile-2") == {held["id"]: "worker"}
    # Once more changes nothing, and does not take the reason away.
    assert cancel(queue, held["id"]) == {held["id"]: "stopping"}
    assert queue.values("select reason from {gw}._pgtasks_cancellations") == ['it\'s "off"'] * 2
    # Who adds a job with the key has another one.
    assert queue.add(job_key="k") > kept


@pytest.mark.parametrize("outcome", ["retry", "fail", "snooze", "return", "cancel", "success"])
def test_a_held_job_that_was_cancelled_is_deleted_however_its_claim_ends(queue: Queue, outcome: str) -> None:
    see_deletes(queue)
    register(queue)
    jobs = [claim_one(queue, queue_name="q"), claim_one(queue), claim_one(queue)]
    cancel(queue, *(job["id"] for job in jobs[:2]), reason="no more")
    ends = [{**job, "outcome": outcome, "last_error": "broken", "had_key": False} for job in jobs[:2]]
    states = queue.finish(*ends, {**jobs[2], "outcome": "retry"}, wait_for_locks=outcome == "fail")
    assert states == {jobs[0]["id"]: "deleted", jobs[1]["id"]: "deleted", jobs[2]["id"]: "retrying"}
    assert queue.job_ids() == [jobs[2]["id"]]
    assert queue.queue("q")["locked_at"] is None
    if outcome != "success":
        told = queue.values("select told from seen")
        assert [json.loads(text) for text in told] == [{str(job["id"]): "no more" for job in jobs[:2]}] * 2
        assert cancellations(queue) == []
    # What a worker ends as cancelled it keeps itself.
    kept = {} if outcome in ("success", "cancel") else {job["id"]: ("cancelled", "no more") for job in jobs[:2]}
    assert results(queue) == kept


def test_what_a_dead_worker_held_is_deleted_and_not_given_back(queue: Queue) -> None:
    register(queue)
    gone, interrupted, kept = claim_one(queue), claim_one(queue), claim_one(queue)
    cancel(queue, gone["id"])
    states = queue.rows("select * from {gw}._pgtasks_release_worker('worker', %s)", [interrupted["id"]])
    assert {row["id"]: row["state"] for row in states} == {gone["id"]: "deleted", kept["id"]: "returned"}
    cancel(queue, interrupted["id"])
    queue.rows("select * from {gw}._pgtasks_release_worker('worker', retire => true, max_interruptions => 0)")
    assert queue.job_ids() == [kept["id"]]
    assert cancellations(queue) == []
    assert results(queue) == {job["id"]: ("cancelled", None) for job in (gone, interrupted)}


def test_only_the_claim_that_was_cancelled_is_concerned(queue: Queue) -> None:
    register(queue)
    job = claim_one(queue)
    cancel(queue, job["id"])
    # Somebody takes the lock off, and lets it run again.
    queue.run("select {gw}.force_unlock_workers('{worker}')")
    queue.rows("select * from {gw}.reschedule_jobs(%s, attempts := 0)", [job["id"]])
    [again] = queue.claim()
    assert pending(queue, "worker") == {}
    assert queue.finish({**again, "outcome": "return"}) == {job["id"]: "returned"}
    assert cancellations(queue) == [job["id"]]
    assert queue.value("select {gw}._pgtasks_sweep_cancellations()") == 0
    assert cancellations(queue) == []
    assert queue.exists(job["id"])


def test_the_sweep_deletes_what_nobody_holds_any_more_and_keeps_what_is_held(queue: Queue, other: Queue) -> None:
    see_deletes(queue)
    register(queue)
    held, succeeded = claim_one(queue), claim_one(queue)
    failed, locked = queue.add(max_attempts=2), queue.add()
    for job_id in (failed, locked):
        queue.lock(job_id, "graphile-1")
    cancel(queue, held["id"], succeeded["id"], failed, locked, reason="no more")
    assert queue.finish_successes(succeeded) == []
    for job_id in (failed, locked):  # as a Graphile Worker fails a job
        queue.set(job_id, locked_at=None, locked_by=None, last_error="broken")
    with other.conn.transaction():
        other.rows("select from {gw}._private_jobs where id = %s for update", locked)
        assert queue.value("select {gw}._pgtasks_sweep_cancellations()") == 1
        assert cancellations(queue) == [held["id"], locked]
    assert json.loads(queue.values("select told from seen")[-1]) == {str(failed): "no more"}
    assert queue.value("select {gw}._pgtasks_sweep_cancellations()") == 1
    assert queue.job_ids() == cancellations(queue) == [held["id"]]
    assert results(queue) == {failed: ("cancelled", "no more"), locked: ("cancelled", "no more")}


def test_what_a_graphile_worker_gives_back_does_not_run_again(queue: Queue) -> None:
    job_id = queue.add(job_key="k")
    queue.lock(job_id, "graphile-1")
    assert cancel(queue, job_id) == {job_id: "running"}
    queue.run(  # as it does that
        "update {gw}._private_jobs set attempts = greatest(0, attempts - 1), locked_by = null, locked_at = null"
    )
    assert queue.claim() == []
    assert queue.value("select {gw}._pgtasks_sweep_cancellations()") == 1


@pytest.mark.parametrize("first", ["claim", "finish"])
def test_who_cancels_waits_for_a_claim_or_an_end_that_is_under_way(queue: Queue, other: Queue, first: str) -> None:
    register(queue)
    job_id = queue.add() if first == "claim" else claim_one(queue)["id"]
    with queue.conn.transaction():
        if first == "claim":
            queue.claim()
        else:
            assert queue.finish_successes(queue.job(job_id)) == []
        cancelling = Background(lambda: cancel(other, job_id))
        with queue.another() as observer:
            wait_until_blocked(observer, other, by=queue)
    if first == "claim":
        assert cancelling.result() == {job_id: "stopping"}
        assert pending(queue, "worker") == {job_id: "worker"}
    else:
        assert cancelling.result() == {}
        assert cancellations(queue) == []


def test_an_end_waits_for_who_is_cancelling(queue: Queue, other: Queue) -> None:
    register(queue)
    job = claim_one(queue)
    with other.conn.transaction():
        cancel(other, job["id"])
        assert queue.finish({**job, "outcome": "return"}, wait_for_locks=False) == {job["id"]: "busy"}
        ending = Background(lambda: queue.finish({**job, "outcome": "return"}))
        with other.another() as observer:
            wait_until_blocked(observer, queue, by=other)
    assert ending.result() == {job["id"]: "deleted"}
    assert cancellations(queue) == []


def test_a_worker_is_named_to_all_that_listen(queue: Queue) -> None:
    for worker in ("w1", "w2"):
        register(queue, worker)
    ids = [queue.add() for _ in range(4)]
    for job_id, worker in zip(ids, ("w1", "w2", "w1", "graphile-1"), strict=True):
        queue.lock(job_id, worker)
    with psycopg.connect(queue.conn.info.dsn, autocommit=True) as listening:
        listening.execute('listen "pgtasks:cancel"')
        cancel(queue, *ids)
        heard = [note.payload for note in listening.notifies(timeout=30, stop_after=2)]
    assert sorted(heard) == ["w1", "w2"]
