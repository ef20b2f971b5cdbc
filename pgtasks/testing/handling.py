"""Running one job in the test itself, by what a worker runs it by."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pgtasks.context import Abort, JobTransaction, running
from pgtasks.flow import Decision
from pgtasks.job import SUCCESS, Job, Outcome, OutcomeKind
from pgtasks.logs import enter_job
from pgtasks.plugins import LoopDispatch
from pgtasks.progress import check_report
from pgtasks.worker.calling import (
    InvalidPayload,
    arguments,
    call,
    call_async,
    outcome_of_error,
    outcome_of_result,
    read_job,
)
from pgtasks.worker.decisions import read_decision
from pgtasks.worker.keeping import kept_by_task, result_json
from pgtasks.worker.limits import limits_of
from pgtasks.worker.transactions import (
    async_job_transaction,
    job_transaction,
    keep_in_async_transaction,
    keep_in_transaction,
    undo_unless_success,
    undone_by_us_alone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractContextManager

    from pgtasks.app import App
    from pgtasks.tasks import AnyTask


@dataclass(frozen=True)
class JobRun:
    """A job that has run, and what came of it."""

    job: Job
    """The job as its handler has seen it: `job.task`, `job.payload`, `job.attempts`."""
    outcome: Outcome
    """What the run came to: `outcome.kind`, and `outcome.error` if that is stored as `last_error`."""
    value: Any = None
    """What the handler has returned. A `Retry`, `Snooze`, `Cancel` or `Fail` that it has raised counts as returned."""
    error: BaseException | None = None
    """What else it has raised."""
    state: str | None = None
    """What then became of the job in the database: `deleted`, `retrying`, `failed`, `snoozed`, `superseded`, or `lost`
    if it was not there any more. None in eager mode, where there is no database."""
    progress: tuple[tuple[float, float | None, str | None], ...] = ()
    """What it has reported by `ctx.progress`: done, total and note of each call."""
    written: bool = field(default=False, repr=False)
    """Whether the job's own transaction has ended it."""
    result_json: str | None = field(default=None, repr=False)
    """What is stored of what it has returned, if its task stores that."""


def handle(app: App, job: Job, *, stored: bool) -> JobRun:
    """Run a job with a plain handler, in this thread.

    Args:
        app: the application.
        job: the job.
        stored: whether it is in the database; if not, a transactional task cannot end it.
    """
    run = contextvars.copy_context().run(_handle, app, job, stored)
    if _is_asked_about(app, run):
        run = asyncio.run(_decided(app, run))
    return run


async def handle_async(app: App, job: Job, *, stored: bool) -> JobRun:
    """Do what `handle` does for an `async def` handler, in a task of its own."""
    run = await asyncio.create_task(_handle_async(app, job, stored))
    return await _decided(app, run) if _is_asked_about(app, run) else run


class _Here:
    """What runs a job, for its context."""

    def __init__(self, app: App, task: AnyTask) -> None:
        limit = limits_of(app).get(task.name)
        self.app = app
        self.abort = Abort()
        self.deadline = None if limit is None or limit.timeout == math.inf else time.monotonic() + limit.timeout
        self.progress: list[tuple[float, float | None, str | None]] = []

    def abort_of(self, job: Job) -> Abort:
        """Return what tells whether the job is asked to stop, which it never is."""
        return self.abort

    def report_progress(self, job: Job, done: float, total: float | None, note: str | None) -> None:
        """Take note of how far it has got."""
        check_report(done, total, note)
        self.progress.append((done, total, note))


