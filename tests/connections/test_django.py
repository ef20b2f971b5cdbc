"""Django's connections: jobs are a part of the transactions of `atomic()`."""

from __future__ import annotations

import asyncio
import threading
import unittest
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection, connections, transaction
from psycopg.conninfo import conninfo_to_dict

from pgtasks.errors import JobOptionError
from pgtasks.testing import run_jobs, use_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks import App, Task

    Committed = Callable[[], list[Any]]

MANY = list(range(100, 135))


class UndoneError(Exception):
    """Leaves a block, which is undone."""


@pytest.fixture(autouse=True)
def databases(database: str) -> Iterator[None]:
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()
    found: dict[str, Any] = conninfo_to_dict(database)
    postgres = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": found.pop("dbname"),
        "USER": found.pop("user"),
        "HOST": found.pop("host"),
        "PORT": found.pop("port"),
        "OPTIONS": found,
    }
    lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    connections.settings = connections.configure_settings({"default": postgres, "other": dict(postgres), "lite": lite})
    yield
    for one in connections.all(initialized_only=True):
        one.close()
        del connections[one.alias]


def note(number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("insert into note values (%s)", [number])


@pytest.mark.parametrize("alias", [None, "other"])
def test_jobs_are_committed_and_rolled_back_with_the_transaction(
    alias: str | None, send: Task[Any, ..., Any], app: App, committed: Committed
) -> None:
    using = alias or "default"
    given = connections[alias] if alias else connection
    send.defer(1, connection=given)  # connects, and is there at once
    assert committed() == [1]
    with suppress(UndoneError), transaction.atomic(using):
        if alias is None:
            note(1)
        send.defer(2, connection=given)
        send.defer_many(MANY, connection=given)
        raise UndoneError
    with suppress(UndoneError), transaction.atomic(using):
        send.defer_many(MANY, connection=given)
        raise UndoneError
    assert committed() == [1]
    with transaction.atomic(using):
        app.add_job("other", 3, connection=given)
        with suppress(UndoneError), transaction.atomic(using):
            send.defer(4, connection=given)
            for _ in range(2):
                send.defer(4, job_key="k", job_key_mode="unsafe_dedupe", connection=given)
            send.defer_many(MANY, connection=given)
            raise UndoneError
        with transaction.atomic(using):
            send.defer_many(MANY, connection=given)
            assert len(app.jobs.list(connection=given).jobs) == len([1, 3, *MANY])
        assert committed() == [1]
    assert committed() == [1, 3, *MANY]
    send.defer_many([*MANY], connection=given)
    assert committed() == [1, 3, *MANY, *MANY]
    with transaction.atomic(using):
        send.defer(5, connection=given)  # alone
    assert committed()[-1] == 5


def test_what_runs_on_commit_adds_jobs_too(send: Task[Any, ..., Any], committed: Committed) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: send.defer(2, connection=connection))
        transaction.on_commit(lambda: send.defer(3))
        send.defer(1, connection=connection)
        assert committed() == []
    assert committed() == [1, 2, 3]
    with suppress(UndoneError), transaction.atomic():
        transaction.on_commit(lambda: send.defer(4, connection=connection))
        send.defer(5, connection=connection)
        raise UndoneError
    assert committed() == [1, 2, 3]


def test_a_django_test_case_takes_its_jobs_back(send: Task[Any, ..., Any], committed: Committed) -> None:
    from django.test import TestCase

    seen: list[Any] = []

    class Adds(TestCase):  # type: ignore[misc]
        def test_one(self) -> None:
            with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                transaction.on_commit(lambda: send.defer(2, connection=connection))
                send.defer(1, connection=connection)
                send.defer_many(MANY, connection=connection)
            with connection.cursor() as cursor:
                cursor.execute("select payload from graphile_worker._private_jobs order by id")
                seen.extend(payload for (payload,) in cursor.fetchall())

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Adds).run(result)
    assert result.wasSuccessful(), [*result.errors, *result.failures]
    assert seen == [1, *MANY, 2]
    assert committed() == []


