from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import App, Registry, SchemaPendingError
from pgtasks_history import HistoryError, history, history_async, prune, prune_async
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.servers import Server
    from tests.sql.queue import Queue


def end(database: Queue, number: int = 1, /, *, age: str = "0", **columns: object) -> list[int]:
    """Record ends as if they had come some time ago; returns the ids of the jobs."""
    given = {"task": "send", "outcome": "succeeded", **columns}
    return database.values(
        "insert into {gw}._pgtasks_history_jobs "
        f"(job_id, created_at, run_at, finished_at, attempts, max_attempts, priority, {', '.join(given)}) "
        "select n + (select count(*) from {gw}._pgtasks_history_jobs), now(), now(), now() - %s::interval, 1, 2, 0, "
        f"{', '.join(['%s'] * len(given))} from generate_series(1, %s) as n returning job_id",
        age,
        *given.values(),
        number,
    )


def found(app: App, **filters: Any) -> list[int]:
    return [entry.job_id for entry in history(app, **filters)]


@pytest.fixture
def filled(queue: Queue) -> Queue:
    end(queue, age="3 days")  # 1
    end(queue, age="2 days", task="other", queue="q")  # 2
    end(queue, age="1 day", outcome="failed", key="k")  # 3
    end(queue, age="1 hour", task="other", outcome="removed")  # 4
    return queue


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [4, 3, 2, 1]),
        ({"limit": 2}, [4, 3]),
        ({"job_id": 2}, [2]),
        ({"task": "other"}, [4, 2]),
        ({"task": "none"}, []),
        ({"queue": "q"}, [2]),
        ({"key": "k"}, [3]),
        ({"outcome": "succeeded"}, [2, 1]),
        ({"outcome": "failed"}, [3]),
        ({"since": dt.timedelta(hours=36)}, [4, 3]),
        ({"task": "other", "since": dt.timedelta(hours=36)}, [4]),
    ],
    ids=str,
)
def test_filters_are_joined_and_the_last_comes_first(
    filled: Queue, app: App, filters: dict[str, Any], expected: list[int]
) -> None:
    assert found(app, **filters) == expected


def test_times_may_be_given_as_such(filled: Queue, app: App) -> None:
    third = history(app, job_id=3)[0].finished_at
    assert found(app, since=third) == [4, 3]
    assert found(app, until=third) == [2, 1]
    assert found(app, since=third, until=third + dt.timedelta(seconds=1)) == [3]


def test_pages_have_everything_once(queue: Queue, app: App) -> None:
    ids = end(queue, 7)  # of one transaction, and so of one time
    pages, last = [], None
    while page := history(app, limit=3, before=last):
        pages.append([entry.job_id for entry in page])
        last = page[-1]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(job_id for page in pages for job_id in page) == ids


def test_asyncio_code_gets_the_same(filled: Queue, app: App) -> None:
    async def read() -> None:
        try:
            assert await history_async(app, task="other") == history(app, task="other")
            assert await prune_async(app, dt.timedelta(hours=36)) == 2
        finally:
            await app.aclose()

    asyncio.run(read())
    assert found(app) == [4, 3]


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"outcome": "won"}, "outcome='won' is none of succeeded, "),
        ({"since": dt.datetime(2030, 1, 1)}, "since=.* has no time zone"),  # noqa: DTZ001 - that is what it is about
        ({"limit": 0}, "from 1 to 10,000"),
        ({"limit": 10_001}, "from 1 to 10,000"),
    ],
    ids=["outcome", "zone", "least", "most"],
)
def test_what_cannot_be_asked_for_is_told(app: App, filters: dict[str, Any], problem: str) -> None:
    with pytest.raises(HistoryError, match=problem):
        history(app, **filters)


