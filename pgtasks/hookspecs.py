"""The hook contract: every hook that a plugin may implement, and what happens with its answers.

A plugin is a module, an object or a class with functions that are marked with `@hookimpl` and named like a hook. A
function takes those of the hook's arguments that it needs, by name. Hooks come in five kinds:

    collect   all implementations are called, and their answers are joined
    observe   told and not asked: in a thread of the plugin's own, in order, after the fact; whatever it does, the job
              goes on
    decide    asked one after the other until one answers something other than None
    change    a value goes through all of them; each may answer another one
    wrap      a context manager round the job, entered in the job's own thread or task

The plugin that was loaded last is called first; `@hookimpl(tryfirst=True)` and `trylast=True` change that.

An *isolated* hook cannot do harm: an implementation that raises, answers nonsense or takes longer than its time is
named in the log once (`hook_failed`), its answer is left out, and the others are called. After three failures in a row
it is left alone for 30 seconds (`hook_disabled`). One that is not isolated is part of what calls it: its error is the
caller's.

Where a hook may be asynchronous, implementations may be `async def` or plain. Plain ones that are asked something are
called in a thread, so that they cannot hold up the event loop. Where it may not, `async def` is refused when the plugin
is loaded.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pluggy

from pgtasks.hookdata import Role

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import click
    from psycopg.abc import Query

    from pgtasks.cron.entry import CronEntry
    from pgtasks.cron.ticks import CronTick
    from pgtasks.flow import Cancel, Decision, Fail, Snooze
    from pgtasks.hookdata import (
        Application,
        Check,
        ClaimPlan,
        ForbiddenFlags,
        HostInfo,
        JobEnd,
        LostJob,
        Metric,
        Migration,
        PayloadCodec,
        ProcessInfo,
    )
    from pgtasks.job import Job, JobSpec
    from pgtasks.tasks import AnyTask

PROJECT: Final = "pgtasks"
"""Name of the markers and of the entry-point group."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as the implementation of the hook that it is named like."""

_hookspec = pluggy.HookspecMarker(PROJECT)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Kind(enum.StrEnum):
    """What is done with the answers; see the head of this module."""

    COLLECT = "collect"
    OBSERVE = "observe"
    DECIDE = "decide"
    CHANGE = "change"
    WRAP = "wrap"


@dataclass(frozen=True, slots=True)
class Hook:
    """What is known of a hook beside its signature and its documentation."""

    name: str
    kind: Kind
    roles: tuple[Role, ...]
    """In which processes it is called."""
    asynchronous: bool
    """Whether implementations may be `async def`."""
    isolated: bool
    """Whether what it does wrong is kept from whoever calls it."""


HOOKS: Final[dict[str, Hook]] = {}
"""All hooks by name, in the order of this file."""

_ALL = tuple(Role)


def hook(
    kind: Kind, *roles: Role, asynchronous: bool = False, isolated: bool = True
) -> Callable[[_Function], _Function]:
    """Declare a hook: the function's signature and docstring are its contract."""

    def declare(function: _Function) -> _Function:
        HOOKS[function.__name__] = Hook(function.__name__, kind, roles, asynchronous, isolated)
        return _hookspec(function)

    return declare


# Loading: in every process


@hook(Kind.COLLECT, *_ALL, isolated=False)
def configure(app: Application) -> bool | None:
    """Called once in a process, when all plugins are registered and before anything is done.

    The place to read the plugin's settings. An error keeps the process from starting. A plugin that has nothing to do
    in this process answers False: then no other hook of it is called.

    Example:
        @hookimpl
        def configure(self, app):
            self.settings = app.plugin_settings("shop", ShopSettings)
    """


@hook(Kind.OBSERVE, Role.PRODUCER, Role.COMMAND, Role.WORKER, isolated=False)
def register_tasks(app: Application) -> None:
    """Called once, after `configure`: the place to add tasks of the plugin's own to `app.registry`.

    Not called in the supervisor, which runs no jobs and knows no functions.

    Example:
        @hookimpl
        def register_tasks(self, app):
            app.task(name="shop.cleanup")(cleanup)
    """


