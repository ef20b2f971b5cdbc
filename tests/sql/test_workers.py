"""Workers make themselves known, say that they are alive, and lose what they hold to others when they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres


def register(queue: Queue, *workers: str, age: int = 0) -> None:
    for worker in workers:
        queue.run("select {gw}._pgtasks_register_worker(%s, 'host', 'example', 7, '1.0')", worker)
        queue.run(
            "update {gw}._pgtasks_workers set heartbeat_at = now() - make_interval(secs => %s) where id = %s",
            age,
            worker,
        )


def beat(queue: Queue, *workers: str, running: int = 0, succeeded: int = 0, failed: int = 0) -> Row:
    """Send a heartbeat; returns what it tells, without the silence."""
    told = _beat(queue, *workers, running=running, succeeded=succeeded, failed=failed)
    return {name: value for name, value in told.items() if name != "silence"}


def _beat(queue: Queue, *workers: str, running: int = 0, succeeded: int = 0, failed: int = 0) -> Row:
    counts = [[count] * len(workers) for count in (7, running, succeeded, failed)]
    return queue.row(
        "select * from {gw}._pgtasks_heartbeat('host', 'example', '1.0', %s::text[], %s::integer[], %s::integer[], "
        "%s::bigint[], %s::bigint[], 30)",
        list(workers),
        *counts,
    )


def recover(queue: Queue, worker: str = "dead", limit: int = 2) -> list[tuple[int | None, str]]:
    rows = queue.rows(
        "select * from {gw}._pgtasks_release_worker("
        "%s::text, retire => true, max_interruptions => %s::integer, stale_after => 30)",
        worker,
        limit,
    )
    return [(row["id"], row["state"]) for row in rows]


def interruptions(queue: Queue) -> dict[int, int]:
    return {row["job_id"]: row["interruptions"] for row in queue.rows("select * from {gw}._pgtasks_interruptions")}


def test_a_heartbeat_updates_its_workers_and_finds_those_that_are_dead(queue: Queue) -> None:
    register(queue, "one", "two", "other", age=31)
    register(queue, "fresh", age=20)

    assert beat(queue, "one", "two", running=3, succeeded=5, failed=1) == {"evicted_ids": [], "dead_ids": ["other"]}

    rows = queue.rows("select * from {gw}._pgtasks_workers where heartbeat_at = now() - interval '0' or running = 3")
    assert {(row["id"], row["running"], row["succeeded"], row["failed"]) for row in rows} == {
        ("one", 3, 5, 1),
        ("two", 3, 5, 1),
    }


def test_a_heartbeat_tells_how_long_it_was_silent_by_the_databases_clock(queue: Queue) -> None:
    assert _beat(queue, "new")["silence"] is None
    register(queue, "one", "two", age=20)
    assert 20 <= _beat(queue, "one", "two")["silence"] < 30
    assert 0 <= _beat(queue, "one", "two")["silence"] < 15


def test_a_worker_whose_row_is_gone_gets_it_back_with_the_next_heartbeat(queue: Queue) -> None:
    register(queue, "one")
    queue.run("delete from {gw}._pgtasks_workers")
    assert beat(queue, "one") == {"evicted_ids": [], "dead_ids": []}
    assert queue.row("select id, host_id, host_name, pid, version from {gw}._pgtasks_workers") == {
        "id": "one",
        "host_id": "host",
        "host_name": "example",
        "pid": 7,
        "version": "1.0",
    }


def test_registering_again_changes_nothing(queue: Queue) -> None:
    register(queue, "one", age=31)
    queue.run("select {gw}._pgtasks_register_worker('one', 'host', 'elsewhere', 8, '2.0')")
    assert queue.row("select host_name, pid, version from {gw}._pgtasks_workers") == {
        "host_name": "example",
        "pid": 7,
        "version": "1.0",
    }


def test_what_a_dead_worker_holds_goes_back_uncharged_and_counts_as_an_interruption(queue: Queue) -> None:
    register(queue, "dead", age=31)
    job_id = queue.add(queue_name="q")
    queue.claim(worker="dead")
    queue.listen()

    assert recover(queue) == [(job_id, "returned")]

    job = queue.job(job_id)
    assert (job["attempts"], job["locked_by"], queue.queue("q")["locked_by"]) == (0, None, None)
    assert interruptions(queue) == {job_id: 1}
    assert queue.counts_heard() == [1]
    assert queue.value("select released_at is not null from {gw}._pgtasks_workers where id = 'dead'")
    assert beat(queue, "alive")["dead_ids"] == []


def test_a_job_that_was_interrupted_too_often_has_failed_and_a_retry_begins_anew(queue: Queue) -> None:
    job_id = queue.add(max_attempts=1)
    for number, state in enumerate(["returned", "returned", "failed"]):
        register(queue, f"dead {number}", age=31)
        assert [job["id"] for job in queue.claim(worker=f"dead {number}")] == [job_id]
        assert recover(queue, f"dead {number}") == [(job_id, state)]

    job = queue.job(job_id)
    assert (job["attempts"], job["max_attempts"], job["locked_by"]) == (1, 1, None)
    assert job["last_error"].startswith("WorkerLost: ")
    assert "3 times" in job["last_error"]
    assert interruptions(queue) == {}


def test_interruptions_are_counted_anew_after_an_attempt_that_has_ended_or_for_a_job_that_is_another(
    queue: Queue,
) -> None:
    job_id = queue.add(job_key="k")

    def interrupt(number: int) -> dict[int, int]:
        register(queue, f"dead {number}", age=31)
        assert queue.claim(worker=f"dead {number}")
        recover(queue, f"dead {number}", limit=9)
        return interruptions(queue)

    assert [interrupt(1), interrupt(2)] == [{job_id: 1}, {job_id: 2}]
    [claim] = queue.claim()
    queue.finish({**claim, "outcome": "retry", "delay": 0.0})
    assert [interrupt(3), interrupt(4)] == [{job_id: 1}, {job_id: 2}]
    queue.add(job_key="k")
    assert interrupt(5) == {job_id: 1}


def test_whoever_is_still_at_giving_back_what_a_worker_holds_is_not_disturbed(queue: Queue, other: Queue) -> None:
    register(queue, "dead")
    job_id = queue.add()
    queue.claim(worker="dead")
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", job_id)
        for _ in range(2):
            queue.run("update {gw}._pgtasks_workers set retired_at = now() - interval '31 s' where id = 'dead'")
            assert beat(queue, "alive")["dead_ids"] == ["dead"]
            assert queue.values("select state from {gw}._pgtasks_release_worker('dead', retire => true)") == ["busy"]
            assert beat(queue, "alive")["dead_ids"] == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_claim_with_an_old_snapshot_fails_if_its_worker_was_retired_since(
    queue: Queue, other: Queue, level: str
) -> None:
    register(queue, "dead")
    queue.add()
    other.run(f"begin isolation level {level}")
    other.run("select count(*) from {gw}._private_jobs")
    queue.run("select {gw}._pgtasks_release_worker('dead', retire => true)")
    with pytest.raises(psycopg.errors.SerializationFailure):
        other.claim(worker="dead")
    other.run("rollback")
    assert queue.values("select locked_by from {gw}._private_jobs") == [None]


def test_a_worker_whose_heartbeats_are_back_is_left_alone(queue: Queue) -> None:
    register(queue, "dead", age=31)
    job_id = queue.add()
    queue.claim(worker="dead")
    beat(queue, "dead")

    assert recover(queue) == []

    assert queue.job(job_id)["locked_by"] == "dead"
    assert beat(queue, "dead") == {"evicted_ids": [], "dead_ids": []}


def test_a_worker_that_nobody_has_registered_is_left_alone(queue: Queue) -> None:
    job_id = queue.add()
    queue.claim(worker="of the reference")
    assert recover(queue, "of the reference") == []
    assert queue.job(job_id)["locked_by"] == "of the reference"
    assert queue.values("select id from {gw}._pgtasks_workers") == []


def test_an_evicted_worker_is_told_so_and_can_claim_nothing_more(queue: Queue) -> None:
    register(queue, "dead", age=31)
    queue.add()
    recover(queue)

    assert beat(queue, "dead") == {"evicted_ids": ["dead"], "dead_ids": []}
    with pytest.raises(psycopg.DatabaseError) as refusal:
        queue.claim(worker="dead")
    assert refusal.value.sqlstate == "GWEVI"


def test_a_late_end_of_an_evicted_worker_changes_nothing(queue: Queue) -> None:
    register(queue, "dead", age=31)
    job_id = queue.add()
    [claim] = queue.claim(worker="dead")
    recover(queue)
    queue.claim(worker="alive")

    assert queue.finish({**claim, "outcome": "success"}, worker="dead") == {}
    assert queue.job(job_id)["locked_by"] == "alive"


def test_a_job_whose_row_is_locked_is_not_counted_until_it_can_be_given_back(queue: Queue, other: Queue) -> None:
    register(queue, "dead", age=31)
    first, second = queue.add(), queue.add()
    queue.claim(worker="dead")

    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", second)
        assert sorted(recover(queue)) == [(first, "returned"), (second, "busy")]
        assert recover(queue) == [(second, "busy")]
        assert interruptions(queue) == {first: 1}
        assert not queue.value("select released_at is not null from {gw}._pgtasks_workers where id = 'dead'")
    assert recover(queue) == [(second, "returned")]
    assert interruptions(queue) == {first: 1, second: 1}


def test_a_recovery_that_was_not_ended_is_taken_up_by_somebody_else(queue: Queue) -> None:
    register(queue, "dead")
    job_id = queue.add()
    queue.claim(worker="dead")
    queue.run("update {gw}._pgtasks_workers set retired_at = now() - interval '31 s'")  # by whoever died over it

    assert beat(queue, "alive")["dead_ids"] == ["dead"]
    assert recover(queue) == [(job_id, "returned")]
    assert beat(queue, "alive")["dead_ids"] == []


def test_two_hosts_that_recover_the_same_worker_do_so_once(queue: Queue, other: Queue) -> None:
    register(queue, "dead", age=31)
    job_id = queue.add()
    queue.claim(worker="dead")
    with queue.conn.transaction():
        assert recover(queue) == [(job_id, "returned")]
        other.run("set lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):  # it waits for the first
            recover(other)
    other.run("reset lock_timeout")
    assert recover(other) == []
    assert interruptions(queue) == {job_id: 1}


def test_a_superseded_job_of_a_dead_worker_stays_dead(queue: Queue) -> None:
    register(queue, "dead", age=31)
    old = queue.add(job_key="k")
    queue.claim(worker="dead")
    new = queue.add(job_key="k")
    assert recover(queue) == [(old, "superseded")]
    assert [job["id"] for job in queue.claim(worker="alive")] == [new]


def test_the_sweep_forgets_workers_that_ended_long_ago_and_interruptions_of_jobs_that_are_gone(queue: Queue) -> None:
    register(queue, "dead", "unfinished", "alive", age=31)
    gone, there = queue.add(), queue.add()
    queue.claim(worker="dead")
    recover(queue)
    queue.run("update {gw}._pgtasks_workers set retired_at = now() - interval '25 hours' where id <> 'alive'")
    queue.run("update {gw}._pgtasks_workers set released_at = retired_at where id = 'dead'")
    queue.run("delete from {gw}._private_jobs where id = %s", gone)

    queue.run("select {gw}._pgtasks_sweep_stale_locks()")

    assert sorted(queue.values("select id from {gw}._pgtasks_workers")) == ["alive", "unfinished"]
    assert interruptions(queue) == {there: 1}
