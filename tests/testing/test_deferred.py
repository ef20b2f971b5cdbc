"""Tests say what their code has to have added, and are told what it has added instead."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from pydantic import BaseModel

from pgtasks import task
from pgtasks.testing import (
    advance,
    advance_async,
    assert_deferred,
    assert_deferred_async,
    deferred_jobs,
    deferred_jobs_async,
)

if TYPE_CHECKING:
    from pgtasks import App


@task(name="d.mail", max_attempts=3)
def mail(payload: Any) -> None: ...


@task(name="d.index")
def index() -> None: ...


class Photo(BaseModel):
    data: bytes
    taken: dt.date = dt.date(2031, 2, 3)


@task(name="d.resize")
def resize(payload: Photo) -> None: ...


@dataclass
class Mail:
    to: str
    at: dt.date


DAY = dt.date(2031, 2, 3)


@pytest.fixture
def added(pgtasks_jobs: App) -> App:
    mail.defer(Mail("ada@example.com", DAY), job_key="welcome:1", queue="mail", flags=["smtp", "eu"], priority=3)
    mail.defer(Mail("bob@example.com", DAY), delay=60)
    index.defer()
    return pgtasks_jobs


def test_a_job_is_found_by_what_is_said_of_it(added: App) -> None:
    (job,) = assert_deferred(mail, Mail("ada@example.com", DAY), count=1)
    assert job.key == "welcome:1"
    assert_deferred("d.mail", {"to": "ada@example.com", "at": ANY}, job_key="welcome:1", queue="mail", priority=3)
    assert_deferred(mail, flags=["smtp", "eu"], max_attempts=3)
    (later,) = assert_deferred(mail, delay=60, queue=None, job_key=None)
    assert_deferred(mail, delay=dt.timedelta(minutes=1), run_at=later.run_at)
    assert_deferred(mail, count=2)
    assert_deferred(index, {}, count=1)
    assert_deferred(index, {"all": True}, count=0)
    assert [job.task for job in deferred_jobs()] == ["d.mail", "d.mail", "d.index"]
    assert [job.id for job in deferred_jobs(mail, queue=None)] == [later.id]


def test_a_payload_is_compared_as_it_is_stored(pgtasks_jobs: App) -> None:
    resize.defer(Photo(data=b"one"))
    assert_deferred(resize, Photo(data=b"one"))
    assert_deferred("d.resize", {"data": ANY, "taken": DAY})
    assert_deferred(resize, Photo(data=b"two"), count=0)


def test_where_there_is_none_the_jobs_that_there_are_are_shown_the_nearest_first(added: App) -> None:
    with pytest.raises(AssertionError) as raised:
        assert_deferred(mail, {"to": "bob@example.com", "at": DAY, "copy": True}, job_key="welcome:2", delay=120)
    assert str(raised.value) == (
        "no job of task 'd.mail' with payload={'to': 'bob@example.com', 'at': datetime.date(2031, 2, 3), "
        "'copy': True}, job_key='welcome:2', delay=0:02:00 was deferred\n"
        "There are these, the nearest first:\n"
        "  job 2 of task 'd.mail': job_key is None, not 'welcome:2', delay is 0:01:00, not 0:02:00, "
        "payload has no 'copy'\n"
        "  job 1 of task 'd.mail': job_key is 'welcome:1', not 'welcome:2', delay is 0:00:00, not 0:02:00, "
        "payload['to'] is 'ada@example.com', not 'bob@example.com', payload has no 'copy'\n"
        "  job 3 of task 'd.index' {}"
    )


def test_a_wrong_number_is_shown_with_the_jobs_that_are_there(added: App) -> None:
    with pytest.raises(
        AssertionError, match=r"(?s)2 jobs were deferred, not 1, of task 'd.mail'\nThese are there:.*ada"
    ):
        assert_deferred(mail, count=1)
    with pytest.raises(AssertionError, match=r"no job, instead of 2, of task 'd.mail' with queue='post' was deferred"):
        assert_deferred(mail, queue="post", count=2)


def test_a_misspelt_task_is_named(pgtasks_jobs: App) -> None:
    with pytest.raises(
        AssertionError, match=r"(?s)task 'd.indx' was deferred; did you mean 'd.index'\?.*no job at all"
    ):
        assert_deferred("d.indx")
    with pytest.raises(TypeError, match="is no task: give what @task has made, or its name"):
        assert_deferred(index.handler)  # type: ignore[arg-type]


def test_what_is_in_the_transaction_of_the_test_is_seen_on_its_connection(pgtasks_jobs: App) -> None:
    async def look() -> None:
        async with pgtasks_jobs.async_connection() as connection, connection.transaction(force_rollback=True):
            job = await index.defer_async(connection=connection, delay=60)
            assert await deferred_jobs_async(connection=connection) == await assert_deferred_async(
                index, delay=60, connection=connection
            )
            await advance_async(minutes=1, connection=connection)
            (moved,) = await deferred_jobs_async(index, connection=connection)
            assert moved.run_at == job.created_at

    with pgtasks_jobs.connection() as connection, connection.transaction(force_rollback=True):
        index.defer(connection=connection)
        assert_deferred(index, connection=connection, count=1)
        assert_deferred(index, count=0)
    asyncio.run(look())
    assert deferred_jobs() == []


def test_time_passes_for_what_waits_and_does_not_go_back(added: App) -> None:
    before = {job.id: job for job in deferred_jobs()}
    with added.connection() as connection:
        connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'somebody' where id = 3"
        )
    advance(dt.timedelta(hours=1), minutes=1)
    for job in deferred_jobs():
        passed = dt.timedelta(minutes=0 if job.id == 3 else 61)
        then = before[job.id]
        assert (job.run_at, job.created_at, job.updated_at) == (
            then.run_at - passed,
            then.created_at - passed,
            then.updated_at - passed,
        )
    with pytest.raises(ValueError, match="-60 seconds: time does not go back"):
        advance(minutes=-1)
    with pytest.raises(TypeError, match=r"60 must be a timedelta, or be given by name, as in advance\(minutes=1\)"):
        advance(60)  # type: ignore[arg-type]
