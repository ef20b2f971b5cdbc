"""Tests run jobs themselves, as a worker would, and let time pass as they like."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import (
    App,
    Cancel,
    JobContext,
    JobOptionError,
    JobWaitTimeoutError,
    PayloadError,
    PgtasksError,
    Registry,
    Retry,
    Snooze,
    current_job,
    task,
)
from pgtasks.plugins import hookimpl
from pgtasks.testing import advance, assert_deferred, deferred_jobs, run_jobs, run_jobs_async, use_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeApp = Callable[..., App]

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@task(name="running_mail")
def mail(*, to: str, on: dt.date = dt.date(2031, 2, 3)) -> str:
    seen.append((to, on, threading.get_ident(), current_job().attempt))
    return f"mailed {to}"


@task(name="running_sign_up")
async def sign_up(payload: str, ctx: JobContext) -> None:
    ctx.progress(1, 2, "half")
    await mail.defer_async({"to": payload}, priority=-1)
    await asyncio.sleep(0)
    seen.append((payload, ctx.job.id))


@task(name="running_charge", max_attempts=3, retry=[60, 600], store_result=True)
def charge(payload: int) -> int:
    seen.append(payload)
    if payload < 0:
        raise ValueError("no money")
    return payload


@task(name="running_forget", transactional=True, store_result=True)
def forget(payload: list[int]) -> Any:
    return [payload[0], Cancel("there is no such item")]


@task(name="running_wait")
def wait(ctx: JobContext) -> object:
    seen.append(ctx.attempt)
    if len(seen) == 1:
        return Snooze(60)
    if len(seen) == 2:
        raise Retry(delay=60, reason="not yet")
    return None


@task(name="running_class")
def say(payload: str) -> object:
    return Retry if payload == "retry" else Snooze


@task(name="running_again")
def again() -> None:
    again.defer()


@task(name="running_stock", transactional=True)
def stock(payload: int, ctx: JobContext) -> None:
    ctx.transaction.execute("insert into stock values (%s)", [payload])
    if payload < 0:
        raise ValueError("less than nothing")
    mail.defer({"to": "ada"})


@task(name="running_fail")
def fail(ctx: JobContext) -> None:
    with ctx.connection() as connection:
        connection.execute("insert into stock values (99)")
        connection.execute("no SQL")


@task(name="running_fail_async")
async def fail_async(ctx: JobContext) -> None:
    async with ctx.async_connection() as connection:
        await connection.execute("no SQL")


def test_a_decision_may_be_returned_as_a_class_as_it_may_be_raised(pgtasks_jobs: App) -> None:
    say.defer_many(["retry", "snooze"])
    run_jobs(raise_errors=False)
    asked, wrong = [job.last_error or "" for job in deferred_jobs(say)]
    assert asked == "the task asked for another attempt"
    assert "Snooze(…): say when the job runs" in wrong


def test_jobs_run_in_order_with_what_they_add_until_there_is_none(pgtasks_jobs: App) -> None:
    sign_up.defer("ada@example.com")
    charge.defer(7, delay=60)
    first, second = run_jobs()
    assert (first.job.task, first.value, first.state, first.progress) == (
        "running_sign_up",
        None,
        "deleted",
        ((1, 2, "half"),),
    )
    assert (second.job.payload, second.value) == ({"to": "ada@example.com"}, "mailed ada@example.com")
    assert seen == [
        ("ada@example.com", first.job.id),
        ("ada@example.com", dt.date(2031, 2, 3), threading.get_ident(), 1),
    ]
    assert run_jobs() == []
    assert_deferred(charge, 7, count=1)


def test_what_a_handler_raises_is_raised_when_the_job_has_failed_and_time_passes_as_it_is_told(
    pgtasks_jobs: App,
) -> None:
    charge.defer(-1)
    with pytest.raises(ValueError, match=r"^no money$"):
        run_jobs()
    (job,) = deferred_jobs(charge)
    assert (job.attempts, str(job.last_error).splitlines()[0]) == (1, "ValueError: no money")
    assert run_jobs() == []
    advance(seconds=59)
    assert run_jobs() == []
    advance(seconds=1)
    (run,) = run_jobs(raise_errors=False)
    assert (str(run.error), run.state, run.job.attempts) == ("no money", "retrying", 2)
    assert run_jobs(within=dt.timedelta(minutes=9)) == []
    (run,) = run_jobs(within=dt.timedelta(minutes=1), raise_errors=False)
    assert run.state == "failed"
    assert run_jobs(within=dt.timedelta(days=1)) == []


def test_what_a_handler_says_of_its_job_is_no_error(pgtasks_jobs: App) -> None:
    wait.defer()
    wait.defer(delay=90)
    runs = run_jobs(within=dt.timedelta(minutes=5))
    assert [(run.value, run.state, run.job.attempts) for run in runs] == [
        (Snooze(60), "snoozed", 1),
        (Retry(60, reason="not yet"), "retrying", 1),
        (None, "deleted", 1),
        (None, "deleted", 2),
    ]
    assert [run.job.id - runs[0].job.id for run in runs] == [0, 0, 1, 0]


def test_it_can_be_said_which_jobs_run(pgtasks_jobs: App) -> None:
    for number in range(3):
        charge.defer(number)
        charge.defer(10 + number, queue="bank")
    mail.defer({"to": "ada"})
    assert [run.value for run in run_jobs(queue="bank", limit=2)] == [10, 11]
    assert [run.value for run in run_jobs(tasks=["running_mail"])] == ["mailed ada"]
    assert [run.value for run in run_jobs(tasks=[charge])] == [0, 1, 2, 12]
    with pytest.raises(PgtasksError, match="'running_mial' is not registered; did you mean 'running_mail'"):
        run_jobs(tasks=["running_mial"])
    with pytest.raises(TypeError, match="must be a list; write tasks="):
        run_jobs(tasks=mail)  # type: ignore[arg-type]


def test_jobs_that_add_each_other_for_ever_are_noticed(pgtasks_jobs: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtasks.testing.running._MOST_RUNS", 20)
    again.defer()
    with pytest.raises(PgtasksError, match="20 jobs have run, 20 of them of task 'running_again', and job"):
        run_jobs(tasks=[again])
    (job,) = deferred_jobs(again)
    assert (job.attempts, job.locked_by) == (0, None)


def test_a_payload_that_the_handler_does_not_take_fails_the_job_and_is_raised(pgtasks_jobs: App) -> None:
    with pgtasks_jobs.connection() as connection:
        connection.execute("select graphile_worker.add_job('running_charge', '\"much\"')")
    with pytest.raises(PayloadError, match="'running_charge'"):
        run_jobs()
    (job,) = deferred_jobs(charge)
    assert job.attempts == job.max_attempts


def test_jobs_in_the_transaction_of_the_test_run_in_it(pgtasks_jobs: App, pgtasks_database: str) -> None:
    with psycopg.connect(pgtasks_database) as connection:
        connection.execute("create table stock (number int)")
        for number in (1, -1):
            stock.defer(number, connection=connection)
        fail.defer(connection=connection, max_attempts=1)
        runs = run_jobs(connection=connection, raise_errors=False)
        assert [(run.job.task, run.state) for run in runs] == [
            ("running_stock", "deleted"),
            ("running_stock", "retrying"),
            ("running_fail", "failed"),
            ("running_mail", "deleted"),
        ]
        assert connection.execute("select number from stock").fetchall() == [(1,)]
        advance(hours=1, connection=connection)
        with pytest.raises(ValueError, match="less than nothing"):
            run_jobs(connection=connection)
        assert run_jobs() == []  # where nothing is committed
        connection.rollback()
    assert deferred_jobs() == []


def test_results_of_jobs_that_have_run_can_be_had(pgtasks_jobs: App, pgtasks_database: str) -> None:
    job = charge.defer(5)
    run_jobs()
    assert job.wait(10) == 5
    forgetful = forget.defer([1, 2])
    run_jobs()
    assert forgetful.wait(10) is None
    with psycopg.connect(pgtasks_database) as connection, use_connection(connection):
        job = charge.defer(6)
        with pytest.raises(JobWaitTimeoutError, match="use run_jobs first"):
            job.wait()
        run_jobs()
        assert job.wait() == 6
        connection.rollback()


def test_jobs_run_from_asyncio_code_in_its_event_loop_and_in_its_transaction(
    pgtasks_jobs: App, pgtasks_database: str
) -> None:
    async def run() -> None:
        with pytest.raises(PgtasksError, match=r"await run_jobs_async\(\)"):
            run_jobs()
        await sign_up.defer_async("ada")
        first, second = await run_jobs_async()
        assert (first.job.task, second.value) == ("running_sign_up", "mailed ada")
        assert seen[-1][2] != threading.get_ident()  # a plain handler must not hold up the loop
        async with await psycopg.AsyncConnection.connect(pgtasks_database) as connection:
            await fail_async.defer_async(connection=connection)
            await sign_up.defer_async("bob", connection=connection)
            runs = await run_jobs_async(connection=connection, tasks=[fail_async, sign_up], raise_errors=False)
            assert [run.state for run in runs] == ["retrying", "deleted"]
            await connection.rollback()

    asyncio.run(run())
    assert deferred_jobs() == []


class _Plugin:
    @hookimpl
    @contextmanager
    def job_context(self, job: Any) -> Iterator[None]:
        seen.append("begin")
        try:
            yield
        finally:
            seen.append("end")

    @hookimpl
    async def retry_decision(self, exception: BaseException) -> object:
        await asyncio.sleep(0)
        return Snooze(5) if isinstance(exception, OSError) else None


def test_plugins_are_round_the_job_and_decide_about_failures(pgtasks_app: MakeApp) -> None:
    app = pgtasks_app(plugins=[_Plugin()], registry=Registry())

    @app.task
    def call(payload: str) -> None:
        seen.append(payload)
        raise OSError(payload)

    call.defer("hello")
    (run,) = run_jobs(app=app, raise_errors=False)
    assert (run.state, seen) == ("snoozed", ["begin", "hello", "end"])
    call.defer("bye")
    with pytest.raises(OSError, match="bye"):
        run_jobs(app=app)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_that_undoes_its_transaction_without_saying_what_then_has_failed(
    pgtasks_app: MakeApp, is_async: bool
) -> None:
    app = pgtasks_app()

    def undo(payload: None) -> None:
        raise psycopg.Rollback

    async def undo_async(payload: None) -> None:
        raise psycopg.Rollback

    handler: Any = undo_async if is_async else undo
    app.task(name="undo", transactional=True)(handler).defer(None)
    (run,) = run_jobs(app=app, raise_errors=False)
    assert run.state == "retrying"
    assert "RuntimeError: the handler has raised psycopg.Rollback" in str(run.outcome.error)


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_has_left_running_has_no_part_in_its_transaction(pgtasks_app: MakeApp, is_async: bool) -> None:
    app = pgtasks_app()

    def leave(payload: None, ctx: JobContext) -> None:
        seen.extend((ctx, ctx.transaction, contextvars.copy_context()))

    async def leave_async(payload: None, ctx: JobContext) -> None:
        leave(payload, ctx)

    handler: Any = leave_async if is_async else leave
    app.task(name="leave", transactional=True)(handler).defer(None)
    run_jobs(app=app)
    ctx, _, context = seen
    for late in (ctx, context.run(current_job)):
        with pytest.raises(JobOptionError, match=rf"^the handler of job {ctx.job.id} has ended"):
            _ = late.transaction
