"""Jobs that run for longer than they may: they are asked to stop, and if they do not, their process is killed."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import math
import re
import signal
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import App, JobCancelledError, JobContext, Registry
from pgtasks.database import Database as Pools
from pgtasks.database.loans import Loans, cancel_statements, current_loans
from pgtasks.job import RETURN, Job
from pgtasks.worker.executor import Executor
from pgtasks.worker.limits import Run
from pgtasks.worker.slots import SlotTable
from tests.waiting import wait_until
from tests.worker.conftest import LONG, prepared
from tests.worker.limited import IN_TIME, SOON

if TYPE_CHECKING:
    from pgtasks.job import Completion
    from tests.worker.conftest import Database, StartWorker, Worker


MODULES = ("tests.worker.jobs", "tests.worker.limited:app")
STOPPING = ["watch", "sleep_async", "ask_server", "ask_server_async", "ask_server_in_thread"]
STUCK = ["compute", "sleep", "keep_interpreter", "refuse", "block_loop", "insist"]
ASLEEP = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
KILLED = re.compile(
    rf"JobTimeoutError: ran longer than {SOON:g} s and did not stop when asked to, "
    r"so the process that ran it \(pid (\d+)\) was killed"
)


def quiet(*_: object) -> None:
    """What takes note of progress, of which there is none here."""


@pytest.fixture
def start(start_worker: StartWorker) -> Any:
    return lambda *options, **more: start_worker("--processes", "1", *options, modules=MODULES, **more)


def wait_until_ended(db: Database, job_id: int) -> Any:
    """Wait until an attempt at a job has been charged, and return its row."""
    db.wait(lambda: (row := db.job(job_id)).attempts == 1 and row.locked_at is None, f"the end of job {job_id}")
    return db.job(job_id)


@pytest.mark.parametrize("task", STOPPING)
def test_a_job_that_stops_when_it_is_asked_to_has_failed_and_nothing_else_happens(
    db: Database, start: Any, task: str
) -> None:
    job = db.app.add_job(task, max_attempts=2)
    worker: Worker = start()
    stored = wait_until_ended(db, job.id)
    assert stored.last_error.startswith(f"JobTimeoutError: ran longer than {IN_TIME:g} s\n\nTraceback")
    assert stored.run_at > job.run_at
    assert worker.wait_for("job_timed_out", job_id=job.id)["timeout"] == IN_TIME
    worker.wait_for("job_retrying", job_id=job.id, error=f"JobTimeoutError: ran longer than {IN_TIME:g} s")
    db.wait(lambda: db.value(ASLEEP) == 0, "the end of the statement in the server")
    # Its slot and its connections are as good as new.
    after = db.app.add_job("note")
    db.wait_for_effects(1)
    assert db.effects() == [after.id]
    assert worker.stop() == 0
    assert worker.records("jobs_overdue") == []
    assert len(worker.process_ids()) == 1


@pytest.mark.parametrize("task", ["watch", "sleep_async"])
def test_a_last_attempt_that_runs_too_long_has_failed_for_good(db: Database, start: Any, task: str) -> None:
    job = db.app.add_job(task, max_attempts=1, queue="q")
    next_in_queue = db.app.add_job("note", queue="q")
    worker: Worker = start("--once")
    assert worker.wait() == 0
    stored = db.job(job.id)
    assert (stored.attempts, stored.max_attempts, stored.locked_at) == (1, 1, None)
    assert worker.records("job_failed", job_id=job.id)
    assert db.effects() == [next_in_queue.id]
    assert db.locked() == 0


def test_a_job_that_returns_although_its_time_is_over_has_succeeded(db: Database, start: Any) -> None:
    job = db.app.add_job("return_when_asked")
    worker: Worker = start("--once")
    assert worker.wait() == 0
    assert db.effects() == [job.id]
    assert db.count() == 0
    assert worker.records("job_timed_out", job_id=job.id)


@pytest.mark.parametrize("task", STUCK)
def test_a_job_that_does_not_stop_is_charged_with_its_process_and_the_neighbours_are_given_back(
    db: Database, start: Any, task: str
) -> None:
    # One without a limit, and one whose limit is far away. With max_attempts 1, a charge would end them as failed.
    neighbours = [
        db.app.add_job(name, {"permit": "go"}, max_attempts=1) for name in ("wait_for_row", "wait_for_permit")
    ]
    worker: Worker = start("--concurrency", "3")
    db.wait_for_effects(2, "began")
    stuck = db.app.add_job(task, max_attempts=1)
    assert worker.wait_for("jobs_overdue")["jobs"] == [stuck.id]
    stored = wait_until_ended(db, stuck.id)
    found = KILLED.fullmatch(stored.last_error)
    assert found is not None, stored.last_error
    assert int(found[1]) == worker.process_ids()[0]
    worker.wait_for("jobs_recovered", charged=1)
    worker.wait_for("job_failed", job_id=stuck.id, error=stored.last_error)
    db.permit("go")
    db.wait_for_effects(2)
    db.wait(lambda: db.count() == 1, "the end of the neighbours")
    assert sorted(db.effects()) == [job.id for job in neighbours]
    assert [record["job_id"] for record in worker.records("stuck")] == [stuck.id]
    assert worker.stop() == 0
    assert db.locked() == 0


def test_another_process_starts_before_the_one_of_an_overdue_job_is_killed(db: Database, start: Any) -> None:
    db.app.add_job("compute", max_attempts=1)
    seldom = prepared("import pgtasks.worker.deadlines as d; d._LOOK_SECONDS = 2.0")  # however long a fork takes
    worker: Worker = start("--concurrency", "1", before=seldom)
    worker.wait_for("process_exited", pid=worker.wait_for("jobs_overdue")["pid"], status="killed by SIGKILL")
    events = [record["event"] for record in worker.records()]
    assert events.count("process_started") == 2
    assert events.index("jobs_overdue") > len(events) - 1 - events[::-1].index("process_started")
    note = db.app.add_job("note")
    db.wait_for_effects(1)
    assert db.effects() == [note.id]
    assert worker.stop() == 0


@pytest.mark.parametrize("task", ["book_and_ask", "book_and_ask_async", "book_and_compute"])
def test_a_transactional_job_that_runs_too_long_leaves_no_effects(db: Database, start: Any, task: str) -> None:
    job = db.app.add_job(task, max_attempts=1)
    worker: Worker = start()
    stored = wait_until_ended(db, job.id)
    assert stored.last_error.startswith("JobTimeoutError: ")
    assert worker.stop() == 0
    assert db.value("select count(*) from ledger") == 0


def test_a_job_that_does_not_stop_holds_up_the_end_of_the_worker_no_longer_than_its_limit(
    db: Database, start: Any
) -> None:
    job = db.app.add_job("compute_longer", max_attempts=1)
    worker: Worker = start("--shutdown-timeout", "none")
    worker.wait_for("stuck")
    assert worker.stop() == 0
    assert db.job(job.id).last_error.startswith("JobTimeoutError: ")
    assert db.locked() == 0
    assert len(worker.process_ids()) == 1


def test_the_settings_limit_the_tasks_that_have_no_limit_of_their_own(db: Database, start: Any) -> None:
    job = db.app.add_job("watch_by_default", max_attempts=1)
    told = [db.app.add_job(f"tell_{name}") for name in ("default", "limited", "unlimited")]
    worker: Worker = start("--job-timeout", "60", "--once", "--no-listen")
    db.wait_for_effects(1, "began")
    db.wait(lambda: db.count() == 1, "the others")
    assert sorted(db.effects("within its limit")) == [told[0].id, told[1].id]
    assert db.effects("without a limit") == [told[2].id]
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 9

    worker = start("--job-timeout", "0.2", "--job-grace", "none", "--once")
    assert worker.wait() == 0
    assert db.job(job.id).last_error.startswith("JobTimeoutError: ran longer than 0.2 s\n")
    assert db.effects("ran longer than 0.2 s") == [job.id]


@pytest.mark.parametrize("stop", ["second signal", "shutdown timeout"])
def test_a_handler_that_watches_abort_can_clean_up_when_the_worker_does_not_wait_for_it(
    db: Database, start: Any, stop: str
) -> None:
    job = db.app.add_job("watch_by_default", max_attempts=1)
    patient = prepared("import pgtasks.worker.process as p; p._CANCEL_SECONDS = 30.0")  # with handlers, as it aborts
    worker: Worker = start("--shutdown-timeout", "none" if stop == "second signal" else "0", before=patient)
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGTERM)
    if stop == "second signal":
        worker.wait_for("worker_draining")
        worker.signal(signal.SIGTERM)
    assert worker.wait() == 9
    assert db.effects("the worker stops without waiting for its jobs") == [job.id]
    stored = db.job(job.id)
    assert (stored.attempts, stored.last_error, stored.locked_at) == (0, None, None)
    worker.wait_for("job_returned", job_id=job.id)


def test_a_connection_whose_statement_was_cancelled_is_not_lent_again(db: Database, database: str) -> None:
    pools = Pools(database, max_connections=1)
    loans = Loans()

    def cancel() -> None:
        db.wait(lambda: db.value(ASLEEP) == 1, "the statement")
        cancel_statements(loans.recall(lambda: None))

    token = current_loans.set(loans)
    try:
        with pools.connection() as first:
            pid = first.info.backend_pid
            canceller = threading.Thread(target=cancel)
            canceller.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                first.execute("select pg_sleep(600)")
        assert first.closed
        with pools.connection() as second:
            assert second.info.backend_pid != pid
            assert loans.recall(lambda: None) == [second]
        assert loans.recall(lambda: None) == []
        canceller.join()
    finally:
        current_loans.reset(token)
        pools.close()


def test_what_a_handler_borrows_once_it_was_asked_to_stop_is_not_interrupted(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late the thread gets to run that tells the server."""
    threads: list[threading.Thread] = []
    run = Run(contextvars.copy_context(), App(registry=Registry()), lambda *_: None)
    pools = Pools(database, max_connections=2)

    def handler() -> None:
        with pools.connection() as first, monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", lambda self: threads.extend([self]))
            run.ask_to_stop(JobCancelledError("cancelled"))
        with pools.connection() as last_words:
            (telling,) = threads
            telling.run()
            assert last_words.execute("select 1").fetchone() == (1,)
        assert first.closed
        assert not last_words.closed

    try:
        run.context.run(handler)
    finally:
        pools.close()