@hook(Kind.COLLECT, Role.COMMAND, isolated=False)
def register_commands() -> Sequence[click.Command]:
    """Return commands that `pgtasks` is to have beside its own, under names that no other plugin's have either.

    Called before `configure`, and only for `pgtasks --help`, for a command that is not one of pgtasks' own, and when a
    shell completes one. So it costs other commands nothing, and must not need settings.

    A command (its own function, or that of a group's command) is called after `configure`, with the `App` as the
    context's object, whose role is `command`: `@click.pass_obj` gives it. Its database is looked for, an embedded
    server started, when it is first used, and closed at the end of the command. `--database-url` and `--schema` are
    added to the command's options and have had their effect on the App; a command with options of the same names has
    its own instead.

    Errors of pgtasks' and psycopg's are shown in one line; so is `click.ClickException`. Any other is shown with its
    traceback, as a bug of the plugin.

    Example:
        @click.command(help="Show how many visits there were.")
        @click.option("--days", default=7)
        @click.pass_obj
        def visits(app, days):
            with app.connection() as connection:
                ...


        @hookimpl
        def register_commands(self):
            return [visits]
    """


@hook(Kind.COLLECT, Role.COMMAND, Role.SUPERVISOR, isolated=False)
def register_migrations() -> Sequence[Migration]:
    """Return the steps of the plugin's own tables, which `pgtasks migrate` and a starting worker apply.

    Tables are named `_pgtasks_<plugin>_…`. Each step runs once, in a transaction of its own, in order.

    Example:
        @hookimpl
        def register_migrations(self):
            return [Migration(1, "create table {schema}._pgtasks_shop_visits (at timestamptz not null)")]
    """


@hook(Kind.COLLECT, Role.COMMAND, Role.WORKER, isolated=False)
def register_cron(app: Application) -> Sequence[CronEntry]:
    """Return entries that are scheduled beside those of crontabs and of the application's code.

    Called when the application is loaded, after `register_tasks`. The supervisor schedules what is answered, and calls
    none of these functions itself. Each entry needs an id that no other has.

    Example:
        @hookimpl
        def register_cron(self, app):
            return [CronEntry(id="nightly", task="shop.cleanup", schedule=Schedule("@daily"), source="plugin shop")]
    """


@hook(Kind.COLLECT, Role.COMMAND, isolated=False)
def register_checks(app: Application) -> Sequence[Check]:
    """Return checks that `pgtasks doctor` makes beside its own.

    Example:
        @hookimpl
        def register_checks(self, app):
            return [visits_are_recent]
    """


@hook(Kind.DECIDE, Role.SUPERVISOR, Role.WORKER, isolated=False)
def setup_logging(level: str, format: str) -> bool | None:  # noqa: A002 - as the setting is called
    """Configure logging of a worker's processes, and answer True: then pgtasks leaves it alone.

    Called after `configure`. What is logged before goes pgtasks' own way.

    Example:
        @hookimpl
        def setup_logging(self, level, format):
            logging.config.dictConfig(LOGGING)
            return True
    """


@hook(Kind.COLLECT, *_ALL, isolated=False)
def prepare_connection(app: Application) -> Sequence[Query]:
    """Return statements that every new connection of the application's and of workers' pools begins with.

    They run in autocommit mode. One that fails makes the connection count as one that could not be made.

    Example:
        @hookimpl
        def prepare_connection(self, app):
            return ["set role shop_worker"]
    """


# Adding jobs: in whatever process does it, in the caller's thread


@hook(Kind.CHANGE, *_ALL, isolated=False)
def before_defer(specs: Sequence[JobSpec]) -> Sequence[JobSpec] | None:
    """Called with jobs that are about to be added from Python; may answer other specs, or refuse by raising an error.

    A call of `defer_many` may come in several parts. The error is raised to the caller, and nothing is added. Runs in
    the caller's thread, which waits for it. As many specs have to be answered as were given.

    Example:
        @hookimpl
        def before_defer(self, specs):
            return [replace(spec, flags=(*(spec.flags or ()), "shop")) for spec in specs]
    """


@hook(Kind.OBSERVE, *_ALL)
def after_defer(jobs: Sequence[Job]) -> None:
    """Told of jobs that were added from Python, in a transaction that may not have committed yet.

    Those of a call with `returning=False` are not told.

    Example:
        @hookimpl
        def after_defer(self, jobs):
            self.added += len(jobs)
    """


