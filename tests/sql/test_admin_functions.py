from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]

LATER = datetime(2040, 1, 1, tzinfo=UTC)


class Jobs(NamedTuple):
    """A job in each state."""

    waiting: int
    locked: int
    stale: int
    failed: int
    not_named: int

    @property
    def named(self) -> list[int]:
        return [self.failed, self.stale, self.locked, self.waiting, 10**12]

    @property
    def idle(self) -> list[int]:
        return [self.waiting, self.stale, self.failed]


@pytest.fixture
def jobs(queue: Queue) -> Jobs:
    made = Jobs(*(queue.add(max_attempts=9, priority=1) for _ in Jobs._fields))
    queue.lock(made.locked, age="3 hours 59 minutes")
    queue.lock(made.stale, age="4 hours 1 minute")
    queue.set(made.failed, attempts=9, last_error="broke")
    return made


def by_id(rows: list[Row]) -> dict[int, Row]:
    return {row["id"]: row for row in rows}


# complete_jobs


def test_complete_jobs_deletes_and_returns_jobs_that_are_not_locked(queue: Queue, jobs: Jobs) -> None:
    before = by_id([queue.job(job_id) for job_id in jobs.idle])
    assert by_id(queue.rows("select * from {gw}.complete_jobs(job_ids := %s)", jobs.named)) == before
    assert queue.job_ids() == [jobs.locked, jobs.not_named]


# permanently_fail_jobs


def test_permanently_fail_jobs_fails_jobs_that_are_not_locked(queue: Queue, jobs: Jobs) -> None:
    untouched = [queue.job(jobs.locked), queue.job(jobs.not_named)]
    before = by_id([queue.job(job_id) for job_id in jobs.idle])
    failed = queue.rows("select * from {gw}.permanently_fail_jobs(job_ids := %s, error_message := 'no')", jobs.named)
    assert sorted(row["id"] for row in failed) == jobs.idle
    assert failed == [queue.job(row["id"]) for row in failed]
    for row in failed:
        assert (row["attempts"], row["last_error"], row["is_available"]) == (9, "no", False)
        assert row["updated_at"] > before[row["id"]]["updated_at"]
    assert [queue.job(jobs.locked), queue.job(jobs.not_named)] == untouched


@pytest.mark.parametrize("message", ["", ", null"])
def test_permanently_fail_jobs_has_a_default_message(queue: Queue, message: str) -> None:
    job_id = queue.add()
    [failed] = queue.rows(f"select * from {{gw}}.permanently_fail_jobs(array[%s::bigint]{message})", job_id)
    assert failed["last_error"] == "Manually marked as failed"


# reschedule_jobs


def test_reschedule_jobs_sets_what_is_given_on_jobs_that_are_not_locked(queue: Queue, jobs: Jobs) -> None:
    untouched = [queue.job(jobs.locked), queue.job(jobs.not_named)]
    before = by_id([queue.job(job_id) for job_id in jobs.idle])
    changed = queue.rows(
        "select * from {gw}.reschedule_jobs(job_ids := %s, run_at := %s, priority := 5, attempts := 2, "
        "max_attempts := 7)",
        jobs.named,
        LATER,
    )
    assert sorted(row["id"] for row in changed) == jobs.idle
    assert changed == [queue.job(row["id"]) for row in changed]
    for row in changed:
        assert (row["run_at"], row["priority"], row["attempts"], row["max_attempts"]) == (LATER, 5, 2, 7)
        assert row["updated_at"] > before[row["id"]]["updated_at"]
    assert [queue.job(jobs.locked), queue.job(jobs.not_named)] == untouched


@pytest.mark.parametrize("option", ["run_at", "priority", "attempts", "max_attempts"])
def test_reschedule_jobs_leaves_alone_what_is_null(queue: Queue, jobs: Jobs, option: str) -> None:
    before = queue.job(jobs.failed)
    value: object = LATER if option == "run_at" else 4
    [after] = queue.rows(f"select * from {{gw}}.reschedule_jobs(%s, {option} := %s)", [jobs.failed], value)
    expected = {**before, option: value, "updated_at": after["updated_at"], "is_available": option == "attempts"}
    assert after == expected


def test_reschedule_jobs_takes_smallints(queue: Queue) -> None:
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        queue.run("select {gw}.reschedule_jobs(array[%s::bigint], priority := 40000)", queue.add())


# force_unlock_workers


def test_force_unlock_workers_clears_the_locks_of_these_workers(queue: Queue) -> None:
    dead, also_dead, alive = (queue.add(queue_name=name) for name in ("dead", "also_dead", "alive"))
    for job_id, name in ((dead, "dead"), (also_dead, "also_dead"), (alive, "alive")):
        queue.lock(job_id, worker=name)
    before = queue.job(dead)
    assert queue.value("select {gw}.force_unlock_workers(worker_ids := array['dead', 'also_dead', 'no'])") == ""
    assert queue.values("select locked_by from {gw}._private_jobs order by id") == [None, None, "alive"]
    assert queue.values("select locked_by from {gw}._private_job_queues order by id") == [None, None, "alive"]
    after = queue.job(dead)
    assert after == {**before, "locked_at": None, "locked_by": None, "is_available": True}
    assert queue.queue("dead")["locked_at"] is None