# What the executor does by itself


def claimed(task: str) -> Job:
    now = dt.datetime.now(dt.UTC)
    return Job(1, task, None, "{}", 0, now, 1, 25, None, now, now, None, now, "worker", 0)


def test_a_job_that_has_ended_in_its_thread_is_not_overdue_while_another_one_blocks_the_event_loop() -> None:
    app = App(registry=Registry(), database_url="")
    may_end = threading.Event()

    @app.task(timeout=LONG, grace=0)
    def work() -> None:
        may_end.wait(LONG)

    async def run() -> None:
        slots = SlotTable.create(1, 1).of_process(0)
        executor = Executor(app, 1, slots, lambda _: None, lambda: None, lambda: True, app.use_loop(), quiet)
        executor.start(claimed("work"))
        assert [claim.job_id for claim, _ in slots.overdue(math.inf)] == [1]
        may_end.set()
        wait_until(lambda: slots.overdue(math.inf) == [], LONG, "the end of the handler")  # blocks the loop
        assert [claim.job_id for claim in slots.running()] == [1]
        await executor.wait_for_all(LONG)
        assert slots.running() == []

    asyncio.run(run())


def test_a_job_that_is_asked_to_stop_before_its_first_line_ends_like_others() -> None:
    app = App(registry=Registry(), database_url="")
    ended: list[Completion] = []

    @app.task
    async def work() -> None:
        await asyncio.sleep(LONG)

    async def run() -> None:
        executor = Executor(
            app,
            1,
            SlotTable.create(1, 1).of_process(0),
            ended.extend,
            lambda: None,
            lambda: True,
            app.use_loop(),
            quiet,
        )
        executor.start(claimed("work"))
        executor.ask_to_stop("the test wants it")
        await executor.wait_for_all(LONG)
        assert executor.free == 1

    asyncio.run(run())
    assert [completion.outcome for completion in ended] == [RETURN]


