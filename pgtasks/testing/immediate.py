"""Jobs that run where they are added, at once: for tests that need no queue and no database."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import functools
import itertools
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pgtasks.app import App
from pgtasks.codec import encode
from pgtasks.errors import JobWaitTimeoutError, PgtasksError
from pgtasks.job import OutcomeKind
from pgtasks.queue.bulk import Rules
from pgtasks.queue.rows import DEFAULT_MAX_ATTEMPTS
from pgtasks.queue.waits import End
from pgtasks.testing.elsewhere import is_in_loop
from pgtasks.testing.handling import JobRun, handle, handle_async
from pgtasks.testing.making import make_job

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from pgtasks.job import Job, JobSpec

_DEEPEST: Final = 50
"""How many jobs may run inside of each other."""
_LONGEST_DELAY: Final = 3e9
"""Seconds, about a hundred years."""
_STATES: Final = {
    OutcomeKind.SUCCESS: "succeeded",
    OutcomeKind.CANCEL: "cancelled",
    OutcomeKind.FAIL: "failed",
}
_depth: Final[ContextVar[int]] = ContextVar("pgtasks_eager_depth", default=0)


@dataclass(frozen=True)
class EagerJobs:
    """What has become of the jobs that were added in eager mode."""

    runs: list[JobRun] = field(default_factory=list)
    """Those that have run, in the order in which they ended."""
    later: list[Job] = field(default_factory=list)
    """Those that were added for a later time, or that have asked to run again; they do not run."""


@contextmanager
def eager(app: App | None = None) -> Iterator[EagerJobs]:
    """Have jobs run where they are added, before `defer` returns, for as long as a block lasts.

    The payload is checked and goes through JSON, as on its way to a worker, and the handler gets a context. What it
    raises, `defer` raises, and nothing is tried again. A plain handler runs in the thread of the caller, or of its own
    where the caller awaits `defer_async`.

    There is no queue. A job with a `run_at` in the future or a `delay`, or one that asks to run again by `Retry` or
    `Snooze`, is put into a list instead, and does not run. Keys, queues, priorities and flags are checked and change
    nothing. `connection` is not looked at: the job runs before the caller's transaction commits, and whether it does
    or not. Transactional tasks need the App's database, and nothing else does.

    Args:
        app: the App whose jobs; by default those of all that there are.

    Examples:
        ```python
        def test_who_signs_up_gets_a_mail(outbox):
            with eager() as jobs:
                sign_up("ada@example.com")
            assert outbox == ["ada@example.com"]
            assert [run.job.task for run in jobs.runs] == ["send_email"]
        ```
    """
    mode = _Eager()
    with ExitStack() as stack:
        for method in (mode.add_spec, mode.add_spec_async, mode.add_many, mode.add_many_async):
            stack.enter_context(_replaced(app, method.__name__, method))
        yield mode.jobs


class _Eager:
    """What takes the place of the methods by which an App adds jobs."""

    def __init__(self) -> None:
        self.jobs = EagerJobs()
        self._ids = itertools.count(1)

    def add_spec(self, app: App, spec: JobSpec, connection: Any = None, *, notify: bool = True) -> Job:
        """Add one job."""
        job = self._job(app, app.outgoing.spec(spec))
        self._tell(app, [job])
        self._run(app, job)
        return job

    async def add_spec_async(self, app: App, spec: JobSpec, connection: Any = None, *, notify: bool = True) -> Job:
        """Add one job."""
        job = self._job(app, app.outgoing.spec(spec))
        self._tell(app, [job])
        await self._run_async(app, job)
        return job

    def add_many(
        self, app: App, jobs: Iterable[Any], template: JobSpec | None, connection: Any, *, notify: bool, returning: bool
    ) -> Sequence[Job] | int:
        """Add jobs that are given as specs, or as payloads of jobs like the template: all, or on an error none."""
        added = self._jobs(app, list(jobs), template)
        for job in added:
            self._run(app, job)
        return added if returning else len(added)

    async def add_many_async(
        self,
        app: App,
        jobs: Iterable[Any] | AsyncIterable[Any],
        template: JobSpec | None,
        connection: Any,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Do what `add_many` does; the jobs may come from an asynchronous iterable, too."""
        given = [job async for job in jobs] if isinstance(jobs, AsyncIterable) else list(jobs)
        added = self._jobs(app, given, template)
        for job in added:
            await self._run_async(app, job)
        return added if returning else len(added)

    def _jobs(self, app: App, given: list[Any], template: JobSpec | None) -> list[Job]:
        rules = Rules(template)
        specs = []
        for number, job in enumerate(app.outgoing.jobs(given, template)):
            spec = rules.spec_of(job, number)
            specs.append(spec if spec is job else replace(spec, payload=job))
        added = [self._job(app, spec) for spec in specs]
        self._tell(app, added)
        return added

    def _job(self, app: App, spec: JobSpec) -> Job:
        """Return the job as it would be added, to be waited for as if it had been."""
        now = dt.datetime.now(dt.UTC)
        delay = dt.timedelta(seconds=min(spec.delay_seconds or 0, _LONGEST_DELAY))
        job = make_job(
            spec.task,
            id=next(self._ids),
            payload_json="{}" if spec.payload is None else encode(spec.payload, f"payload of task {spec.task!r}"),
            queue=spec.queue,
            key=spec.job_key,
            priority=spec.priority or 0,
            max_attempts=spec.max_attempts or DEFAULT_MAX_ATTEMPTS,
            flags=tuple(sorted(set(spec.flags or ()))),
            run_at=spec.run_at or now + delay,
            created_at=now,
            updated_at=now,
            attempts=0,
            locked_at=None,
            locked_by=None,
        )
        job.__dict__["_app"] = _Ends(app, self.jobs)
        return job

    def _tell(self, app: App, jobs: Sequence[Job]) -> None:
        if app.outgoing.after is not None:
            app.outgoing.after(jobs=jobs)

    def _run(self, app: App, job: Job) -> None:
        if (claimed := self._claimed(app, job)) is not None:
            with _deeper(job):
                if not app.registry[job.task].is_async:
                    run = handle(app, claimed, stored=False)
                elif is_in_loop():  # which waits here, as for any blocking call
                    run = _in_thread(handle_async(app, claimed, stored=False))
                else:
                    run = asyncio.run(handle_async(app, claimed, stored=False))
            self._take(run)

    async def _run_async(self, app: App, job: Job) -> None:
        if (claimed := self._claimed(app, job)) is not None:
            with _deeper(job):
                if app.registry[job.task].is_async:
                    run = await handle_async(app, claimed, stored=False)
                else:
                    run = await asyncio.to_thread(handle, app, claimed, stored=False)
            self._take(run)

    def _claimed(self, app: App, job: Job) -> Job | None:
        """Return the job as a worker has it, or None if it is for later."""
        _ = app.registry[job.task]  # complains of one that there is not
        if job.run_at > dt.datetime.now(dt.UTC):
            self.jobs.later.append(job)
            return None
        return replace(job, attempts=1, locked_at=job.created_at, locked_by="eager")

    def _take(self, run: JobRun) -> None:
        self.jobs.runs.append(run)
        if run.error is not None:
            raise run.error
        if run.outcome.kind in (OutcomeKind.RETRY, OutcomeKind.SNOOZE):
            self.jobs.later.append(run.job)