def _handle(app: App, job: Job, stored: bool) -> JobRun:
    task = app.registry[job.task]
    here, outcome, seen, value, kept = _Here(app, task), SUCCESS, job, None, None
    running.set(here)
    enter_job(job)
    try:
        seen, payload = read_job(task, job, app.codec)
        with _transaction(app, job, task, stored) as connection:
            with _own(connection) as own, app.hooks.wrap("job_context", job=seen, task=task):
                value = call(task, arguments(task, seen, payload, here, own))
            outcome = outcome_of_result(task, seen, payload, value, app.codec)
            if outcome is SUCCESS and task.options.store_result:
                kept = result_json(task, value, app.codec)
            if connection is not None:
                undo_unless_success(outcome)
                if kept is not None and stored:
                    keep_in_transaction(app, connection, job, kept, kept_by_task(app)[task.name])
    except BaseException as error:  # noqa: BLE001 - whatever is raised is that job's failure
        return _failed(task, seen, error, here)
    return _ended(task, seen, outcome, value, here, kept)


async def _handle_async(app: App, job: Job, stored: bool) -> JobRun:
    task = app.registry[job.task]
    here, outcome, seen, value, kept = _Here(app, task), SUCCESS, job, None, None
    running.set(here)
    enter_job(job)
    try:
        seen, payload = read_job(task, job, app.codec)
        async with _transaction_async(app, job, task, stored) as connection:
            with _own(connection) as own, app.hooks.wrap("job_context", job=seen, task=task):
                value = await call_async(task, arguments(task, seen, payload, here, own))
            outcome = outcome_of_result(task, seen, payload, value, app.codec)
            if outcome is SUCCESS and task.options.store_result:
                kept = result_json(task, value, app.codec)
            if connection is not None:
                undo_unless_success(outcome)
                if kept is not None and stored:
                    await keep_in_async_transaction(app, connection, job, kept, kept_by_task(app)[task.name])
    except BaseException as error:  # noqa: BLE001 - whatever is raised is that job's failure
        return _failed(task, seen, error, here)
    return _ended(task, seen, outcome, value, here, kept)


def _own(connection: Any) -> AbstractContextManager[JobTransaction | None]:
    return nullcontext() if connection is None else JobTransaction(connection)


@contextmanager
def _transaction(app: App, job: Job, task: AnyTask, stored: bool) -> Iterator[Any]:
    if not task.options.transactional:
        yield None
    elif stored:
        with job_transaction(app, job) as connection:
            yield connection
    else:
        with app.connection() as connection, connection.transaction(), undone_by_us_alone():
            yield connection


@asynccontextmanager
async def _transaction_async(app: App, job: Job, task: AnyTask, stored: bool) -> AsyncIterator[Any]:
    if not task.options.transactional:
        yield None
    elif stored:
        async with async_job_transaction(app, job) as connection:
            yield connection
    else:
        async with app.async_connection() as connection, connection.transaction():
            with undone_by_us_alone():
                yield connection


def _ended(task: AnyTask, job: Job, outcome: Outcome, value: Any, here: _Here, kept: str | None) -> JobRun:
    written = task.options.transactional and outcome is SUCCESS
    return JobRun(job, outcome, value, progress=tuple(here.progress), written=written, result_json=kept)


def _failed(task: AnyTask, job: Job, error: BaseException, here: _Here) -> JobRun:
    if isinstance(error, InvalidPayload):
        outcome, raised = error.outcome, error.__context__
    else:
        outcome, raised = outcome_of_error(task, job, error, None), error
    progress = tuple(here.progress)
    if isinstance(raised, Decision):
        return JobRun(job, outcome, raised, progress=progress)
    return JobRun(job, outcome, error=raised, progress=progress)


def _is_asked_about(app: App, run: JobRun) -> bool:
    """Whether plugins decide about a job that has failed."""
    failed = run.outcome.kind in (OutcomeKind.RETRY, OutcomeKind.FAIL)
    return failed and run.error is not None and app.hooks.has("retry_decision")


async def _decided(app: App, run: JobRun) -> JobRun:
    hooks = LoopDispatch(app.hooks, limit=app.settings.hook_timeout)
    error = run.outcome.error or ""
    decision = await hooks.decide_async("retry_decision", read_decision, job=run.job, exception=run.error, error=error)
    return run if decision is None else replace(run, outcome=decision.outcome(error))