def test_a_database_without_a_history_is_told_of(server: Server) -> None:
    name = server.create_database()
    app = App(registry=Registry(), database_url=server.conninfo(name), autoload_plugins=False)
    try:
        for call in (lambda: history(app), lambda: prune(app, dt.timedelta(1))):
            with pytest.raises(SchemaPendingError, match="There is no history in schema 'graphile_worker'"):
                call()
    finally:
        app.close()
        server.drop_database(name)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"job_id": 5}, "_pgtasks_history_jobs_job"),
        ({"task": "rare"}, "_pgtasks_history_jobs_task"),
        ({"outcome": "failed"}, "_pgtasks_history_jobs_trouble"),
        ({"since": dt.timedelta(hours=1)}, "_pgtasks_history_jobs_pkey"),
    ],
    ids=str,
)
def test_indexes_serve_the_filters(queue: Queue, app: App, filters: dict[str, Any], index: str) -> None:
    end(queue, 20_000, age="2 days")
    end(queue, 10, task="rare", outcome="failed")
    queue.run("analyze {gw}._pgtasks_history_jobs")

    def uses() -> int:
        return int(queue.value("select idx_scan from pg_stat_user_indexes where indexrelname = %s", index))

    before = uses()
    assert history(app, **filters)
    app.close()  # at its end a session tells what it has used
    wait_until(lambda: uses() > before, what=f"use of {index}")


# Retention


def test_the_oldest_are_deleted_in_parts(queue: Queue, app: App) -> None:
    end(queue, 5, age="2 days")
    old = end(queue, 2, age="3 days")
    young = end(queue, 2)
    keep = dt.timedelta(days=1)
    assert prune(app, keep, limit=3) == 3
    assert not set(old) & set(found(app)), "the oldest first"
    assert (prune(app, keep, limit=3), prune(app, keep, limit=3), prune(app, keep)) == (3, 1, 0)
    assert sorted(found(app)) == young


def test_one_session_deletes_at_a_time(queue: Queue, app: App) -> None:
    end(queue, 2, age="2 days")
    with queue.conn.transaction():
        assert queue.value("select {gw}._pgtasks_history_prune('1 day', 1)") == 1
        assert prune(app, dt.timedelta(days=1)) is None
    assert prune(app, dt.timedelta(days=1)) == 1


def test_jobs_end_while_what_is_old_is_deleted(queue: Queue) -> None:
    end(queue, 2, age="2 days")
    queue.add()
    [job] = queue.claim()
    with queue.another() as other, other.conn.transaction():
        other.run("select {gw}._pgtasks_history_prune('1 day', 1000)")
        queue.run("set lock_timeout = '10s'")
        assert queue.finish_successes(job) == []


# Taking it away


def test_after_an_uninstall_jobs_go_on_and_it_can_be_installed_anew(queue: Queue, app: App) -> None:
    from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
    from pgtasks_history import register_migrations

    job_id = queue.add()
    queue.claim()
    queue.run("select {gw}._pgtasks_history_uninstall()")
    assert queue.value("select count(*) from pg_proc where proname like '\\_pgtasks\\_history\\_%%'") == 0
    assert queue.value("select count(*) from pg_class where relname like '\\_pgtasks\\_history\\_%%'") == 0
    queue.run("delete from {gw}._private_jobs where id = %s", job_id)
    steps = plugin_steps(queue.schema, [("history", register_migrations())])
    assert len(migrate_plugins(queue.conn, queue.schema, steps)) == 1
    queue.add()
    queue.finish_successes(*queue.claim())
    assert len(history(app)) == 1


def test_installing_does_not_keep_everybody_waiting_behind_a_long_transaction(queue: Queue) -> None:
    from pgtasks.errors import PluginError
    from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
    from pgtasks_history import register_migrations

    queue.run("select {gw}._pgtasks_history_uninstall()")
    [migration] = register_migrations()
    short = type(migration)(1, migration.statements.replace("lock_timeout = '10s'", "lock_timeout = '10ms'"))
    assert short != migration
    with queue.another() as other, other.conn.transaction():
        other.add()
        with pytest.raises(PluginError, match="plugin 'history', migration 1: canceling statement due to lock timeout"):
            migrate_plugins(queue.conn, queue.schema, plugin_steps(queue.schema, [("history", [short])]))
    assert isinstance(queue.conn, psycopg.Connection)
    assert queue.value("show lock_timeout") == "0"