@hook(Kind.DECIDE, *_ALL, isolated=False)
def payload_codec(app: Application) -> PayloadCodec | None:
    """Answer what payloads are encoded and decoded with, for all tasks. Asked once in a process.

    Programs that add jobs and workers need the same one. Hooks that are called before a job runs see its payload as it
    is stored. What a codec raises when a job is run fails that job for good.

    Example:
        @hookimpl
        def payload_codec(self, app):
            return Encrypted(self.settings.key)
    """


# The supervisor


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def supervisor_ready(app: Application, host: HostInfo) -> None:
    """Told when a worker starts, before its processes do.

    Example:
        @hookimpl
        def supervisor_ready(self, app, host):
            start_http_server(9000)
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def worker_spawned(process: ProcessInfo) -> None:
    """Told of each worker process that was started.

    Example:
        @hookimpl
        def worker_spawned(self, process):
            self.processes[process.worker_id] = process.pid
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def worker_exited(process: ProcessInfo, code: int) -> None:
    """Told of the end of each worker process; `code` is its exit code or, negative, the signal that killed it.

    Example:
        @hookimpl
        def worker_exited(self, process, code):
            self.processes.pop(process.worker_id)
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def on_worker_lost(process: ProcessInfo, code: int, reason: str, jobs: Sequence[LostJob]) -> None:
    """Told, after `worker_exited`, of a process that has died over its jobs, and which it was running.

    Example:
        @hookimpl
        async def on_worker_lost(self, process, reason, jobs):
            await page(f"{process.worker_id} died with {len(jobs)} jobs: {reason}")
    """


@hook(Kind.DECIDE, Role.SUPERVISOR, asynchronous=True)
def recover_job(lost: LostJob) -> Decision | None:
    """Asked what is to become of a job that was running in a process that has died. By default it is charged.

    Example:
        @hookimpl
        def recover_job(self, lost):
            return Fail("took its process down") if self.deaths(lost.job_id) > 2 else None
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def jobs_recovered(worker_id: str, charged: int, returned: int) -> None:
    """Told when the database has taken back all that a process held that has ended otherwise than by draining.

    Example:
        @hookimpl
        def jobs_recovered(self, worker_id, charged):
            self.charged += charged
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def supervisor_tick(host: HostInfo) -> None:
    """Called about once a second while the worker runs; not again before the last call has ended.

    `host.states` tells what each process is doing, and `host.processes` how many there are to be at the moment.

    Example:
        @hookimpl
        async def supervisor_tick(self, host):
            await self.delete_what_is_old()
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def shutdown_requested(reason: str) -> None:
    """Told once, when the worker begins to stop: by a signal, at the end of `--once`, or over an error.

    Example:
        @hookimpl
        def shutdown_requested(self, reason):
            self.deregister_host()
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def supervisor_stopped(host: HostInfo) -> None:
    """Told when all processes have ended. The worker waits for it for up to five seconds.

    Example:
        @hookimpl
        def supervisor_stopped(self, host):
            self.server.shutdown()
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def listen_lost(error: str) -> None:
    """Told when notifications are not heard any more, so that the worker polls more often.

    Example:
        @hookimpl
        def listen_lost(self, error):
            self.listening = False
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def listen_restored() -> None:
    """Told when notifications are heard again.

    Example:
        @hookimpl
        def listen_restored(self):
            self.listening = True
    """


# Cron: in the supervisor


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def cron_backfill(ticks: Sequence[CronTick]) -> None:
    """Told of times of entries that were missed and are about to be made up for, oldest first, some hundred at a time.

    Each host that starts finds the same, and one of them adds the jobs: `cron_scheduled` is told there.

    Example:
        @hookimpl
        def cron_backfill(self, ticks):
            self.missed += len(ticks)
    """


@hook(Kind.CHANGE, Role.SUPERVISOR, asynchronous=True)
def before_cron_schedule(ticks: Sequence[CronTick]) -> Sequence[CronTick] | None:
    """Called with times of entries that have come, and the jobs that are to be added; may change or refuse these.

    To change a job, answer its tick with another `spec`. A tick that is left out is refused: nothing is added for it,
    not now and not later. Every host asks its own plugins, so all should have the same: what counts is what the one has
    answered that comes first. If a plugin fails, its answer is left out.

    Example:
        @hookimpl
        def before_cron_schedule(self, ticks):
            return [tick for tick in ticks if not self.is_holiday(tick.at)]
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def cron_scheduled(ticks: Sequence[CronTick]) -> None:
    """Told of times of entries for which this host has added the jobs, oldest first; each `job_id` is there.

    Example:
        @hookimpl
        def cron_scheduled(self, ticks):
            self.scheduled += len(ticks)
    """


