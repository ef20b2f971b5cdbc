"""A claim takes one job of a queue, and a queue whose head is held by somebody keeps nobody from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue

pytestmark = pytest.mark.every_postgres


def test_a_better_job_that_comes_during_a_claim_is_not_a_second_one_of_its_queue(queue: Queue, other: Queue) -> None:
    with queue.another() as third:
        # Only makes the moment between two statements of the claim last.
        body = queue.value("select pg_get_functiondef('{gw}._pgtasks_find_queues_by_task'::regproc)")
        queue.run(body.replace("\nbegin\n", "\nbegin\n  perform pg_advisory_xact_lock(1);\n"))
        for _ in range(300):  # more than a first look sees
            queue.add(queue_name="q")
        third.run("select pg_advisory_lock(1)")
        queue.run("begin")
        queue.add(queue_name="q", priority=-1)
        claiming = Background(lambda: other.claim(limit=40))
        wait_until_blocked(queue, other, by=third)
        queue.run("commit")
        third.run("select pg_advisory_unlock(1)")
        assert len(claiming.result()) == 1


def test_a_head_that_is_held_keeps_nobody_from_other_queues(queue: Queue, other: Queue) -> None:
    queue.add(queue_name="a", job_key="k")
    free = queue.add(queue_name="b")
    with other.conn.transaction():
        other.add(queue_name="a", job_key="k")
        assert [job["id"] for job in queue.claim(limit=1)] == [free]


@pytest.mark.one_postgres_each
@pytest.mark.parametrize(("limit", "held"), [(1, 60), (1, 600), (24, 24), (24, 90), (24, 110)])
def test_many_held_heads_keep_nobody_from_other_queues(queue: Queue, other: Queue, limit: int, held: int) -> None:
    for number in range(held):
        queue.add(queue_name=f"held {number}", job_key=f"key {number}")
    for number in range(100):
        queue.add(queue_name=f"free {number}")
    with other.conn.transaction():
        for number in range(held):
            other.add(queue_name=f"held {number}", job_key=f"key {number}")
        claimed = queue.claim(limit=limit)
    assert claimed
    assert len({job["queue_name"] for job in claimed}) == len(claimed) <= limit
    assert all(job["queue_name"].startswith("free") for job in claimed)


def test_two_ends_in_one_queue_bring_its_next_job_once(queue: Queue) -> None:
    for _ in range(4):
        queue.add(queue_name="q")
    [first] = queue.claim()
    queue.run("update {gw}._private_job_queues set locked_at = null, locked_by = null")
    [second] = queue.claim()
    _, taken = queue.advance(first, second)
    assert len(taken) == len({job["id"] for job in taken})


@pytest.mark.one_postgres_each
@pytest.mark.parametrize(("limit", "held"), [(10, 150), (1, 2_000), (1, 10_500)])
def test_jobs_that_are_held_keep_nobody_from_those_behind_them(
    queue: Queue, other: Queue, limit: int, held: int
) -> None:
    add = "select {gw}.add_job('send', job_key => 'key ' || number) from generate_series(1, %s) as number"
    queue.run(add, held)
    free = [queue.add() for _ in range(limit)]
    with other.conn.transaction():
        other.run(add, held)
        assert [job["id"] for job in queue.claim(limit=limit)] == free


def test_a_large_claim_that_has_not_ended_keeps_nobody_from_the_jobs_behind_it(queue: Queue, other: Queue) -> None:
    queue.add_unkeyed(*({} for _ in range(3000)))
    with other.conn.transaction():
        assert len(other.claim(limit=1000, worker="large")) == 1000
        assert len(queue.claim(limit=10)) == 10
