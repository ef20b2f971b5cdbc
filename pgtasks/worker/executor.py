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
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pgtasks.context import JobContext
from pgtasks.errors import PayloadError
from pgtasks.job import RETURN, SUCCESS, Completion, Outcome, OutcomeKind
from pgtasks.logs import get_logger, job_context
from pgtasks.worker.failure import describe
from pgtasks.worker.transactions import async_job_transaction, job_transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.app import App
    from pgtasks.job import Job
    from pgtasks.tasks import AnyTask
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_Start = tuple[int, "Job", "AnyTask"]


class Executor:
    """Runs up to `concurrency` jobs at a time and calls `on_ended` in the loop's thread for each that ended."""

    def __init__(
        self,
        app: App,
        concurrency: int,
        slots: ProcessSlots,
        on_ended: Callable[[list[Completion]], None],
    ) -> None:
        self._app = app
        self._slots = slots
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        # Each job starts from the context of the process, so that no context variable leaks from one into another.
        self._context = contextvars.copy_context()
        self._free = list(range(concurrency - 1, -1, -1))
        self._running: dict[int, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = _Threads(concurrency, self._run_in_context)
        self._ended: deque[tuple[int, Completion]] = deque()
        self._collecting = False
        self._aborting = False

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
        self._slots.take(slot, job)
        task = self._app.registry[job.task]
        try:
            _ = job.payload  # decoded here, once
        except PayloadError as error:
            # No later attempt would read it either.
            self._end(slot, Completion(job, Outcome(OutcomeKind.FAIL, describe(error))))
            return
        if task.is_async:
            running = self._loop.create_task(self._run_async(slot, job, task), context=self._context.copy())
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)
        else:
            try:
                self._threads.submit((slot, job, task))
            except RuntimeError as error:
                # No thread can be had, and there is none: it is not the job's fault.
                log.error("no_thread", error=str(error))  # noqa: TRY400 - nothing to learn from our own stack
                self._end(slot, Completion(job, RETURN))

    async def cancel(self, seconds: float) -> None:
        """Cancel the jobs of `async def` handlers and wait so long for them to end; they go back without a charge."""
        self._aborting = True
        if self._tasks:
            for running in self._tasks:
                running.cancel()
            await asyncio.wait(self._tasks, timeout=seconds)
        self._collect()

    def _run_in_context(self, start: _Start) -> None:
        self._context.copy().run(self._run_plain, start)

    def _run_plain(self, start: _Start) -> None:
        slot, job, task = start
        transactional = task.options.transactional
        began = time.monotonic()
        with job_context(job_id=job.id, task=job.task, attempt=job.attempts, queue=job.queue, job_key=job.key):
            try:
                if transactional:
                    with job_transaction(self._app, job) as connection:
                        _call(task, _arguments(task, job, connection))
                else:
                    _call(task, _arguments(task, job))
                outcome = SUCCESS
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is that job's failure
                outcome = Outcome(OutcomeKind.RETRY, describe(error))
        written = transactional and outcome is SUCCESS
        self._end(slot, Completion(job, outcome, time.monotonic() - began, written))

    async def _run_async(self, slot: int, job: Job, task: AnyTask) -> None:
        transactional = task.options.transactional
        began = time.monotonic()
        with job_context(job_id=job.id, task=job.task, attempt=job.attempts, queue=job.queue, job_key=job.key):
            try:
                if transactional:
                    async with async_job_transaction(self._app, job) as connection:
                        await task.handler(*_arguments(task, job, connection))
                else:
                    await task.handler(*_arguments(task, job))
                outcome = SUCCESS
            except BaseException as error:  # noqa: BLE001 - whatever a handler raises is that job's failure
                if self._aborting and isinstance(error, asyncio.CancelledError):
                    outcome = RETURN
                else:
                    outcome = Outcome(OutcomeKind.RETRY, describe(error))
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
            completions.append(completion)
        if completions:
            self._on_ended(completions)


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


def _arguments(task: AnyTask, job: Job, connection: Any = None) -> tuple[Any, ...]:
    if task.takes_context:
        context = JobContext(job, connection)
        return (job.payload, context) if task.takes_payload else (context,)
    return (job.payload,) if task.takes_payload else ()


def _call(task: AnyTask, arguments: tuple[Any, ...]) -> None:
    result = task.handler(*arguments)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"Task {task.name!r} returned a coroutine that nobody awaits; declare it with `async def`")
