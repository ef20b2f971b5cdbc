"""What the plugin asks the database: whether it is right, and whether it is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from pgtasks import App, Registry
from pgtasks_prometheus.queue import _SETTINGS, QueueLook
from tests.conftest import ODD_SCHEMA, SCHEMA
from tests.servers import versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks_prometheus.queue import TaskQueue


@pytest.fixture
def app(database: str, schema: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, schema=schema)
    yield app
    app.close()


@pytest.fixture
def jobs(connection: psycopg.Connection[Any], schema: str) -> sql.Identifier:
    """The table of jobs."""
    return sql.Identifier(schema, "_private_jobs")


def look(app: App, limit: int = 10_000) -> dict[str, TaskQueue]:
    seen = QueueLook(app, 60, limit).get()
    assert seen is not None
    return {queue.task: queue for queue in seen}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def counts(queue: TaskQueue) -> tuple[int, int, int, int]:
    return queue.ready, queue.scheduled, queue.running, queue.failed


@pytest.mark.parametrize("schema", [SCHEMA, ODD_SCHEMA], indirect=True, scope="session")
def test_each_state_of_each_task_is_counted(
    app: App, connection: psycopg.Connection[Any], jobs: sql.Identifier
) -> None:
    for flags in (None, ["a"], ["b"]):
        for priority in (-3, 0, 7):
            for queue in (None, "one", "two"):
                app.add_job("many", flags=flags, priority=priority, queue=queue)
                app.add_job("many", flags=flags, priority=priority, queue=queue, delay=1000)
    ids = [app.add_job("few").id for _ in range(6)]
    app.jobs.fail(ids[:2])
    connection.execute(
        sql.SQL("update {} set locked_at = now(), locked_by = 'w' where id = any(%s)").format(jobs), (ids[2:5],)
    )
    app.add_job("done")
    connection.execute(sql.SQL("delete from {} where id > %s").format(jobs), (max(ids),))
    seen = look(app)
    assert counts(seen["many"]) == (27, 27, 0, 0)
    assert counts(seen["few"]) == (1, 0, 3, 2)
    assert counts(seen["done"]) == (0, 0, 0, 0)
    assert seen["done"].oldest is None


def test_the_oldest_job_is_that_which_has_been_due_for_longest(
    app: App, connection: psycopg.Connection[Any], jobs: sql.Identifier
) -> None:
    for seconds, priority, queue in ((50, 0, None), (3000, 9, None), (20, -5, None), (700, 2, "one"), (-9000, 0, None)):
        job = app.add_job("late", priority=priority, queue=queue)
        connection.execute(
            sql.SQL("""
                update {} set created_at = now() - interval '1 day', run_at = now() - make_interval(secs => %s)
                where id = %s
            """).format(jobs),
            (seconds, job.id),
        )
    new = app.add_job("new")
    connection.execute(sql.SQL("update {} set run_at = '-infinity' where id = %s").format(jobs), (new.id,))
    seen = look(app)
    late, fresh = seen["late"].oldest, seen["new"].oldest
    assert late is not None
    assert fresh is not None
    assert 3000 <= late < 86_400
    assert 0 <= fresh < 3000, "a job has not waited for longer than it has been there"


@pytest.mark.parametrize("server", versions(), indirect=True, scope="session")
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_look_touches_what_it_may_count_and_not_what_there_is(
    app: App, connection: psycopg.Connection[Any], jobs: sql.Identifier, analyzed: bool
) -> None:
    for number in range(4):
        app.add_job(f"task{number}")
    connection.execute(
        sql.SQL("""
            insert into {} (task_id, priority, run_at, job_queue_id, attempts)
            select 1 + i % 4, i % 3, now() + make_interval(secs => i % 7 - 3), nullif(i % 5, 0), 25 * (i % 11 / 10)
            from generate_series(1, 60000) as i
        """).format(jobs)
    )
    if analyzed:
        connection.execute(sql.SQL("vacuum analyze {}").format(jobs))
    queue = QueueLook(app, 60, 10)
    limits = {"task_limit": 1000, "kind_limit": 50, "count_limit": 10, "look_at": 100_000}
    with connection.transaction():
        connection.execute(_SETTINGS)
        explain = sql.SQL("explain (analyze, buffers, format json) {}").format(queue._statement)
        row = connection.execute(explain, limits).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert pages < 3000, "60,000 jobs were walked"
    assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan" and "jobs" in node["Alias"]]
    assert all(queue.ready <= 10 for queue in look(app, 10).values())


def test_it_is_looked_once_in_an_interval(app: App, connection: psycopg.Connection[Any]) -> None:
    queue = QueueLook(app, 1000, 100)
    before = queue.get()
    app.add_job("new")
    assert queue.get() is before


def test_a_database_that_is_away_is_told_once_and_looked_at_again(
    app: App, connection: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    app.add_job("new")
    queue = QueueLook(app, 1e-9, 100)
    connection.execute("alter schema graphile_worker rename to elsewhere")
    assert queue.get() is None
    assert queue.get() is None
    assert [record.message for record in caplog.records] == ["queue_not_seen"]
    connection.execute("alter schema elsewhere rename to graphile_worker")
    seen = queue.get()
    assert seen is not None
    assert [one.task for one in seen] == ["new"]


def test_a_database_that_hangs_holds_up_nobody_for_long(
    app: App, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks_prometheus.queue._WAIT_SECONDS", 0.05)
    queue = QueueLook(app, 1e-9, 100)
    with connection.transaction():
        connection.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        assert queue.get() is None
    assert queue._ended.wait(60)
    monkeypatch.setattr("pgtasks_prometheus.queue._WAIT_SECONDS", 60)
    assert queue.get() == []
