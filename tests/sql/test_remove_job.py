from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]


def remove(queue: Queue, key: str | None) -> Row:
    return queue.row("select * from {gw}.remove_job(job_key := %s)", key)


def test_a_waiting_job_is_deleted_and_returned(queue: Queue) -> None:
    job = queue.add_job(job_key="a", payload="[1]")
    queue.add(job_key="b")
    assert remove(queue, "a") == job
    assert queue.values("select key from {gw}.jobs") == ["b"]


def test_a_failed_job_is_deleted(queue: Queue) -> None:
    job_id = queue.add(job_key="a", max_attempts=1)
    queue.set(job_id, attempts=1)
    assert remove(queue, "a")["id"] == job_id
    assert queue.job_ids() == []


def test_a_locked_job_loses_its_key_and_will_not_run_again(queue: Queue) -> None:
    job_id = queue.add(job_key="a", max_attempts=5)
    queue.lock(job_id, age="3 hours 59 minutes")
    removed = remove(queue, "a")
    assert removed == queue.job(job_id)
    assert (removed["key"], removed["attempts"], removed["locked_by"]) == (None, 5, "somebody")


def test_a_lock_of_more_than_four_hours_does_not_count(queue: Queue) -> None:
    job_id = queue.add(job_key="a")
    queue.lock(job_id, age="4 hours 1 minute")
    assert remove(queue, "a")["id"] == job_id
    assert queue.job_ids() == []


@pytest.mark.parametrize("key", ["none", None])
def test_no_such_job_gives_a_row_of_nulls(queue: Queue, key: str | None) -> None:
    queue.add(job_key="a")
    assert set(remove(queue, key).values()) == {None}
    assert len(queue.job_ids()) == 1


def test_only_a_deletion_sends_a_notification(queue: Queue) -> None:
    queue.add(job_key="waiting")
    queue.lock(queue.add(job_key="locked"))
    queue.listen()
    remove(queue, "waiting")
    assert queue.counts_heard() == [-1]
    remove(queue, "locked")
    remove(queue, "none")
    assert queue.counts_heard() == []


def test_a_job_that_is_just_being_claimed_is_waited_for(queue: Queue, other: Queue) -> None:
    job_id = queue.add(job_key="a")
    with queue.conn.transaction():
        queue.claim()
        removing = Background(lambda: remove(other, "a"))
        wait_until_blocked(queue, other)
    removed = removing.result()
    assert (removed["id"], removed["key"], removed["attempts"]) == (job_id, None, 25)
