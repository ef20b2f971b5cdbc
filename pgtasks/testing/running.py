"""Running jobs in the test itself: claimed, run and finished as a worker does it, one after the other."""

from __future__ import annotations

import asyncio
import contextvars
import os
import secrets
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pgtasks.app import App, current_app
from pgtasks.database import Operation
from pgtasks.errors import PgtasksError, did_you_mean
from pgtasks.job import RETURN, Completion
from pgtasks.queue.claim import claim_jobs
from pgtasks.queue.finish import finish_and_keep, finish_jobs
from pgtasks.tasks import Task
from pgtasks.testing.clock import move_time, next_due, seconds_of
from pgtasks.testing.deferred import name_of
from pgtasks.testing.elsewhere import is_in_loop, outliving_errors, outliving_errors_async, use_connection
from pgtasks.testing.handling import handle, handle_async
from pgtasks.worker.keeping import kept_by_task

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Coroutine, Sequence

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.job import Job
    from pgtasks.tasks import AnyTask
    from pgtasks.testing.handling import JobRun

T = TypeVar("T")

_MOST_RUNS: Final = 1000
"""How many jobs run in one call that has no limit."""
_ALWAYS_RAISED: Final = (KeyboardInterrupt, asyncio.CancelledError)
"""What is meant for the test rather than for the job."""
_INSTANT: Final = 1e-6
"""Seconds, the least that PostgreSQL's times can differ by."""


@dataclass(frozen=True)
class _Plan:
    tasks: tuple[str, ...]
    queue: str | None
    limit: int | None
    left: float | None
    """Seconds that may pass."""
    raise_errors: bool
    worker_id: str


_Steps = Generator["Operation[Any] | Job", Any, list["JobRun"]]
"""Gives operations and gets their results, and gives jobs and gets what came of running them."""


def run_jobs(
    *,
    tasks: Iterable[AnyTask | str] | None = None,
    queue: str | None = None,
    limit: int | None = None,
    within: dt.timedelta | None = None,
    raise_errors: bool = True,
    app: App | None = None,
    connection: BlockingConnection | None = None,
) -> list[JobRun]:
    """Run jobs in this process, one after the other, until none can run any more.

    Each is claimed, run and finished by the same statements and the same code as in a worker, in the same order, and
    jobs that are added meanwhile run too. Plain handlers run in the thread of the caller, `async def` ones in an event
    loop of this call. There is no worker beside it: see the page for what is missing.

    Args:
        tasks: only jobs of these tasks, or of the tasks of these names; by default of all that the App has.
        queue: only jobs of this queue.
        limit: the most jobs to run.
        within: how much time may pass: when none can run any more, time goes on to when the next one can, as `advance`
            does it, and in the end to that moment.
        raise_errors: whether to raise what a handler raises, as soon as the database has been told as a worker would
            tell it. What handlers raise or return to say what becomes of their job (`Retry`, `Snooze`, `Cancel`,
            `Fail`) is no error.
        app: whose jobs; by default those of the App that `pgtasks.task` uses.
        connection: a connection as `defer` takes it. Everything is then done on it, in whatever transaction is open
            there, whatever handlers do through the App included.

    Returns:
        What has run, in order.

    Raises:
        PgtasksError: 1000 jobs have run without a limit, and there are more: they may be adding each other for ever.

    Examples:
        ```python
        def test_who_signs_up_gets_a_mail(pgtasks_jobs, outbox):
            sign_up("ada@example.com")
            (run,) = run_jobs()
            assert run.job.task == "send_email"
            assert outbox == ["ada@example.com"]
        ```
    """
    __tracebackhide__ = True
    if is_in_loop():
        raise PgtasksError("an event loop runs here: write `await run_jobs_async()`")
    app = app or current_app()
    steps = _steps(app, _plan(app, tasks, queue, limit, within, raise_errors))
    with ExitStack() as stack:
        if connection is not None:
            stack.enter_context(use_connection(connection))
        runner = _LazyRunner(stack)
        reply: Any = None
        try:
            while True:
                step = steps.send(reply)
                if isinstance(step, Operation):
                    reply = app.run(step)
                    continue
                with outliving_errors(app):
                    if app.registry[step.task].is_async:
                        reply = runner.run(handle_async(app, step, stored=True))
                    else:
                        reply = handle(app, step, stored=True)
        except StopIteration as end:
            runs: list[JobRun] = end.value
            return runs


