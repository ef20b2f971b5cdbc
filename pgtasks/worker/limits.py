"""Time limits, and how a running job is asked to stop.

At its `timeout`, or when somebody has cancelled it, a job is asked: its `ctx.abort` is set, an `async def` handler is
cancelled, and so are the statements on the connections that it has borrowed. What it raises from then on is the
consequence. A job that returns all the same has succeeded.

After its `grace` the supervisor kills the process: see `pgtasks.worker.deadlines`. It is told of that moment in the
slot table when the job starts, so that it needs nothing of a process whose event loop or interpreter stands still.

Jobs without a time limit share one `Run`, so that they cost nothing. Each has an `Abort` of its own all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.context import Abort, running
from pgtasks.database.loans import Loans, cancel_statements, current_loans
from pgtasks.errors import JobTimeoutError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    import contextvars

    from pgtasks.app import App
    from pgtasks.errors import JobAbortedError
    from pgtasks.job import Job
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

ReportProgress = Callable[["Job", float, "float | None", "str | None"], None]


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a task's jobs may run."""

    timeout: float
    """Seconds after which a job is asked to stop."""
    grace: float
    """Seconds that it has for that; infinite if it may take as long as it likes."""

    @property
    def error(self) -> JobTimeoutError:
        """What a job that has reached it fails with."""
        return JobTimeoutError(f"ran longer than {self.timeout:g} s")


def limits_of(app: App) -> dict[str, Limit]:
    """Return, by name, the limits of those tasks that have one."""
    settings = app.settings
    default_timeout = math.inf if settings.job_timeout is None else settings.job_timeout
    default_grace = math.inf if settings.job_grace is None else settings.job_grace
    limits = {}
    for task in app.registry:
        timeout = default_timeout if task.options.timeout is None else task.options.timeout
        grace = default_grace if task.options.grace is None else task.options.grace
        if timeout < math.inf:
            limits[task.name] = Limit(timeout, grace)
    return limits


class Run:
    """What it takes to ask a running job to stop; jobs without a limit share one.

    Args:
        context: what the job's own context is copied from.
        app: the application.
        report_progress: takes note of how far a job has got.
        deadline: when the job will be asked, by `time.monotonic`, if it has a limit.
    """

    __slots__ = ("_loans", "_switch", "app", "context", "deadline", "report_progress", "task")

    def __init__(
        self,
        context: contextvars.Context,
        app: App,
        report_progress: ReportProgress,
        deadline: float | None = None,
    ) -> None:
        self.app = app
        self.report_progress = report_progress
        self._switch = _Switch()
        self.deadline = deadline
        self._loans = Loans()
        self.context = context.copy()
        self.context.run(current_loans.set, self._loans)
        self.context.run(running.set, self)
        self.task: asyncio.Task[None] | None = None
        """The task that runs an `async def` handler, if the job has a limit."""

    def end(self) -> None:
        """Note, from any thread, that the handler has ended."""

    def ask_to_stop(self, error: JobAbortedError, job: Job | None = None) -> None:
        """Set `ctx.abort`, and have the server cancel what blocking handlers wait for. Does not block.

        Args:
            error: why.
            job: the one of its jobs that is asked; None: all are.
        """
        waiting = self._loans.recall(lambda: self._switch.turn_on(error, job), None if job is None else job.id)
        if waiting:
            # Without a thread it is left to the handler, and to the supervisor.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=cancel_statements, args=(waiting,), name="pgtasks-cancel", daemon=True).start()

    def abort_of(self, job: Job) -> Abort:
        """Return what a job's handler sees as `ctx.abort`."""
        return _JobAbort(self._switch, job)

    def error_of(self, job: Job) -> JobAbortedError | None:
        """Return over what a job was asked to stop, or None if it was not."""
        return self._switch.error_of(job)

    def leave(self, job: Job) -> None:
        """Leave nothing behind of a job that was asked to stop and has ended."""
        self._switch.forget(job)


