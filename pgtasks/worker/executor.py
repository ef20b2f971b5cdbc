"""Running handlers: a job goes in, an outcome comes out. Nothing here touches SQL.

A transactional task's success is the exception: its own transaction has told the database already.

`async def` handlers run as tasks of the event loop, plain functions in threads. Each running job has a slot, and there
are `concurrency` of them in all. Slots are taken and left in the loop's thread only; threads hand their outcomes over
through a deque, and wake the loop once for as many as have come together.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pgtasks.context import JobContext
from pgtasks.errors import JobAbortedError, PayloadError
from pgtasks.job import RETURN, SUCCESS, Completion, Outcome, OutcomeKind
from pgtasks.logs import get_logger, job_context
from pgtasks.worker.failure import describe
from pgtasks.worker.forked import end_forked_child
from pgtasks.worker.limits import LimitedRun, Run, cancel_soon, limits_of
from pgtasks.worker.transactions import async_job_transaction, job_transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.app import App
    from pgtasks.job import Job
    from pgtasks.tasks import AnyTask
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")
_task_log = get_logger("pgtasks.task")

_Start = tuple[int, "Job", "AnyTask", Run]


class Executor:
    """Runs up to `concurrency` jobs at a time and calls `on_ended` in the loop's thread for each that ended.

    It calls `on_no_thread` if a job cannot run since the system gives no thread.
    """

    def __init__(
        self,
        app: App,
        concurrency: int,
        slots: ProcessSlots,
        on_ended: Callable[[list[Completion]], None],
        on_no_thread: Callable[[], None],
    ) -> None:
        self._app = app
        self._slots = slots
        self._on_ended = on_ended
        self._on_no_thread = on_no_thread
        self._loop = asyncio.get_running_loop()
        # Each job starts from the context of the process, so that no context variable leaks from one into another.
        self._context = contextvars.copy_context()
        self._unlimited = Run(self._context)
        self._limited: dict[int, LimitedRun] = {}
        self._limits = limits_of(app)
        self._free = list(range(concurrency - 1, -1, -1))
        self._running: dict[int, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = _Threads(concurrency, self._run_in_context)
        self._ended: deque[tuple[int, Completion]] = deque()
        self._collecting = False
        self._waiting_for_all: asyncio.Future[None] | None = None

    @property
    def free(self) -> int:
        """How many slots have no job."""
        return len(self._free)

    @property
    def running(self) -> int:
        """How many slots have one."""
        return len(self._running)

    @property
    def running_ids(self) -> list[int]:
        """The ids of the jobs that run."""
        return [job.id for job in self._running.values()]

    def start(self, job: Job) -> None:
        """Run `job` in a free slot."""
        slot = self._free.pop()
        self._running[slot] = job
        task = self._app.registry[job.task]
        run = self._unlimited
        if self._limits and (limit := self._limits.get(job.task)) is not None:
            run = self._limited[slot] = LimitedRun(self._context, limit, job, slot, self._slots)
        self._slots.take(slot, job)
        try:
            _ = job.payload  # decoded here, once
        except PayloadError as error:
            # No later attempt would read it either.
            self._end(slot, Completion(job, Outcome(OutcomeKind.FAIL, describe(error))))
            return
        if task.is_async:
            running = self._loop.create_task(self._run_async(slot, job, task, run), context=run.context.copy())
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)
            if run.deadline is not None:
                run.task = running
        else:
            try:
                self._threads.submit((slot, job, task, run))
            except RuntimeError as error:
                # No thread can be had, and there is none: it is not the job's fault.
                log.error("no_thread", error=str(error))  # noqa: TRY400 - nothing to learn from our own stack
                self._end(slot, Completion(job, RETURN))
                self._on_no_thread()

    def ask_to_stop(self, reason: str) -> None:
        """Ask all running jobs to stop. Those that do, by raising something, go back without a charge.

        Jobs that are started afterwards are not concerned.

        Args:
            reason: what handlers are told, in the error of `ctx.abort`.
        """
        error = JobAbortedError(reason)
        asked, self._unlimited = self._unlimited, Run(self._context)
        for run in (asked, *self._limited.values()):
            run.ask_to_stop(error)
        for running in self._tasks:
            cancel_soon(running)

    async def wait_for_all(self, seconds: float) -> None:
        """Wait until no job runs any more, or so many seconds."""
        if self._running:
            self._waiting_for_all = self._loop.create_future()
            await asyncio.wait([self._waiting_for_all], timeout=seconds)
        self._collect()

    def _run_in_context(self, start: _Start) -> None:
        start[3].context.copy().run(self._run_plain, start)

    def _run_plain(self, start: _Start) -> None:
        slot, job, task, run = start
        transactional = task.options.transactional
        began = time.monotonic()
        with job_context(job_id=job.id, task=job.task, attempt=job.attempts, queue=job.queue, job_key=job.key):
            try:
                if transactional:
                    with job_transaction(self._app, job) as connection:
                        _call(task, _arguments(task, job, run, connection))
                else:
                    _call(task, _arguments(task, job, run))
                outcome = SUCCESS
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is that job's failure
                outcome = run.outcome_of(error)
        if run.deadline is not None:
            run.end()
        written = transactional and outcome is SUCCESS
        self._end(slot, Completion(job, outcome, time.monotonic() - began, written))

    async def _run_async(self, slot: int, job: Job, task: AnyTask, run: Run) -> None:
        transactional = task.options.transactional
        began = time.monotonic()
        with job_context(job_id=job.id, task=job.task, attempt=job.attempts, queue=job.queue, job_key=job.key):
            try:
                if transactional:
                    async with async_job_transaction(self._app, job) as connection:
                        await _call_async(task, _arguments(task, job, run, connection))
                else:
                    await _call_async(task, _arguments(task, job, run))
                outcome = SUCCESS
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is that job's failure
                outcome = run.outcome_of(error)
        if run.deadline is not None:
            run.end()
        written = transactional and outcome is SUCCESS
        self._end(slot, Completion(job, outcome, time.monotonic() - began, written))

    def _end(self, slot: int, completion: Completion) -> None:
        """Hand a completion over to the loop, from any thread."""
        self._ended.append((slot, completion))
        # Two threads may both find the flag down, which costs one call too many; `_collect` puts it down before it
        # empties the deque, so none is ever missed.
        if not self._collecting:
            self._collecting = True
            self._loop.call_soon_threadsafe(self._collect, context=self._context)

    def _collect(self) -> None:
        self._collecting = False
        completions = []
        while self._ended:
            slot, completion = self._ended.popleft()
            self._slots.leave(slot, failed=completion.outcome.kind is OutcomeKind.RETRY)
            del self._running[slot]
            self._free.append(slot)
            if self._limited and (run := self._limited.pop(slot, None)) is not None:
                run.forget()
            completions.append(completion)
        if completions:
            self._on_ended(completions)
        if self._waiting_for_all is not None and not (self._running or self._waiting_for_all.done()):
            self._waiting_for_all.set_result(None)


class _Threads:
    """Daemon threads that run plain functions: as many as are needed at a time, and no more than `most`."""

    def __init__(self, most: int, run: Callable[[_Start], None]) -> None:
        self._most = most
        self._run = run
        self._queue: SimpleQueue[_Start] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    def submit(self, start: _Start) -> None:
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            name = f"pgtasks-job-{self._started + 1}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except RuntimeError:
                if not self._started:
                    raise
                # The system gives no more threads; those that there are will come to it.
            else:
                self._started += 1
        self._queue.put(start)

    def _work(self) -> None:
        while True:
            self._run(self._queue.get())
            self._idle.release()


def _arguments(task: AnyTask, job: Job, run: Run, connection: Any = None) -> tuple[Any, ...]:
    if task.takes_context:
        context = JobContext(job, connection, _task_log, run.abort, run.deadline)
        return (job.payload, context) if task.takes_payload else (context,)
    return (job.payload,) if task.takes_payload else ()


def _call(task: AnyTask, arguments: tuple[Any, ...]) -> None:
    pid = os.getpid()
    try:
        result = task.handler(*arguments)
    finally:
        if os.getpid() != pid:
            end_forked_child()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"Task {task.name!r} returned a coroutine that nobody awaits; declare it with `async def`")


async def _call_async(task: AnyTask, arguments: tuple[Any, ...]) -> None:
    pid = os.getpid()
    try:
        await task.handler(*arguments)
    finally:
        if os.getpid() != pid:
            end_forked_child()