def test_asyncio_code_adds_through_sync_to_async(send: Task[Any, ..., Any], committed: Committed) -> None:
    def place() -> None:
        with transaction.atomic():
            note(1)
            send.defer(1, connection=connection)
        connection.close()

    async def add() -> None:
        with pytest.raises(JobOptionError, match=r"Django's connections are for blocking code: .* `sync_to_async`"):
            await send.defer_async(1, connection=connection)
        await sync_to_async(place)()

    asyncio.run(add())
    assert committed() == [1, "note 1"]


# What cannot be used


def test_a_transaction_that_has_failed_takes_no_jobs(send: Task[Any, ..., Any], committed: Committed) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        with pytest.raises(DatabaseError):
            cursor.execute("select 1/0")
        with pytest.raises(JobOptionError, match=r"transaction of the given django.ConnectionProxy has failed"):
            send.defer(1, connection=connection)
    with transaction.atomic():
        with suppress(UndoneError), transaction.atomic(savepoint=False):
            raise UndoneError
        with pytest.raises(JobOptionError, match=r"transaction of Django's connection 'default' has failed, .*: leave"):
            send.defer(1, connection=connection)
    with transaction.atomic():
        send.defer(2, connection=connection)
    assert committed() == [2]


def test_a_connection_that_is_closed_takes_no_jobs(send: Task[Any, ..., Any], committed: Committed) -> None:
    with suppress(UndoneError), transaction.atomic():
        note(1)
        connection.close()
        with pytest.raises(JobOptionError, match=r"Django's connection 'default' is closed, and its transaction lost"):
            send.defer(1, connection=connection)
        raise UndoneError
    connection.ensure_connection()
    connection.connection.close()
    with pytest.raises(JobOptionError, match=r"the connection of the given django.ConnectionProxy is closed"):
        send.defer(1, connection=connection)
    connection.close()
    send.defer(2, connection=connection)
    assert committed() == [2]


def test_another_threads_connection_takes_no_jobs(send: Task[Any, ..., Any], committed: Committed) -> None:
    taken = connections["default"]
    raised: list[BaseException] = []

    def add() -> None:
        try:
            send.defer(1, connection=taken)
        except JobOptionError as error:
            raised.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert "Django's connection 'default' is another thread's: use the" in str(raised[0])
    assert committed() == []


def test_a_connection_to_something_else_takes_no_jobs(
    send: Task[Any, ..., Any], committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobOptionError, match=r"Django's connection 'lite' is to sqlite, .*: leave it out, and add the"):
        send.defer(1, connection=connections["lite"])
    with pytest.raises(JobOptionError, match=r"BaseDatabaseHandler|ConnectionHandler here: it holds several: give one"):
        send.defer(1, connection=connections)
    import psycopg2

    # Where psycopg 3 is installed too, Django never takes the other one.
    monkeypatch.setattr(type(connections["default"]), "Database", psycopg2)
    with pytest.raises(
        JobOptionError, match=r"'default' is on psycopg2: pgtasks speaks psycopg 3 only: use that, which"
    ):
        send.defer(1, connection=connection)
    assert committed() == []


def test_jobs_run_in_the_transaction_of_a_test_which_outlives_their_errors(app: App, committed: Committed) -> None:
    @app.task(max_attempts=1)
    def write(payload: int) -> None:
        note(payload)
        if payload == 2:
            with transaction.atomic(savepoint=False):
                raise UndoneError
        if payload == 3:
            with connection.cursor() as cursor:
                cursor.execute("no SQL")

    with suppress(UndoneError), transaction.atomic(), use_connection(connection):
        for number in (1, 2, 3, 4):
            write.defer(number)
        runs = run_jobs(app=app, raise_errors=False)
        assert [run.state for run in runs] == ["deleted", "failed", "failed", "deleted"]
        with connection.cursor() as cursor:
            cursor.execute("select n from note order by n")
            assert cursor.fetchall() == [(1,), (4,)]
        raise UndoneError
    assert committed() == []