class LimitedRun(Run):
    """The run of a job that has a time limit, from its start on."""

    __slots__ = ("_job", "_limit", "_on_timeout", "_slot", "_slots", "_timer")

    def __init__(
        self,
        context: contextvars.Context,
        app: App,
        report_progress: ReportProgress,
        limit: Limit,
        job: Job,
        slot: int,
        slots: ProcessSlots,
        on_timeout: Callable[..., None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        super().__init__(context, app, report_progress, now + limit.timeout)
        self._limit = limit
        self._on_timeout = on_timeout
        self._job = job
        self._slot = slot
        self._slots = slots
        if limit.grace < math.inf:
            slots.set_deadline(slot, now + limit.timeout + limit.grace, limit.timeout)
        self._timer = loop.call_later(limit.timeout, self._time_is_over, context=context)

    def end(self) -> None:
        """Note, from any thread, that the handler has ended: what happens from here on is not its fault."""
        self._slots.lift_deadline(self._slot)
        self.deadline = None

    def forget(self) -> None:
        """Leave nothing behind for the slot's next job."""
        self.end()
        self._timer.cancel()

    def is_of(self, job: Job) -> bool:
        """Whether it is the run of this job."""
        return self._job is job

    def _time_is_over(self) -> None:
        job = self._job
        if self.deadline is None or self.error_of(job) is not None:
            return
        log.warning(
            "job_timed_out",
            job_id=job.id,
            task=job.task,
            attempt=job.attempts,
            queue=job.queue,
            job_key=job.key,
            timeout=self._limit.timeout,
            message="asked to stop",
        )
        if self._on_timeout is not None:
            self._on_timeout(job=job, timeout=self._limit.timeout)
        self.ask_to_stop(self._limit.error)
        if self.task is not None:
            cancel_soon(self.task)


def cancel_soon(task: asyncio.Task[None]) -> None:
    """Cancel a task in the next turn of the loop.

    One that has only been created would otherwise end without having begun, and nobody would hear of its end.
    """
    asyncio.get_running_loop().call_soon(task.cancel)


class _Switch:
    """Asks the jobs of a run to stop: all of them, or one."""

    __slots__ = ("_changed", "_error", "_errors")

    def __init__(self) -> None:
        self._error: JobAbortedError | None = None
        self._errors: dict[tuple[int, int], JobAbortedError] = {}
        self._changed = threading.Condition()

    def error_of(self, job: Job) -> JobAbortedError | None:
        """Return why a job is asked to stop, or None if it is not."""
        if self._errors and (error := self._errors.get((job.id, job.locked_micros))) is not None:
            return error
        return self._error

    def turn_on(self, error: JobAbortedError, job: Job | None) -> None:
        """Ask a job, or all of them, unless that has been asked already."""
        with self._changed:
            if job is None:
                self._error = self._error or error
            elif self._error is None:
                self._errors.setdefault((job.id, job.locked_micros), error)
            self._changed.notify_all()

    def forget(self, job: Job) -> None:
        """Leave nothing behind of a job that has ended."""
        self._errors.pop((job.id, job.locked_micros), None)

    def wait(self, job: Job, timeout: float | None) -> bool:
        """Wait until a job is asked, for at most so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.error_of(job) is not None, timeout)


class _JobAbort(Abort):
    """The `Abort` of one job."""

    __slots__ = ("_job", "_switch")

    def __init__(self, switch: _Switch, job: Job) -> None:  # no more: one is made whenever `ctx.abort` is looked at
        self._switch = switch
        self._job = job

    @property
    def error(self) -> JobAbortedError | None:
        return self._switch.error_of(self._job)

    def is_set(self) -> bool:
        return self._switch.error_of(self._job) is not None

    def wait(self, timeout: float | None = None) -> bool:
        return self._switch.wait(self._job, timeout)
