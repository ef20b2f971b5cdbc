"""The statement that ends a job of a named queue and takes the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres


def begin(queue: Queue, *names: str, **options: Any) -> list[Row]:
    """Add a job to each of the queues and claim them."""
    for name in names:
        queue.add(queue_name=name, **options)
    return queue.claim()


@pytest.mark.every_schema
def test_the_next_job_is_taken_with_its_queue(queue: Queue) -> None:
    [job] = begin(queue, "q")
    later = queue.add(queue_name="q", priority=5)
    first = queue.add(queue_name="q", priority=-5, payload='{"n": 1}', job_key="a", flags=["slow"])
    ended, [taken] = queue.advance(job)
    assert ended == [job["id"]]
    assert not queue.exists(job["id"])
    stored = queue.job(first)
    assert taken == {**{name: stored[name] for name in taken if name in stored}, "task": "send", "queue_name": "q"}
    assert (stored["attempts"], stored["locked_by"]) == (1, "worker")
    assert stored["locked_at"] == stored["updated_at"] > job["locked_at"]
    locked = queue.queue("q")
    assert (locked["locked_at"], locked["locked_by"]) == (stored["locked_at"], "worker")
    assert queue.job(later)["locked_at"] is None
    assert queue.claim() == []


def test_each_queue_gives_one_job(queue: Queue) -> None:
    jobs = begin(queue, "q", "r", "s")
    following = [queue.add(queue_name=name) for name in ("q", "r", "r", "q")]
    ended, taken = queue.advance(*jobs)
    assert ended == [job["id"] for job in jobs]
    assert [job["id"] for job in taken] == following[:2]
    assert queue.queue("s")["locked_at"] is None


@pytest.mark.parametrize(
    "options",
    [
        {"identifier": "other"},
        {"flags": ["slow"]},
        {"run_at": "2100-01-01Z"},
        {"max_attempts": 1},
        {"queue_name": "r"},
        {"queue_name": None},
    ],
    ids=str,
)
def test_a_queue_whose_next_job_cannot_be_taken_is_unlocked(queue: Queue, options: dict[str, Any]) -> None:
    [job] = begin(queue, "q")
    following = queue.add_job(**{"identifier": "send", "queue_name": "q", **options})
    assert queue.advance(job, forbidden=["slow"]) == ([job["id"]], [])
    assert queue.job(following["id"]) == following
    assert (queue.queue("q")["locked_at"], queue.queue("q")["locked_by"]) == (None, None)


def test_a_claim_that_is_lost_ends_nothing_and_takes_nothing(queue: Queue) -> None:
    [job] = begin(queue, "q")
    queue.add(queue_name="q")
    queue.run("select {gw}.force_unlock_workers(array['worker'])")
    [again] = queue.claim(worker="another")
    for worker in ("worker", "another"):
        assert queue.advance(job, worker=worker) == ([], [])
    assert queue.job(job["id"])["locked_by"] == "another"
    assert queue.queue("q")["locked_at"] == again["locked_at"]


def test_a_queue_that_somebody_else_has_locked_stays_so(queue: Queue) -> None:
    """As after a force_unlock_workers that ran in the middle of a claim of the reference's."""
    [job] = begin(queue, "q")
    queue.add(queue_name="q")
    queue.run("update {gw}._private_job_queues set locked_by = 'another'")
    assert queue.advance(job) == ([job["id"]], [])
    assert queue.queue("q")["locked_by"] == "another"


def test_a_retired_worker_is_refused_and_nothing_is_done(queue: Queue) -> None:
    [job] = begin(queue, "q")
    following = queue.add(queue_name="q")
    queue.run("select * from {gw}._pgtasks_release_worker('worker', array[%s]::bigint[], true)", job["id"])
    with pytest.raises(psycopg.DatabaseError, match="has been retired") as refused:
        queue.advance(job)
    assert refused.value.sqlstate == "GWEVI"
    assert queue.exists(job["id"])
    assert queue.job(following)["locked_at"] is None


def test_a_next_job_that_somebody_holds_is_not_waited_for(queue: Queue, other: Queue) -> None:
    [job] = begin(queue, "q")
    following = queue.add(queue_name="q", job_key="a")
    with other.conn.transaction():
        other.add(queue_name="q", job_key="a")
        assert queue.advance(job) == ([job["id"]], [])
    assert queue.queue("q")["locked_at"] is None
    assert [taken["id"] for taken in queue.claim()] == [following]


def test_an_ended_job_that_somebody_holds_is_not_waited_for(queue: Queue, other: Queue) -> None:
    [job] = begin(queue, "q", job_key="a")
    queue.add(queue_name="q")
    with other.conn.transaction():
        other.add(queue_name="q", job_key="a")
        assert queue.advance(job) == ([], [])
    assert queue.queue("q")["locked_at"] == job["locked_at"]


def test_the_next_job_is_looked_for_after_the_queue_is_sure(queue: Queue, other: Queue) -> None:
    """An add of a job of better priority that commits while the lock of the queue is waited for is seen."""
    [job] = begin(queue, "q")
    queue.add(queue_name="q")
    with other.conn.transaction():
        other.run("lock table {gw}._private_job_queues in exclusive mode")
        first = other.add(queue_name="q", priority=-1)
        advancing = Background(lambda: queue.advance(job))
        wait_until_blocked(other, queue)
    ended, [taken] = advancing.result()
    assert ended == [job["id"]]
    assert taken["id"] == first
