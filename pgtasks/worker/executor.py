"""Running handlers: a job goes in, an outcome comes out. Nothing here touches SQL.

A transactional task's success is the exception: its own transaction has told the database already.

`async def` handlers run as tasks of the event loop, plain functions in threads. Each running job has a slot, and there
are `concurrency` of them in all. Threads hand their outcomes over through a deque, and wake the loop once for as many
as have come together.

A thread need not wait for the loop between two jobs: what is handed over to the threads they start by themselves, each
in the slot that it has, as soon as the job before has succeeded. So short jobs cost few changes of threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from pgtasks.context import JobTransaction
from pgtasks.errors import JobAbortedError, JobTimeoutError
from pgtasks.job import RETURN, SUCCESS, Completion, OutcomeKind
from pgtasks.logs import enter_job, get_logger
from pgtasks.worker.calling import (
    InvalidPayload,
    arguments,
    call,
    call_async,
    outcome_of_error,
    outcome_of_result,
    read_job,
)
from pgtasks.worker.keeping import kept_by_task, result_json
from pgtasks.worker.limits import LimitedRun, Run, cancel_soon, limits_of
from pgtasks.worker.transactions import (
    async_job_transaction,
    job_transaction,
    keep_in_async_transaction,
    keep_in_transaction,
    leaves_unanswered,
    undo_unless_success,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pgtasks.app import App
    from pgtasks.errors import JobCancelledError
    from pgtasks.job import Job, Outcome
    from pgtasks.plugins import LoopDispatch
    from pgtasks.tasks import AnyTask
    from pgtasks.worker.limits import ReportProgress
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_Start = tuple[int, "Job", Run, "AnyTask | None"]

_TOLD_OF_EXCEPTIONS = ("retry_decision", "job_retrying", "job_failed", "job_aborted", "job_finished")
"""Hooks for which what a handler has raised is kept until its end is written, with all that its traceback holds."""


class Executor:
    """Runs up to `concurrency` jobs at a time and calls `on_ended` in the loop's thread for each that ended.

    It calls `on_no_thread` if a job cannot run since the system gives no thread. Threads ask `may_start`, before they
    start a job by themselves, whether this process may still start any. `hooks` are those of plugins. How far jobs have
    got is told to `report_progress`, in the job's own thread.
    """

    def __init__(
        self,
        app: App,
        concurrency: int,
        slots: ProcessSlots,
        on_ended: Callable[[list[Completion]], None],
        on_no_thread: Callable[[], None],
        may_start: Callable[[], bool],
        hooks: LoopDispatch,
        report_progress: ReportProgress,
    ) -> None:
        self._app = app
        self._report_progress = report_progress
        self._slots = slots
        self._on_ended = on_ended
        self._on_no_thread = on_no_thread
        self._may_start = may_start
        self._loop = asyncio.get_running_loop()
        # Each job starts from the context of the process, so that no context variable leaks from one into another.
        self._context = contextvars.copy_context()
        self._hooks = hooks
        self._codec = app.codec
        self._keep = kept_by_task(app)
        self._on_started = hooks.observer("job_started")
        self._on_timeout = hooks.observer("job_timed_out")
        self._wraps = hooks.has("job_context")
        self._hooked = self._wraps or self._on_started is not None
        self._keeps_exceptions = any(map(hooks.has, _TOLD_OF_EXCEPTIONS))
        self._unlimited = Run(self._context, self._app, self._report_progress)
        self._limited: dict[int, LimitedRun] = {}
        self._cancelled: dict[tuple[int, int], Run] = {}
        """The claims of jobs that are asked to stop since somebody has cancelled them, and what runs these."""
        self._limits = limits_of(app)
        self._for_threads = {task.name for task in app.registry if not task.is_async} - self._limits.keys()
        self._concurrency = concurrency
        self._free = list(range(concurrency - 1, -1, -1))
        self._ready: deque[Job] = deque()
        self._held: dict[int, Job] = {}
        """All jobs that were started or handed over and not collected, by what only they have in this process."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """Those that run coroutines, by slot, until they are collected."""
        self._threads = _Threads(concurrency, self._run_in_thread)
        self._ended: deque[tuple[int | None, Completion]] = deque()
        self._collecting = False
        self._waiting_for_all: asyncio.Future[None] | None = None

    @property
    def free(self) -> int:
        """How many slots have no job."""
        return len(self._free)

    @property
    def running(self) -> int:
        """How many slots have one."""
        return self._concurrency - len(self._free)

    @property
    def ready(self) -> int:
        """How many jobs that were handed over have not been started."""
        return len(self._ready)

    @property
    def held_ids(self) -> list[int]:
        """The ids of the jobs that run, or were handed over."""
        return [job.id for job in self._held.values()]

    def start(self, job: Job, instead: AnyTask | None = None) -> None:
        """Run `job` in a free slot: with the handler of its task, or that of another one."""
        self._held[id(job)] = job
        slot = self._free.pop()
        run = self._unlimited
        if self._limits and (limit := self._limits.get(job.task)) is not None:
            run = self._limited[slot] = LimitedRun(
                self._context, self._app, self._report_progress, limit, job, slot, self._slots, self._on_timeout
            )
        self._slots.take(slot, job)
        task = instead or self._app.registry[job.task]
        if task.is_async:
            running = self._loop.create_task(self._run_async(slot, job, task, run), context=run.context.copy())
            self._tasks[slot] = running
            if run.deadline is not None:
                run.task = running
        else:
            try:
                self._threads.submit((slot, job, run, instead))
            except RuntimeError as error:
                # No thread can be had, and there is none: it is not the job's fault.
                log.error("no_thread", error=str(error))  # noqa: TRY400 - nothing to learn from our own stack
                self._end(slot, Completion(job, RETURN, ran=False))
                self._on_no_thread()

    def takes(self, job: Job) -> bool:
        """Whether `job` can be handed over: it needs a thread, and nothing that the loop does when a job starts."""
        return job.task in self._for_threads

    def hand_over(self, job: Job) -> None:
        """Leave `job` to the threads, now that all slots are taken."""
        self._held[id(job)] = job
        self._ready.append(job)

    def next_ready(self) -> Job | None:
        """Take the first job that was handed over and has not been started, in any thread."""
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    def take_back(self) -> list[Job]:
        """Return what was handed over and has not been started, and start none of it."""
        jobs = []
        while (job := self.next_ready()) is not None:
            del self._held[id(job)]
            jobs.append(job)
        return jobs

    def ask_to_stop(self, reason: str) -> None:
        """Ask all running jobs to stop. Those that do, by raising something, go back without a charge.

        Jobs that are started afterwards are not concerned.

        Args:
            reason: what handlers are told, in the error of `ctx.abort`.
        """
        error = JobAbortedError(reason)
        asked, self._unlimited = self._unlimited, Run(self._context, self._app, self._report_progress)
        for run in (asked, *self._limited.values()):
            run.ask_to_stop(error)
        for running in self._tasks.values():
            cancel_soon(running)

    def withdraw(self, claims: Collection[tuple[int, int]]) -> list[Job]:
        """Return those of these jobs that were handed over and have not been started, and start them no more."""
        if not any((job.id, job.locked_micros) in claims for job in self._held.values()):
            return []
        withdrawn = []
        for job in self.take_back():
            if (job.id, job.locked_micros) in claims:
                withdrawn.append(job)
            else:
                self.hand_over(job)
        return withdrawn

    def cancel(self, errors: Mapping[tuple[int, int], JobCancelledError]) -> set[tuple[int, int]]:
        """Ask jobs to stop that somebody has cancelled; returns those that run here, by their claims.

        To be called after `withdraw`, and as often as one likes.
        """
        found = set()
        for job in self._held.values():
            claim = job.id, job.locked_micros
            if claim not in errors:
                continue
            found.add(claim)
            if claim in self._cancelled:
                continue
            run = next((run for run in self._limited.values() if run.is_of(job)), self._unlimited)
            self._cancelled[claim] = run
            log.info(
                "job_cancelling",
                job_id=job.id,
                task=job.task,
                attempt=job.attempts,
                queue=job.queue,
                job_key=job.key,
                reason=str(errors[claim]),
            )
            if run.error_of(job) is not None:
                continue  # over its time limit: what cleans up behind it must not be interrupted once more
            run.ask_to_stop(errors[claim], job)
            slot = self._slots.slot_of(job)
            if slot is not None and (running := self._tasks.get(slot)) is not None:
                cancel_soon(running)
        return found

    async def wait_for_all(self, seconds: float) -> None:
        """Wait until no job runs any more, or so many seconds."""
        if self.running:
            self._waiting_for_all = self._loop.create_future()
            await asyncio.wait([self._waiting_for_all], timeout=seconds)
        self._collect()

    def _run_in_thread(self, start: _Start) -> None:
        """Run a job, and then what was handed over, until there is none or a job has not succeeded."""
        slot, job, run, instead = start
        while True:
            task = instead or self._app.registry[job.task]
            completion: Completion = run.context.copy().run(self._run_plain, job, task, run)
            # The slot remembers a failure until it is written, in case this process dies.
            following = self._take_ready() if completion.outcome is SUCCESS else None
            if following is None:
                self._end(slot, completion)
                return
            self._slots.leave(slot)
            self._slots.take(slot, following)
            self._end(None, completion)
            job, run, instead = following, self._unlimited, None

    def _take_ready(self) -> Job | None:
        return self.next_ready() if self._ready and self._may_start() else None

    def _run_plain(self, job: Job, task: AnyTask, run: Run) -> Completion:
        transactional = task.options.transactional
        kept = None
        enter_job(job)
        began = time.monotonic()
        try:
            seen, payload = read_job(task, job, self._codec)
            if seen is not job:
                enter_job(seen)  # so that `current_job` gives it as the handler sees it
            if transactional:
                outcome = self._run_in_transaction(seen, task, payload, run)
            else:
                given = arguments(task, seen, payload, run)
                result = self._call(seen, task, given) if self._hooked else call(task, given)
                outcome = SUCCESS if result is None else self._outcome_of(task, seen, payload, result, run)
                if self._keep and outcome is SUCCESS and job.task in self._keep:
                    kept = result_json(task, result, self._codec)
        except BaseException as error:  # noqa: BLE001 - whatever is raised is that job's failure
            return self._failure(job, task, run, error, began)
        if run.deadline is not None:
            run.end()
        written = transactional and outcome is SUCCESS
        completion = Completion(job, outcome, time.monotonic() - began, written, began)
        return completion if kept is None else completion._replace(result_json=kept)

    def _run_in_transaction(self, job: Job, task: AnyTask, payload: Any, run: Run) -> Outcome:
        outcome = SUCCESS
        with job_transaction(self._app, job) as connection:
            with JobTransaction(connection) as own:
                result = self._call(job, task, arguments(task, job, payload, run, own))
            if result is not None:
                outcome = self._outcome_of(task, job, payload, result, run)
                undo_unless_success(outcome)
            if job.task in self._keep:
                kept = result_json(task, result, self._codec)
                keep_in_transaction(self._app, connection, job, kept, self._keep[job.task])
        return outcome

    def _failure(self, job: Job, task: AnyTask, run: Run, error: BaseException, began: float) -> Completion:
        raised: Any = error
        if issubclass(type(error), InvalidPayload):  # which asks nothing of the error itself, whatever it is
            outcome, raised = raised.outcome, None  # the handler has not been called
        else:
            outcome = outcome_of_error(task, job, error, run.error_of(job))
        if run.deadline is not None:
            run.end()
        seconds = time.monotonic() - began
        timed_out = isinstance(run.error_of(job), JobTimeoutError)
        return Completion(
            job,
            outcome,
            seconds,
            False,
            began,
            raised if self._keeps_exceptions else None,
            timed_out=timed_out,
            unanswered=task.options.transactional and leaves_unanswered(error),
        )

    def _outcome_of(self, task: AnyTask, job: Job, payload: Any, result: Any, run: Run) -> Outcome:
        return outcome_of_result(task, job, payload, result, self._codec, run.error_of(job))

    def _call(self, job: Job, task: AnyTask, arguments: tuple[Any, ...]) -> Any:
        """Call a plain handler, with what plugins have around it."""
        if self._on_started is not None:
            self._on_started(job=job)
        if not self._wraps:
            return call(task, arguments)
        with self._hooks.wrap("job_context", job=job, task=task):
            return call(task, arguments)

    async def _call_async(self, job: Job, task: AnyTask, arguments: tuple[Any, ...]) -> Any:
        if self._on_started is not None:
            self._on_started(job=job)
        if not self._wraps:
            return await call_async(task, arguments)
        with self._hooks.wrap("job_context", job=job, task=task):
            return await call_async(task, arguments)

    async def _run_async(self, slot: int, job: Job, task: AnyTask, run: Run) -> None:
        transactional = task.options.transactional
        kept = None
        enter_job(job)
        began = time.monotonic()
        try:
            seen, payload = read_job(task, job, self._codec)
            if seen is not job:
                enter_job(seen)  # so that `current_job` gives it as the handler sees it
            if transactional:
                outcome = await self._run_in_async_transaction(seen, task, payload, run)
            else:
                given = arguments(task, seen, payload, run)
                result = await (self._call_async(seen, task, given) if self._hooked else call_async(task, given))
                outcome = SUCCESS if result is None else self._outcome_of(task, seen, payload, result, run)
                if self._keep and outcome is SUCCESS and job.task in self._keep:
                    kept = result_json(task, result, self._codec)
        except BaseException as error:  # noqa: BLE001 - whatever is raised is that job's failure
            self._end(slot, self._failure(job, task, run, error, began))
            return
        if run.deadline is not None:
            run.end()
        written = transactional and outcome is SUCCESS
        completion = Completion(job, outcome, time.monotonic() - began, written, began)
        self._end(slot, completion if kept is None else completion._replace(result_json=kept))

    async def _run_in_async_transaction(self, job: Job, task: AnyTask, payload: Any, run: Run) -> Outcome:
        outcome = SUCCESS
        async with async_job_transaction(self._app, job) as connection:
            with JobTransaction(connection) as own:
                result = await self._call_async(job, task, arguments(task, job, payload, run, own))
            if result is not None:
                outcome = self._outcome_of(task, job, payload, result, run)
                undo_unless_success(outcome)
            if job.task in self._keep:
                kept = result_json(task, result, self._codec)
                await keep_in_async_transaction(self._app, connection, job, kept, self._keep[job.task])
        return outcome

    def _end(self, slot: int | None, completion: Completion) -> None:
        """Hand a completion over to the loop, from any thread, and the slot, unless that has its next job."""
        self._ended.append((slot, completion))
        # Two threads may both find the flag down, which costs one call too many; `_collect` puts it down before it
        # empties the deque, so none is ever missed.
        if not self._collecting:
            self._collecting = True
            self._loop.call_soon_threadsafe(self._collect, context=self._context)

    def _collect(self) -> None:
        self._collecting = False
        completions = []
        ended, held = self._ended, self._held
        while ended:
            slot, completion = ended.popleft()
            del held[id(completion.job)]
            if slot is not None:
                self._slots.leave(slot, failed=completion.outcome.kind is OutcomeKind.RETRY)
                self._free.append(slot)
                if self._tasks:
                    self._tasks.pop(slot, None)
                if self._limited and (run := self._limited.pop(slot, None)) is not None:
                    run.forget()
            completions.append(completion)
        if self._cancelled:
            self._forget_cancelled(completions)
        if completions:
            self._on_ended(completions)
        if self._waiting_for_all is not None and not (self.running or self._waiting_for_all.done()):
            self._waiting_for_all.set_result(None)

    def _forget_cancelled(self, completions: Iterable[Completion]) -> None:
        for completion in completions:
            job = completion.job
            if (run := self._cancelled.pop((job.id, job.locked_micros), None)) is not None:
                run.leave(job)


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