@hook(Kind.OBSERVE, Role.SUPERVISOR, asynchronous=True)
def cron_clock_skew(clock: str, seconds: float, reason: str) -> None:
    """Told when a clock has jumped (`reason` is `jumped`), or this host's is not the database's (`differs`).

    `clock` is `database`, `host`, or `both`, which is so when this host has slept. The database's decides what is due.

    Example:
        @hookimpl
        def cron_clock_skew(self, clock, seconds):
            self.skew.labels(clock).set(seconds)
    """


# Worker processes


@hook(Kind.OBSERVE, Role.WORKER, isolated=False)
def worker_process_init(app: Application, process: ProcessInfo) -> None:
    """Called once in each worker process, right after it was forked: the place to open what it must not share.

    An error ends the process, and in the end the worker.

    Example:
        @hookimpl
        def worker_process_init(self, app, process):
            self.client = Client()
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def worker_ready(process: ProcessInfo) -> None:
    """Told when a process has claimed for the first time, whether or not there were jobs.

    Example:
        @hookimpl
        def worker_ready(self, process):
            self.up.set(1)
    """


@hook(Kind.COLLECT, Role.WORKER, asynchronous=True)
def forbidden_flags(app: Application) -> Iterable[str] | ForbiddenFlags | None:
    """Answer flags whose jobs this process leaves alone for now. The answers of all plugins and settings are joined.

    Asked before a claim if the last answer is older than a second, or than the `ForbiddenFlags` says that it holds. A
    claim waits for it for `hook_timeout` seconds at most. If it fails, the last answer stays; before the first one
    nothing is forbidden. Where jobs of a flag are forbidden, others behind them are found at no cost.

    A worker with `--once` ends although jobs are left that only have forbidden flags.

    Example:
        @hookimpl
        async def forbidden_flags(self):
            return ForbiddenFlags(["stripe"], seconds=5) if self.stripe_is_down else []
    """


@hook(Kind.CHANGE, Role.WORKER, asynchronous=True)
def before_claim(plan: ClaimPlan) -> ClaimPlan | None:
    """Called before each claim; may answer a plan that asks for fewer jobs, fewer tasks, or forbids flags or queues.

    A plan that asks for nothing skips the claim; the process asks again within a second. A worker with `--once` ends
    although jobs are left, if several looks have found none that plans let it claim.

    Example:
        @hookimpl
        def before_claim(self, plan):
            return replace(plan, limit=min(plan.limit, self.room))
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def jobs_claimed(jobs: Sequence[Job]) -> None:
    """Told of what a claim has brought.

    Example:
        @hookimpl
        def jobs_claimed(self, jobs):
            self.claimed += len(jobs)
    """


@hook(Kind.COLLECT, Role.WORKER, asynchronous=True)
def admit_jobs(jobs: Sequence[Job]) -> Mapping[int, Snooze | Cancel | Fail] | None:
    """Asked, right before they start, about jobs: answer by id what is to become of those that are not to run now.

    `Snooze(delay)` sends a job back uncharged, `Cancel(reason)` deletes it, `Fail(reason)` keeps it as permanently
    failed. `Snooze(0)` gives it back as it was, so that it keeps its place in its queue; any process may claim it at
    once. What one plugin refuses the next ones are not asked about.

    If a plugin fails to answer, the jobs start. One that must not be passed over has an attribute `vital_hooks` that
    holds the name of this hook: then they go back, the process claims nothing for a second, and the plugin is asked
    again however often it has failed.

    Example:
        @hookimpl
        async def admit_jobs(self, jobs):
            return {job.id: Snooze(60) for job in jobs if job.task in self.paused}
    """


@hook(Kind.DECIDE, Role.WORKER, asynchronous=True)
def resolve_task(job: Job) -> AnyTask | None:
    """Asked, after `admit_jobs`, for the task that is to run a job; None: the one that is registered by its name.

    The answer's handler runs. Time limits are those of the registered task.

    Example:
        @hookimpl
        def resolve_task(self, job):
            return self.canaries.get(job.task) if job.id % 100 == 0 else None
    """