async def run_jobs_async(
    *,
    tasks: Iterable[AnyTask | str] | None = None,
    queue: str | None = None,
    limit: int | None = None,
    within: dt.timedelta | None = None,
    raise_errors: bool = True,
    app: App | None = None,
    connection: AsyncConnection | None = None,
) -> list[JobRun]:
    """Do what `run_jobs` does, from asyncio code: `async def` handlers run in its event loop, plain ones in a thread.

    `connection` is one of asyncio's.
    """
    __tracebackhide__ = True
    app = app or current_app()
    steps = _steps(app, _plan(app, tasks, queue, limit, within, raise_errors))
    with use_connection(connection) if connection is not None else nullcontext():
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                runs: list[JobRun] = end.value
                return runs
            if isinstance(step, Operation):
                reply = await app.run_async(step)
                continue
            async with outliving_errors_async(app):
                if app.registry[step.task].is_async:
                    reply = await handle_async(app, step, stored=True)
                else:
                    reply = await asyncio.to_thread(handle, app, step, stored=True)


class _LazyRunner:
    """An event loop for the `async def` handlers of one call, made for the first of them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            self._runner = self._stack.enter_context(asyncio.Runner())
        return self._runner.run(coroutine, context=contextvars.copy_context())


def _plan(
    app: App,
    tasks: Iterable[AnyTask | str] | None,
    queue: str | None,
    limit: int | None,
    within: dt.timedelta | None,
    raise_errors: bool,
) -> _Plan:
    if isinstance(tasks, str | Task):
        raise TypeError(f"tasks={tasks!r} must be a list; write tasks=[{tasks!r}]")
    known = app.registry.names
    names = known if tasks is None else [name_of(task) for task in tasks]
    for name in names:
        if name not in known:
            raise PgtasksError(f"Task {name!r} is not registered{did_you_mean(name, known)}")
    return _Plan(
        tasks=tuple(names),
        queue=queue,
        limit=limit,
        left=None if within is None else seconds_of(within),
        raise_errors=raise_errors,
        worker_id=f"test-{os.getpid()}-{secrets.token_hex(4)}",
    )


def _steps(app: App, plan: _Plan) -> _Steps:
    runs: list[JobRun] = []
    left = plan.left
    while plan.limit is None or len(runs) < plan.limit:
        job = yield from _claim(app, plan)
        if job is None:
            if left is None:
                break
            due = yield next_due(app.statements, plan.tasks, plan.queue)
            passed = min(due + _INSTANT, left)  # or the text of an interval might fall short of it
            yield move_time(app.statements, passed)
            left = None if passed == left else left - passed
            continue
        if plan.limit is None and len(runs) == _MOST_RUNS:
            yield finish_jobs(app.statements, plan.worker_id, [(job.claim, RETURN)])
            raise PgtasksError(_endless(job, runs))
        run: JobRun = yield job
        state = "deleted"
        if not run.written:
            end = Completion(job, run.outcome, result_json=run.result_json)
            states = yield finish_and_keep(app.statements, plan.worker_id, [end], kept_by_task(app), quickly=False)
            state = states.get(job.id, "lost")
        runs.append(replace(run, state=state))
        if run.error is not None and (plan.raise_errors or isinstance(run.error, _ALWAYS_RAISED)):
            raise run.error
    return runs


def _claim(app: App, plan: _Plan) -> Generator[Operation[Any], Any, Job | None]:
    """Claim the next job of the plan's; what comes before it and is of another queue goes back."""
    others: list[Job] = []
    found: Job | None = None
    while found is None:
        claimed = yield claim_jobs(app.statements, plan.worker_id, plan.tasks, (), 1, 1)
        if not claimed.jobs:
            break
        if plan.queue in (None, claimed.jobs[0].queue):
            found = claimed.jobs[0]
        else:
            others.append(claimed.jobs[0])
    if others:
        yield finish_jobs(app.statements, plan.worker_id, [(job.claim, RETURN) for job in others])
    return found


def _endless(job: Job, runs: Sequence[JobRun]) -> str:
    task, count = Counter(run.job.task for run in runs).most_common(1)[0]
    return (
        f"{len(runs)} jobs have run, {count} of them of task {task!r}, and job {job.id} of task {job.task!r} is next: "
        f"they may be adding each other for ever. If so many are to run, give a limit: run_jobs(limit=…)"
    )
