"""How far jobs have come: what handlers say is written rarely, is there to be seen, and goes with the job."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.database import Database as Connections
from pgtasks.queue.claim import claim_jobs
from pgtasks.sql import Statements
from pgtasks.worker import progress as module
from pgtasks.worker.link import DatabaseLink
from pgtasks.worker.progress import ProgressWriter
from tests.cli.running import run
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pgtasks import App
    from pgtasks.database import Operation
    from pgtasks.job import Job
    from tests.worker.conftest import Database, StartWorker


class Counting(DatabaseLink):
    """A link that remembers how many reports each statement had."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(Connections(conninfo), Statements("graphile_worker"), "w")
        self.tried: list[int] = []
        self.looks = 0
        self.held: list[int] = []

    async def attempt(self, operation: Operation[Any], within: float | None = None) -> Any:
        self.tried.append(len(operation.parameters[2]))
        return await super().attempt(operation, within)

    def look(self) -> list[int]:
        self.looks += 1
        return self.held

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(LONG):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.01)


def rows(app: App) -> list[tuple[int, float, float | None, str | None]]:
    return [(each.job_id, each.done, each.total, each.note) for each in app.jobs.progress()]


def claimed(db: Database, jobs: int) -> list[Job]:
    for _ in range(jobs):
        db.app.add_job("work")
    sql = db.app.statements
    return db.app.run(claim_jobs(sql, "w", ["work"], [], jobs, jobs)).jobs


def test_many_reports_of_many_jobs_are_one_statement_and_none_where_nothing_changes(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "_SOON_SECONDS", 0.01)

    async def run() -> None:
        link = Counting(db.app.database.conninfo)
        jobs = claimed(db, 3)
        link.held = [job.id for job in jobs]
        writer = ProgressWriter(link, link.look)
        writing = asyncio.create_task(writer.run())
        for number in range(1, 1001):
            for job in jobs:
                writer.report(job, number)
        writer.report(jobs[0], 1000, 1000, "nearly")
        writer.report(jobs[1], 2.5)
        await link.until(lambda: link.tried)
        await link.until(lambda: link.looks > 5)
        assert link.tried == [3]
        ids = link.held
        assert rows(db.app) == [
            (ids[0], 1000, 1000, "nearly"),
            (ids[1], 2.5, None, None),
            (ids[2], 1000, None, None),
        ]

        # From other threads, and with what stays as it was.
        reports = [asyncio.to_thread(writer.report, jobs[0], 1001), asyncio.to_thread(writer.report, jobs[1], 3, 4)]
        await asyncio.gather(*reports)
        await link.until(lambda: rows(db.app)[:2] == [(ids[0], 1001, 1000, "nearly"), (ids[1], 3, 4, None)])
        writer.report(jobs[1], 3)
        writes, looks = len(link.tried), link.looks
        await link.until(lambda: link.looks > looks + 5)
        assert len(link.tried) == writes

        # One has ended, another was lost to somebody: nothing is written about the latter any more.
        db.connection.execute("update graphile_worker._private_jobs set locked_by = 'x' where id = %s", (ids[1],))
        link.held = ids[1:]
        writer.report(jobs[1], 4)
        await link.until(lambda: db.value("select count(*) from graphile_worker._pgtasks_progress") == 2)
        writes, looks = len(link.tried), link.looks
        await link.until(lambda: link.looks > looks)
        writer.report(jobs[1], 5)
        await link.until(lambda: link.looks > looks + 5)
        assert len(link.tried) == writes
        assert rows(db.app) == [(ids[2], 1000, None, None)]
        link.held = []
        await link.until(lambda: db.value("select count(*) from graphile_worker._pgtasks_progress") == 0)
        writing.cancel()
        await link.database.aclose()

    asyncio.run(run())


def test_what_cannot_be_written_is_written_later_as_it_is_by_then(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "_SOON_SECONDS", 0.01)

    async def run() -> None:
        link = Counting(db.app.database.conninfo)
        [job] = claimed(db, 1)
        link.held = [job.id]
        writer = ProgressWriter(link, link.look)
        writing = asyncio.create_task(writer.run())
        with psycopg.connect(db.app.database.conninfo) as hog:
            hog.execute("lock table graphile_worker._pgtasks_progress")
            writer.report(job, 1)
            await link.until(lambda: len(link.tried) >= 2)
            writer.report(job, 2)
        await link.until(lambda: rows(db.app) == [(job.id, 2, None, None)])
        assert not link.away
        writing.cancel()
        await link.database.aclose()

    asyncio.run(run())


def test_what_handlers_say_is_seen_for_as_long_as_their_jobs_run(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    plain = db.app.add_job("come_on", {"permit": "plain"}).id
    coroutine = db.app.add_job("come_on_async", {"permit": "coroutine"}).id
    worker = start_worker("--processes", "1")
    db.wait(lambda: len(db.app.jobs.progress()) == 2, "two jobs that say how far they have come")
    assert rows(db.app) == [(plain, 1, 3, "warming up"), (coroutine, 0.5, None, "under way")]
    [progress] = db.app.jobs.progress([plain])
    assert (progress.attempt, progress.worker_id) == (1, db.job(plain).locked_by)
    assert 0 <= progress.age < LONG

    env = {"PGTASKS_DATABASE_URL": db.app.database.conninfo}
    shown = run("jobs", "show", str(coroutine), cwd=tmp_path, env=env).out
    assert re.search(r"^progress +0\.5, [\w ]+ ago: under way$", shown, re.MULTILINE)
    seen = run("top", "--once", cwd=tmp_path, env=env).out
    assert re.search(rf"^ *{plain}  come_on  .* 1/3  33 %  warming up$", seen, re.MULTILINE)

    kept = "select count(*) from graphile_worker._pgtasks_progress"
    db.permit("plain")
    db.wait(lambda: db.value(kept) == 1, "no trace of the job that has ended")
    os.kill(worker.process_ids()[0], signal.SIGKILL)
    db.wait(lambda: db.value(kept) == 0, "no trace of the process that has died")
    assert worker.stop() == 0
