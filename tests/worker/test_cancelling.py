"""Jobs that somebody cancels while a worker holds them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING

from pgtasks import App, JobCancelledError, JobContext, Registry
from pgtasks.job import SUCCESS, Outcome, OutcomeKind
from pgtasks.queue.rows import job_from_row
from pgtasks.worker.executor import Executor
from pgtasks.worker.slots import SlotTable
from tests.waiting import wait_until
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from pgtasks.job import Completion, Job
    from tests.worker.conftest import Database, StartWorker

MODULES = ("tests.worker.jobs", "tests.worker.cancelled:app")
JOBS = 2000
ASLEEP = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
STOPPING = ["watch", "sleep_async", "ask_server", "book_and_ask", "limited"]


def test_running_jobs_stop_on_whichever_host_and_their_neighbours_go_on(
    db: Database, start_worker: StartWorker
) -> None:
    workers = [start_worker("--processes", "1", "--concurrency", "8", modules=MODULES) for _ in range(2)]
    for worker in workers:
        worker.wait_for("worker_ready")
    jobs = [db.app.add_job(task, max_attempts=2, queue=task) for task in STOPPING]
    obstinate = db.app.add_job("return_when_asked")
    neighbours = [db.app.add_job(task) for task in ("watch", "sleep_async", "ask_server")]
    waiting = db.app.add_job("watch", queue="watch")
    db.wait_for_effects(9, "began")
    db.wait(lambda: db.value(ASLEEP) == 3, "those that ask the server, since nothing interrupts what comes later")
    ids = [*(job.id for job in jobs), obstinate.id, waiting.id, 99]
    holders = {job.id: db.job(job.id).locked_by for job in (*jobs, obstinate)}
    told = db.app.jobs.cancel(ids, "no more")
    assert [one.id for one in told] == ids
    assert [one.state for one in told] == ["stopping"] * 6 + ["removed", "unknown"]
    assert {one.id: one.job.locked_by for one in told[:6] if one.job is not None} == holders

    db.wait(lambda: db.count() == len(neighbours), "the end of what was cancelled")
    assert db.value("select count(*) from graphile_worker.jobs where locked_at is not null and attempts = 1") == 3
    assert sorted(db.effects("JobCancelledError('no more')")) == [jobs[0].id, jobs[4].id]
    assert db.effects() == [obstinate.id]
    assert db.value("select count(*) from ledger") == 0
    db.wait(lambda: sum(len(worker.records("job_cancelling")) for worker in workers) >= 6, "word of each")
    host = {job.id: worker for worker in workers for job in jobs if worker.records("job_cancelling", job_id=job.id)}
    for job in jobs:
        assert holders[job.id].startswith(host[job.id].records("worker_ready")[0]["host"])
        assert host[job.id].wait_for("job_cancelled", job_id=job.id)["reason"] == "no more"
    assert sum(len(worker.records("job_cancelling")) for worker in workers) == 6
    db.wait(lambda: sum(len(worker.records("job_succeeded")) for worker in workers) == 1, "word of the obstinate one")
    assert not [record for worker in workers for record in worker.records("job_failed") + worker.records("job_lost")]
    # Their slots and connections are as good as new, and the queues are free.
    db.app.jobs.cancel(job.id for job in neighbours)
    db.wait_until_empty()
    after = [db.app.add_job("note", queue=task) for task in STOPPING]
    db.wait_for_effects(1 + len(after))
    assert [worker.stop() for worker in workers] == [0, 0]
    assert [len(worker.process_ids()) for worker in workers] == [1, 1]


def test_jobs_that_do_not_stop_go_with_their_process_and_their_neighbours_are_not_charged(
    db: Database, start_worker: StartWorker
) -> None:
    """Without notifications, so that heartbeats bring word."""
    tasks = ["wait_for_row", "watch", "block_loop", "sleep"]
    jobs = [db.app.add_job(task, {"permit": "go"}, max_attempts=1) for task in tasks]
    neighbour, watching, blocking, sleeping = (job.id for job in jobs)
    options = ("--processes", "1", "--concurrency", "4", "--job-grace", "0.2", "--no-listen")
    worker = start_worker(*options, modules=MODULES, env={"PGTASKS_STALE_AFTER": "2"})
    db.wait_for_effects(4, "began")
    for number, (stuck, left) in enumerate([(blocking, 3), (sleeping, 2)], start=1):
        db.app.jobs.cancel([stuck])
        assert worker.wait_for("jobs_overdue", count=number)["jobs"] == [stuck]
        error = worker.wait_for("job_cancelled", job_id=stuck)["error"]
        assert error.startswith("JobCancelledError: did not stop when asked to, so the process that ran it (pid ")
        db.wait(lambda left=left: db.count() == left, "the end of what was cancelled")  # type: ignore[misc]
        # All others have begun anew, in another process.
        db.wait_for_effects(4 + (3 if number == 1 else 5), "began")
    db.app.jobs.cancel([watching])
    db.wait_for_effects(1, "JobCancelledError('cancelled')")
    db.permit("go")
    db.wait_until_empty()
    assert db.effects() == [neighbour]
    assert worker.stop() == 0


def test_each_of_thousands_of_jobs_has_run_once_or_was_cancelled(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute(
        "select graphile_worker.add_job(case n %% 2 when 0 then 'note' else 'note_async' end,"
        " queue_name := case n %% 10 when 0 then 'q' end) from generate_series(1, %s) n",
        (JOBS,),
    )
    worker = start_worker("--processes", "2", modules=MODULES)
    db.wait_for_effects(JOBS // 20)
    told = {
        one.id: one.state
        for start in range(1, JOBS, JOBS // 50)
        for one in db.app.jobs.cancel(range(start, start + JOBS // 100))
    }
    db.wait_until_empty()
    assert worker.stop() == 0
    ran = Counter(db.effects())
    assert {ran[job_id] for job_id, state in told.items() if state == "removed"} <= {0}
    assert {ran[job_id] for job_id, state in told.items() if state == "stopping"} <= {0, 1}
    assert {ran[job_id] for job_id in range(1, JOBS + 1) if told.get(job_id, "unknown") == "unknown"} == {1}
    assert db.locked() == 0
    assert not worker.records("job_lost")


def claimed(task: str, number: int) -> Job:
    row = (number, "{}", 0, 0, 1, 25, None, 0, 0, None, 7, "worker", 0, None)
    return job_from_row(row, task, None)


def test_what_waits_for_a_thread_is_not_started_and_only_the_cancelled_ones_are_asked() -> None:
    app = App(registry=Registry(), database_url="")
    ended: list[Completion] = []
    running = threading.Barrier(3)
    go_on = threading.Event()
    seen: dict[int, str] = {}

    @app.task
    def work(ctx: JobContext) -> None:
        if ctx.job.id > 2:
            seen[ctx.job.id] = repr(ctx.abort.error)
            return
        running.wait(LONG)
        go_on.wait(LONG)
        seen[ctx.job.id] = repr(ctx.abort.error)
        ctx.abort.raise_if_set()

    async def run() -> None:
        slots = SlotTable.create(1, 2).of_process(0)
        executor = Executor(app, 2, slots, ended.extend, lambda: None, lambda: True, app.use_loop(), lambda *_: None)
        for number in (1, 2):
            executor.start(claimed("work", number))
        for number in (3, 4, 5):
            executor.hand_over(claimed("work", number))
        running.wait(LONG)
        errors = {(number, 7): JobCancelledError("no more") for number in (2, 4, 9)}
        assert [job.id for job in executor.withdraw(errors)] == [4]
        for _ in range(2):
            assert executor.cancel(errors) == {(2, 7)}
        assert sorted(executor.held_ids) == [1, 2, 3, 5]
        go_on.set()
        wait_until(lambda: len(seen) == 4, LONG, "all jobs")
        await executor.wait_for_all(LONG)
        assert not executor._cancelled
        assert not executor._unlimited._switch._errors

    asyncio.run(run())
    assert seen == {number: "JobCancelledError('no more')" if number == 2 else "None" for number in (1, 2, 3, 5)}
    assert {one.job.id: one.outcome for one in ended} == dict.fromkeys((1, 3, 5), SUCCESS) | {
        2: Outcome(OutcomeKind.CANCEL, "no more")
    }
