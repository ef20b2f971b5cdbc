from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres


def release(queue: Queue, worker: str = "worker", keep: Sequence[int] = ()) -> list[int]:
    return queue.values("select * from {gw}._pgtasks_release_worker(%s::text, %s::bigint[])", worker, list(keep))


def sweep(queue: Queue) -> Row:
    return queue.row("select * from {gw}._pgtasks_sweep_stale_locks()")


def counts(jobs: int = 0, queues: int = 0, restored: int = 0) -> Row:
    return {"unlocked_jobs": jobs, "unlocked_queues": queues, "restored_queues": restored}


# Giving back what a worker holds


@pytest.mark.every_schema
def test_what_a_worker_holds_is_given_back_as_it_was(queue: Queue) -> None:
    queued, plain = queue.add_job(queue_name="q"), queue.add_job(job_key="a")
    others = queue.add(queue_name="others", run_at="2100-01-01Z")
    queue.lock(others, worker="another")
    queue.claim()
    assert not queue.has_runnable()
    assert sorted(release(queue)) == [queued["id"], plain["id"]]
    for before in (queued, plain):
        after = queue.job(before["id"])
        assert after == {**before, "updated_at": after["updated_at"]}
    assert queue.queue("q")["locked_at"] is None
    assert (queue.job(others)["locked_by"], queue.queue("others")["locked_by"]) == ("another", "another")
    assert queue.has_runnable()
    assert len(queue.claim()) == 2


def test_jobs_that_are_kept_stay_locked_with_their_queues(queue: Queue) -> None:
    kept, released = queue.add(queue_name="kept"), queue.add(queue_name="released")
    queue.claim()
    assert release(queue, keep=[kept, 10**12]) == [released]
    assert (queue.job(kept)["locked_by"], queue.queue("kept")["locked_by"]) == ("worker", "worker")
    assert queue.queue("released")["locked_by"] is None


def test_a_queue_whose_job_is_gone_is_unlocked(queue: Queue) -> None:
    queue.add(queue_name="q")
    [job] = queue.claim()
    next_job = queue.add(queue_name="q")
    queue.run("delete from {gw}._private_jobs where id = %s", job["id"])
    assert not queue.has_runnable()
    assert release(queue) == []
    assert queue.has_runnable()
    assert [job["id"] for job in queue.claim()] == [next_job]


def test_a_superseded_job_is_not_brought_back_to_life(queue: Queue) -> None:
    old = queue.add(job_key="a")
    queue.claim()
    new = queue.add(job_key="a")
    assert release(queue) == [old]
    assert (queue.job(old)["locked_at"], queue.job(old)["is_available"]) == (None, False)
    assert [job["id"] for job in queue.claim()] == [new]


def test_what_is_given_back_is_notified_of(queue: Queue) -> None:
    queue.add_jobs({}, {})
    queue.claim()
    queue.listen()
    release(queue)
    assert queue.counts_heard() == [2]
    release(queue)
    assert queue.counts_heard() == []


# Locks of more than four hours


@pytest.mark.every_schema
def test_only_locks_of_more_than_four_hours_are_cleared(queue: Queue) -> None:
    stale, fresh = queue.add(queue_name="stale"), queue.add(queue_name="fresh")
    queue.lock(stale, age="4 hours 1 minute")
    queue.lock(fresh, age="3 hours 59 minutes")
    before = (queue.job(fresh), queue.queue("fresh"))
    assert not queue.has_runnable()
    assert sweep(queue) == counts(jobs=1, queues=1)
    assert (queue.job(stale)["locked_by"], queue.queue("stale")["locked_by"]) == (None, None)
    assert (queue.job(fresh), queue.queue("fresh")) == before
    assert queue.has_runnable()
    assert [job["id"] for job in queue.claim()] == [stale]
    assert sweep(queue) == counts()


def test_a_swept_job_runs_not_earlier_than_now_and_keeps_its_attempts(queue: Queue) -> None:
    past, future = queue.add(run_at="2020-01-01Z"), queue.add(run_at="2100-01-01Z")
    for job_id in (past, future):
        queue.lock(job_id, age="5 hours")
    before = queue.job(future)
    sweep(queue)
    assert queue.job(past)["run_at"] == queue.job(past)["updated_at"]
    assert (queue.job(past)["attempts"], queue.job(future)["run_at"]) == (1, before["run_at"])


def test_swept_jobs_are_notified_of(queue: Queue) -> None:
    for _ in range(2):
        queue.lock(queue.add(), age="5 hours")
    queue.listen()
    sweep(queue)
    assert queue.counts_heard() == [2]
    sweep(queue)
    assert queue.counts_heard() == []


def test_rows_that_somebody_has_locked_are_left_for_the_next_sweep(queue: Queue, other: Queue) -> None:
    queue.lock(queue.add(queue_name="q"), age="5 hours")
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs for update")
        other.run("select from {gw}._private_job_queues for update")
        assert sweep(queue) == counts()
    assert sweep(queue) == counts(jobs=1, queues=1)


def test_a_queue_whose_row_is_missing_and_whose_name_is_not_known_is_put_back(queue: Queue) -> None:
    """As it is long after a cleanup that did not see a job that was just being added."""
    first = queue.add_job(queue_name="q")
    queue.add(queue_name="q")
    queue.run("delete from {gw}._private_job_queues")
    assert sweep(queue) == counts()
    queue.run("delete from {gw}._pgtasks_forgotten_names")
    assert not queue.has_runnable()
    assert queue.claim() == []
    assert sweep(queue) == counts(restored=1)
    assert queue.has_runnable()
    [claimed] = queue.claim()
    assert (claimed["id"], claimed["queue_name"]) == (first["id"], f"lost queue {first['job_queue_id']}")
    assert queue.claim() == []
    assert sweep(queue) == counts()