class _Ends:
    """What gives the results of jobs that have run already."""

    def __init__(self, app: App, jobs: EagerJobs) -> None:
        self._app = app
        self._jobs = jobs

    def wait_for(self, job: Job, timeout: dt.timedelta | float | None) -> Any:
        """Return a job's result."""
        run = next((run for run in self._jobs.runs if run.job.id == job.id), None)
        if run is None or run.outcome.kind not in _STATES:
            raise JobWaitTimeoutError(f"job {job.id} has not ended: in eager mode no job runs at a later time")
        value = None if run.result_json is None else run.result_json.encode()
        return self._app.result_of(End(job.id, _STATES[run.outcome.kind], job.task, value, run.outcome.error))

    async def wait_for_async(self, job: Job, timeout: dt.timedelta | float | None) -> Any:
        """Do what `wait_for` does."""
        return self.wait_for(job, timeout)


def _in_thread(coroutine: Coroutine[Any, Any, JobRun]) -> JobRun:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


@contextmanager
def _deeper(job: Job) -> Iterator[None]:
    depth = _depth.get()
    if depth >= _DEEPEST:
        raise PgtasksError(
            f"{depth} jobs run inside of each other, and the innermost has added one of task {job.task!r}: they would "
            "go on adding each other for ever. Use run_jobs, which runs them one after the other"
        )
    token = _depth.set(depth + 1)
    try:
        yield
    finally:
        _depth.reset(token)


@contextmanager
def _replaced(app: App | None, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Have a method of an App, or of all, be another one."""
    owner: Any = App if app is None else app
    before = vars(owner).get(name)
    setattr(owner, name, _Method(method) if app is None else functools.partial(method, app))
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)  # so that it is what it is inherited as
        else:
            setattr(owner, name, before)


class _Method:
    """A function that is called with the App as its first argument."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, app: App, _owner: type[App]) -> Callable[..., Any]:
        return functools.partial(self._function, app)
