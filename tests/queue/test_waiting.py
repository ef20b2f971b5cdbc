"""Waiting for jobs to end, from blocking and from asyncio code."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import App, Job, JobCancelledError, JobFailedError, JobOptionError, JobSpec, JobWaitTimeoutError, Registry
from pgtasks.queue import hub
from tests.sql.queue import Background
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.pgbouncer import PgBouncer
    from tests.queue.conftest import Admin
    from tests.sql.queue import Queue


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, pool_max_size=2)
    yield app
    app.close()


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks a second time unless he is told to."""
    monkeypatch.setattr(hub, "FIRST_PAUSE", 3600.0)


def wait_for_waits(queue: Queue, count: int) -> None:
    wait_until(lambda: queue.value("select count(*) from {gw}._pgtasks_waits") == count)


def finish_all(queue: Queue) -> None:
    assert queue.finish_successes(*queue.claim(limit=1000)) == []


def test_threads_that_wait_are_told_by_whoever_ends_the_jobs(app: App, queue: Queue, only_told: None) -> None:
    jobs = [app.add_job("send") for _ in range(4)]
    waits = [Background(job.wait) for job in (*jobs, jobs[0])]
    wait_for_waits(queue, 4)
    finish_all(queue)
    assert [wait.result() for wait in waits] == [None] * 5
    wait_for_waits(queue, 0)
    sessions = "select count(*) from pg_stat_activity where application_name = 'pgtasks' and query like '%%_waits%%'"
    assert queue.value(sessions) == 1
    app.close()
    assert "pgtasks-waits" not in {thread.name for thread in threading.enumerate()}


def test_hundreds_of_waits_in_a_loop_need_no_connection_each(app: App, queue: Queue, only_told: None) -> None:
    async def wait_for_all() -> list[None]:
        jobs = await app.add_jobs_async(JobSpec(task="send") for _ in range(200))
        waits = [asyncio.create_task(job.wait_async()) for job in jobs]
        await asyncio.to_thread(wait_for_waits, queue, 200)
        other = await app.add_job_async("other")  # as somebody can who needs a connection of the pool
        with pytest.raises(JobWaitTimeoutError):
            await other.wait_async(0)
        waits.pop().cancel()
        await asyncio.to_thread(finish_all, queue)
        ended = await asyncio.gather(*waits)
        await app.aclose()
        return ended

    assert asyncio.run(wait_for_all()) == [None] * 199
    wait_for_waits(queue, 0)


def test_what_was_ended_by_hand_or_by_others_is_found_by_looking(app: App, queue: Queue) -> None:
    jobs = [app.add_job("send") for _ in range(3)]
    waits = [Background(job.wait) for job in jobs]
    wait_for_waits(queue, 3)
    app.jobs.complete([jobs[0].id])
    queue.run("delete from {gw}._private_jobs where id = %s", jobs[1].id)  # as a Graphile Worker does
    app.jobs.fail([jobs[2].id], "no good")
    assert [wait.result() for wait in waits[:2]] == [None, None]
    with pytest.raises(JobFailedError, match=rf"^job {jobs[2].id} has failed for good: no good$") as failure:
        waits[2].result()
    assert (failure.value.job_id, failure.value.last_error) == (jobs[2].id, "no good")


def test_who_waits_for_a_job_that_is_cancelled_is_told_why(app: App, queue: Queue, only_told: None) -> None:
    job = app.add_job("send")
    wait = Background(job.wait)
    wait_for_waits(queue, 1)
    app.jobs.cancel([job.id], "not needed")
    with pytest.raises(JobCancelledError, match=rf"^job {job.id} was cancelled: not needed$"):
        wait.result()


def test_jobs_that_were_found_can_be_waited_for_and_so_can_ids(app: App, admin: Admin, queue: Queue) -> None:
    job_id = queue.add("send", max_attempts=1)
    for wait in (app.jobs.get(job_id), *app.jobs.list().jobs):
        assert isinstance(wait, Job)
        with pytest.raises(JobWaitTimeoutError, match=f"job {job_id} has not ended within 0 s"):
            wait.wait(0)
    with pytest.raises(TimeoutError):
        admin.wait(job_id, timeout=0.01)
    finish_all(queue)
    assert admin.wait(job_id) is None
    assert admin.wait(job_id + 1) is None


def test_who_waits_within_the_transaction_that_adds_the_job_is_told_so(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_OPEN", 0.0)
    with app.connection() as connection, connection.transaction():
        [job] = app.add_jobs([JobSpec(task="send")], connection=connection)
        with pytest.raises(JobOptionError, match="the transaction that adds it is still open"):
            job.wait()
    with pytest.raises(JobWaitTimeoutError):
        job.wait(0)


def test_a_wait_goes_on_after_its_connection_was_lost(app: App, queue: Queue, only_told: None) -> None:
    wait = Background(app.add_job("send").wait)
    wait_for_waits(queue, 1)
    queue.run("truncate {gw}._pgtasks_waits")  # as a crash of the server does
    terminate = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where application_name = 'pgtasks' and query like '%%_pgtasks_ended_jobs%%' and state = 'idle'"
    )
    wait_until(lambda: queue.value(terminate) == 1)
    wait_for_waits(queue, 1)
    finish_all(queue)
    assert wait.result() is None


def test_behind_a_pooler_ends_are_found_by_looking(
    start_pgbouncer: Callable[..., PgBouncer], database: str, queue: Queue
) -> None:
    app = App(registry=Registry(), database_url=start_pgbouncer("transaction").conninfo)
    try:
        job = app.add_job("send")
        wait = Background(job.wait)
        wait_until(lambda: threading.active_count() > 1)
        finish_all(queue)
        assert wait.result() is None
        assert queue.value("select count(*) from {gw}._pgtasks_waits") == 0
    finally:
        app.close()


def test_a_wait_that_cannot_be_is_refused(app: App, database: str) -> None:
    job = app.add_job("send")
    for copied in (copy.copy(job), pickle.loads(pickle.dumps(job))):
        assert copied == job
        with pytest.raises(JobOptionError, match=rf"use App\.jobs\.wait\({job.id}\)$"):
            copied.wait()
    bad: list[Any] = [-1, "5", True, float("nan")]
    for timeout in bad:
        with pytest.raises(JobOptionError, match=r"^timeout="):
            job.wait(timeout)
    with pytest.raises(JobOptionError, match=r"^job_id='5' must be a whole number"):
        app.jobs.wait("5")  # type: ignore[arg-type]
    with pytest.raises(JobOptionError, match=r"^job_id=9223372036854775808 is out of range"):
        app.jobs.wait(2**63)


def test_a_role_that_cannot_see_the_queue_is_told_so(app: App, queue: Queue, database: str) -> None:
    job_id = queue.add()
    queue.run("create role blind login")
    try:
        queue.run("grant usage on schema {gw} to blind; grant all on all tables in schema {gw} to blind")
        conninfo = psycopg.conninfo.make_conninfo(database, user="blind")
        blind = App(registry=Registry(), database_url=conninfo)
        with pytest.raises(Exception, match="row level security hides the queue"):
            blind.jobs.wait(job_id)
        blind.close()
    finally:
        queue.run("drop owned by blind; drop role blind")