def test_a_job_that_is_cancelled_while_it_cleans_up_after_its_timeout_is_not_interrupted_again() -> None:
    app = App(registry=Registry(), database_url="")
    ended: list[Completion] = []
    cleaned = False

    async def run() -> None:
        cleans, may_end = asyncio.Event(), asyncio.Event()

        @app.task(timeout=0.001)
        async def work() -> None:
            nonlocal cleaned
            try:
                await asyncio.sleep(LONG)
            finally:
                cleans.set()
                await may_end.wait()
                cleaned = True

        slots = SlotTable.create(1, 1).of_process(0)
        executor = Executor(app, 1, slots, ended.extend, lambda: None, lambda: True, app.use_loop(), quiet)
        job = claimed("work")
        executor.start(job)
        await cleans.wait()
        claim = job.id, job.locked_micros
        assert executor.cancel({claim: JobCancelledError("not needed")}) == {claim}
        for _ in range(3):
            await asyncio.sleep(0)  # so that a cancellation would have come
        may_end.set()
        await executor.wait_for_all(LONG)

    asyncio.run(run())
    assert cleaned
    assert str(ended[0].outcome.error).startswith("JobTimeoutError: ")


def test_a_job_that_starts_after_others_were_asked_to_stop_is_not_concerned() -> None:
    app = App(registry=Registry(), database_url="")
    seen: list[bool] = []

    @app.task
    def work(ctx: JobContext) -> None:
        seen.append(ctx.abort.is_set())

    async def run() -> None:
        executor = Executor(
            app,
            1,
            SlotTable.create(1, 1).of_process(0),
            lambda _: None,
            lambda: None,
            lambda: True,
            app.use_loop(),
            quiet,
        )
        executor.ask_to_stop("the test wants it")
        executor.start(claimed("work"))
        await executor.wait_for_all(LONG)

    asyncio.run(run())
    assert seen == [False]
