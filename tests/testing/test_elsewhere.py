"""An application adds its jobs to the database of the test, without a change to its code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgtasks import App, JobOptionError, Registry, task
from pgtasks.app import current_app
from pgtasks.plugins import Migration, hookimpl
from pgtasks.testing import (
    assert_deferred,
    assert_deferred_async,
    deferred_jobs,
    install,
    use_connection,
    use_database,
    use_test_database,
)
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeApp = Callable[..., App]


@task(name="elsewhere_greet")
def greet(payload: dict[str, str]) -> None: ...


@task(name="elsewhere_tidy")
def tidy() -> None: ...


def _count(conninfo: str, schema: str = "graphile_worker") -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(f'select count(*) from "{schema}".jobs').fetchone()
        assert row is not None
        return int(row[0])


def test_jobs_of_every_app_go_to_the_database_of_the_test(pgtasks_jobs: App, pgtasks_database: str) -> None:
    apart = App(registry=Registry(), database_url="host=production.invalid")
    greet.defer({"name": "ada"})
    apart.add_job("elsewhere_greet")
    asyncio.run(greet.defer_async({"name": "bob"}))
    assert _count(pgtasks_database) == 3
    assert [job.payload for job in deferred_jobs(greet)] == [{"name": "ada"}, {}, {"name": "bob"}]
    assert pgtasks_jobs.jobs.list().jobs


def test_an_app_is_as_it_was_after_the_block(pgtasks_database: str, empty_database: str) -> None:
    app = App(registry=Registry(), database_url=pgtasks_database)
    made_within: list[App] = []
    loop = asyncio.new_event_loop()
    app.add_job("before")
    with use_database(empty_database):
        app.add_job("within")
        loop.run_until_complete(app.add_job_async("within"))
        made_within.append(App(registry=Registry(), database_url=pgtasks_database))
        made_within[0].add_job("within")
        with psycopg.connect(empty_database) as connection:
            assert _sessions(connection) > 0
    app.add_job("after")
    made_within[0].add_job("after")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        wait_until(lambda: _sessions(connection) == 0, what="the end of all sessions")
    loop.close()
    assert (_count(pgtasks_database), _count(empty_database)) == (3, 3)


def _sessions(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return int(row[0])


class _Shop:
    @hookimpl
    def register_migrations(self) -> list[Migration]:
        return [Migration(1, "create table {schema}._pgtasks_shop_visits (at timestamptz)")]


def test_what_an_app_needs_is_installed_under_the_name_that_it_has(empty_database: str) -> None:
    app = App(registry=Registry(), plugins=[_Shop()], schema="My queue", autoload_plugins=False)
    with use_database(empty_database):
        app.add_job("greet")
        with app.connection() as connection:
            assert connection.execute('select count(*) from "My queue"._pgtasks_shop_visits').fetchone() == (0,)
    assert _count(empty_database, "My queue") == 1


def test_a_server_without_an_encoding_will_do(empty_database: str) -> None:
    install(make_conninfo(empty_database, client_encoding="SQL_ASCII"))  # as psycopg has it there by itself
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("select count(*) from graphile_worker.jobs").fetchone() == (0,)


def test_no_pytest_is_needed() -> None:
    with use_test_database() as first:
        greet.defer({"name": "ada"})
        with use_test_database() as second:
            greet.defer({"name": "bob"})
            assert second != first
            assert_deferred(greet, {"name": "bob"}, count=1)
        assert_deferred(greet, {"name": "ada"}, count=1)


def test_all_can_be_done_on_the_connection_of_the_test_and_undone(pgtasks_database: str) -> None:
    install(pgtasks_database)
    with psycopg.connect(pgtasks_database) as connection, use_connection(connection):
        tidy.defer_many([None, None])  # in a transaction of its own, were there not the test's
        tidy.defer()
        asyncio.run(tidy.defer_async())
        assert_deferred(tidy, count=4)
        assert _count(pgtasks_database) == 0
        connection.rollback()
        assert deferred_jobs() == []


def test_a_connection_of_asyncio_serves_asyncio_code_alone(pgtasks_database: str) -> None:
    async def run() -> None:
        connection = await psycopg.AsyncConnection.connect(pgtasks_database)
        async with connection:
            with use_connection(connection):
                await tidy.defer_many_async([None, None])
                await assert_deferred_async(tidy, count=2)
                with pytest.raises(JobOptionError, match=r"psycopg\.AsyncConnection here: it is for asyncio code"):
                    tidy.defer()
            await connection.rollback()

    async def borrow() -> None:
        async with current_app().async_connection():
            pass

    asyncio.run(run())
    with psycopg.connect(pgtasks_database) as connection, use_connection(connection):
        with pytest.raises(JobOptionError, match=r"psycopg\.Connection here: it is for blocking code"):
            asyncio.run(borrow())
        with use_connection("postgres"), pytest.raises(JobOptionError, match="it is an address"):  # type: ignore[arg-type]
            tidy.defer()
