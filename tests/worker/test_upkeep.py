"""What a host does for the queue beside running jobs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pgtasks.database import Database as Pool
from pgtasks.sql import Statements
from pgtasks.worker.link import DatabaseLink
from pgtasks.worker.upkeep import restore_now_and_then, watch_for_breaking_step
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.worker.conftest import Database, StartWorker

TASKS = ["note", "work"]
TASK_NUMBERS = "select identifier, id from graphile_worker._private_tasks order by 1"
SESSION_OF_UPKEEP = "select from pg_stat_activity where application_name = 'upkeep'"


def while_restoring(db: Database, test: Callable[[], None]) -> None:
    """Run `test` in a thread while names are restored all the time."""

    async def run() -> None:
        pool = Pool(db.app.database.conninfo, max_connections=1, application_name="upkeep")
        link = DatabaseLink(pool, Statements("graphile_worker"), "upkeep")
        restoring = asyncio.create_task(restore_now_and_then(link, TASKS, seconds=0.01))
        await asyncio.to_thread(test)
        restoring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await restoring
        await pool.aclose()

    asyncio.run(run())


def registered(db: Database) -> list[tuple[Any, ...]]:
    return db.rows(TASK_NUMBERS)


def test_tasks_that_are_deleted_again_and_again_are_registered_again_under_their_numbers(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def test() -> None:
        db.wait(lambda: len(registered(db)) == 2, "the tasks")
        before = registered(db)
        for _ in range(3):
            db.connection.execute("delete from graphile_worker._private_tasks")
            db.wait(lambda: registered(db) == before, "the tasks")

    caplog.set_level("INFO", "pgtasks")
    while_restoring(db, test)
    assert "names_restored" in caplog.text


def test_names_are_restored_also_after_the_database_was_away(db: Database) -> None:
    def test() -> None:
        db.wait(lambda: len(registered(db)) == 2, "the tasks")
        db.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'upkeep'")
        db.connection.execute("delete from graphile_worker._private_tasks")
        db.wait(lambda: len(registered(db)) == 2, "the tasks")

    while_restoring(db, test)


def test_names_are_restored_also_after_the_database_refused_to(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    def test() -> None:
        db.wait(lambda: "statement_refused" in caplog.text, "the refusal")
        db.connection.execute("alter function graphile_worker.broken rename to _pgtasks_restore_names")
        db.wait(lambda: len(registered(db)) == 2, "the tasks")

    db.connection.execute("alter function graphile_worker._pgtasks_restore_names rename to broken")
    while_restoring(db, test)


def test_a_breaking_step_is_found_without_a_word_of_it(db: Database) -> None:
    async def run() -> int:
        pool = Pool(db.app.database.conninfo, max_connections=1, application_name="upkeep")
        link = DatabaseLink(pool, Statements("graphile_worker"), "upkeep")
        watching = asyncio.create_task(watch_for_breaking_step(link, asyncio.Event(), seconds=0.01))
        await asyncio.to_thread(db.wait, lambda: db.rows(SESSION_OF_UPKEEP), "a look")
        assert not watching.done()
        db.connection.execute("insert into graphile_worker.migrations (id, breaking) values (998, false), (999, true)")
        async with asyncio.timeout(LONG):
            number = await watching
        await pool.aclose()
        return number

    assert asyncio.run(run()) == 999


def test_a_worker_restores_at_its_start_what_was_lost_while_none_ran(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("note", queue="q")
    db.connection.execute("delete from graphile_worker._private_tasks")
    db.connection.execute("delete from graphile_worker._private_job_queues")
    assert db.job(job.id) is None
    db.connection.execute("update graphile_worker._pgtasks_forgotten_names set ts = now() - interval '1 hour'")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1)
    assert worker.wait_for("names_restored")["queues"] == 1
    assert worker.stop() == 0