@hook(Kind.WRAP, Role.WORKER)
def job_context(job: Job, task: AnyTask) -> AbstractContextManager[object]:
    """Return a context manager that the job runs in, in its own thread or task.

    It sees what the handler raises; to keep an error to itself changes nothing: the job has failed all the same. Its
    own errors are logged, and the job goes on. The time that it takes is the job's.

    Example:
        @hookimpl
        @contextmanager
        def job_context(self, job):
            with span(job.task):
                yield
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_started(job: Job) -> None:
    """Told when a handler is about to be called.

    Example:
        @hookimpl
        def job_started(self, job):
            self.started.inc()
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_timed_out(job: Job, timeout: float) -> None:
    """Told when a job is asked to stop since it has run for longer than its `timeout` in seconds.

    Example:
        @hookimpl
        def job_timed_out(self, job, timeout):
            self.slow[job.task] += 1
    """


@hook(Kind.DECIDE, Role.WORKER, asynchronous=True)
def retry_decision(job: Job, exception: BaseException, error: str) -> Decision | None:
    """Asked what is to become of a job whose attempt has failed, before the database is told; None: the usual.

    `Retry(delay)` charges the attempt, `Snooze(delay)` does not, `Fail(reason)` ends it for good, `Cancel(reason)`
    deletes it.

    Example:
        @hookimpl
        def retry_decision(self, job, exception):
            return Snooze(exception.retry_after) if isinstance(exception, TooManyRequests) else None
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_succeeded(end: JobEnd) -> None:
    """Told when the database has deleted a job whose handler has returned.

    Example:
        @hookimpl
        def job_succeeded(self, end):
            self.seconds[end.job.task] += end.seconds
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_retrying(end: JobEnd) -> None:
    """Told when an attempt has failed, and the database has the time of the next one.

    Example:
        @hookimpl
        def job_retrying(self, end):
            self.retries[end.job.task] += 1
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_failed(end: JobEnd) -> None:
    """Told when the database has a job as permanently failed, or as one that is not to run again.

    Example:
        @hookimpl
        async def job_failed(self, end):
            await notify(f"{end.job.task} {end.job.id}: {end.error}")
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_aborted(end: JobEnd) -> None:
    """Told when a running job was asked to stop, did, and has gone back uncharged.

    Example:
        @hookimpl
        def job_aborted(self, end):
            self.aborted += 1
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def job_finished(end: JobEnd) -> None:
    """Told last of every run, however it ended, after the database has it.

    Example:
        @hookimpl
        def job_finished(self, end):
            self.running.discard(end.job.id)
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def worker_draining(process: ProcessInfo) -> None:
    """Told when a process starts nothing any more, and waits for its jobs.

    Example:
        @hookimpl
        def worker_draining(self, process):
            self.up.set(0)
    """


@hook(Kind.OBSERVE, Role.WORKER, asynchronous=True)
def worker_process_shutdown(process: ProcessInfo) -> None:
    """Told last in a worker process, when it holds no job any more. The process waits for up to five seconds.

    Example:
        @hookimpl
        def worker_process_shutdown(self, process):
            self.client.flush()
    """


# Worker processes and the supervisor


@hook(Kind.OBSERVE, Role.SUPERVISOR, Role.WORKER, asynchronous=True)
def database_error(error: str) -> None:
    """Told when the database turns out to be away; not again before it has answered.

    Example:
        @hookimpl
        def database_error(self, error):
            self.outages.inc()
    """


@hook(Kind.COLLECT, *_ALL)
def collect_metrics() -> Iterable[Metric]:
    """Return figures as they stand. Called for a plugin that shows them, in the process that it runs in.

    Example:
        @hookimpl
        def collect_metrics(self):
            return [Metric("shop_visits", self.visits, "counter", "Visits to the shop.")]
    """


@hook(Kind.COLLECT, Role.SUPERVISOR, asynchronous=True)
def health_check() -> str | Iterable[str] | None:
    """Answer what is wrong, for `/ready` of a worker that has a health port: it is not ready as long as anything is.

    Example:
        @hookimpl
        async def health_check(self):
            return None if await self.client.ping() else "the shop does not answer"
    """


@hook(Kind.OBSERVE, *_ALL, asynchronous=True)
def hook_error(plugin: str, hook: str, error: str) -> None:
    """Told of every failure of an isolated hook of any plugin, except of this hook.

    Example:
        @hookimpl
        def hook_error(self, plugin, hook):
            self.failures[plugin, hook] += 1
    """
