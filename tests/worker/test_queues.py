"""Named queues: a process goes on with one, for a while, by the statement that ends the job before."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.job import RETURN, SUCCESS, Completion
from pgtasks.worker.turns import TURN_SECONDS, Turns
from tests.worker.conftest import prepared

if TYPE_CHECKING:
    from pgtasks.job import Job
    from tests.worker.conftest import Database, StartWorker

FOR_EVER = "import pgtasks.worker.turns as t; t.TURN_SECONDS = 1e9"
LOST = """
import psycopg
from pgtasks.worker.link import DatabaseLink
attempt, count = DatabaseLink.attempt, 0
async def deaf(self, operation, within=None):
    global count
    result = await attempt(self, operation, within)
    if operation.name == "advance_queues":
        count += 1
        if count % 3 == 0:
            raise psycopg.OperationalError("the answer was lost")
    return result
DatabaseLink.attempt = deaf
"""


def test_the_jobs_of_a_queue_follow_each_other_without_a_claim(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "go"}, queue="q")
    worker = start_worker("--processes", "1", before=prepared(FOR_EVER))
    db.wait_for_effects(1, "began")
    following = [db.app.add_job("note", queue="q") for _ in range(20)]
    db.connection.execute("alter function graphile_worker._pgtasks_claim_jobs rename to gone")
    db.permit("go")
    db.wait_for_effects(21)
    db.connection.execute("alter function graphile_worker.gone rename to _pgtasks_claim_jobs")
    assert db.effects() == [job.id, *(job.id for job in following)]
    assert worker.stop() == 0
    assert (db.count(), db.locked()) == (0, 0)


def test_jobs_whose_taking_was_not_heard_of_run_once_in_order(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("note", queue="q") for _ in range(30)]
    worker = start_worker("--once", "--processes", "1", before=prepared(LOST + FOR_EVER))
    assert worker.wait() == 0
    assert db.rows("select job_id, attempt from effects order by position") == [(job.id, 1) for job in jobs]
    assert (db.count(), db.locked()) == (0, 0)


def test_what_comes_while_the_worker_stops_goes_back(db: Database, database: str, start_worker: StartWorker) -> None:
    job = db.app.add_job("wait_for_row", {"permit": "go"}, queue="q")
    worker = start_worker("--processes", "1", before=prepared(FOR_EVER))
    db.wait_for_effects(1, "began")
    following = db.app.add_job("note", queue="q")
    with psycopg.connect(database) as other:
        other.execute("lock table graphile_worker._private_job_queues in exclusive mode")
        db.permit("go")
        waits = (
            "select from pg_stat_activity where query like '%%_pgtasks_advance_queues%%' and wait_event_type = 'Lock'"
        )
        db.wait(lambda: db.rows(waits), "the queue to be advanced")
        worker.signal(signal.SIGTERM)
        worker.wait_for("worker_draining")
    assert worker.wait() == 0
    assert db.effects() == [job.id]
    assert (db.job(following.id).attempts, db.locked()) == (0, 0)


def test_other_queues_have_their_turn(db: Database, start_worker: StartWorker) -> None:
    """One slot, two queues: neither waits until the other is empty."""
    db.connection.execute(
        "select graphile_worker.add_job('hold', '{\"seconds\": 0.05}', 'queue ' || n % 2) from generate_series(0, 39) n"
    )
    worker = start_worker("--once", "--processes", "1", "--concurrency", "1")
    assert worker.wait() == 0
    order = db.rows("select job_id %% 2 from effects where what = 'ran' order by position")
    assert [order.count((n,)) for n in (0, 1)] == [20, 20]
    first_of_second = order.index((1 - order[0][0],))
    assert first_of_second < 20


@pytest.fixture
def job(db: Database) -> Job:
    return db.app.add_job("note", queue="q")


def test_a_turn_ends_in_time_and_begins_anew(job: Job) -> None:
    turns = Turns()
    done = Completion(job, SUCCESS, 0.01)
    assert turns.goes_on(done, 100.0, 0.0)
    assert "q" in turns
    assert turns.goes_on(done, 100.0 + TURN_SECONDS * 0.9, 0.0)
    assert not turns.goes_on(done, 100.0 + TURN_SECONDS, 0.0)
    assert "q" not in turns
    assert turns.goes_on(done, 100.1 + TURN_SECONDS, 0.0)


def test_a_turn_lasts_as_long_as_the_queue_may_then_have_to_wait(job: Job) -> None:
    turns = Turns()
    done = Completion(job, SUCCESS, 0.01)
    assert turns.goes_on(done, 100.0, 3.0)
    assert turns.goes_on(done, 102.9, 3.0)
    assert not turns.goes_on(done, 103.0, 3.0)


def test_only_a_short_success_that_is_not_yet_written_goes_on(job: Job) -> None:
    turns = Turns()
    assert not turns.goes_on(Completion(job, SUCCESS, TURN_SECONDS * 2), 100.0, 0.0)
    assert not turns.goes_on(Completion(job, RETURN), 100.0, 0.0)
    assert not turns.goes_on(Completion(job, SUCCESS, 0.01, written=True), 100.0, 0.0)
    assert "q" not in turns
