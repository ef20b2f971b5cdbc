"""The supervisor: keeps worker processes alive, wakes them, gives back what dead ones held, and stops them.

It runs no code of the user's but plugins that were installed or named: beside its own loop, in threads of theirs. Two
connections serve the whole host: one that listens and one for statements.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgtasks.cron.scheduler import Scheduler
from pgtasks.cron.timetables import TimetableScheduler
from pgtasks.database import Database
from pgtasks.errors import BreakingMigrationError, PgtasksError, ShutdownForcedError
from pgtasks.hookdata import HostInfo
from pgtasks.logs import get_logger
from pgtasks.queue.claim import has_runnable
from pgtasks.sql import Statements
from pgtasks.worker.cancelling import CancellationWatch
from pgtasks.worker.deadlines import enforce_deadlines
from pgtasks.worker.ending import end_tasks
from pgtasks.worker.fleet import Fleet
from pgtasks.worker.generation import Generation
from pgtasks.worker.health import Health
from pgtasks.worker.heartbeats import Heartbeats
from pgtasks.worker.host_hooks import HostHooks
from pgtasks.worker.link import Backoff, DatabaseLink
from pgtasks.worker.member import new_host_id, this_host, wake, wake_one_idle
from pgtasks.worker.polling import Polling, new_listener
from pgtasks.worker.protocol import FromWorker
from pgtasks.worker.recovery import recover
from pgtasks.worker.reload import Reloader
from pgtasks.worker.upkeep import (
    restore_now_and_then,
    sweep_now_and_then,
    watch_for_breaking_step,
    watch_for_unknown_tasks,
)
from pgtasks.worker.watching import watch_files

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine
    from typing import Any

    from pgtasks.app import App
    from pgtasks.worker.member import Member
    from pgtasks.worker.notify_systemd import Systemd
    from pgtasks.worker.recovery import Death
    from pgtasks.worker.reload import Application
    from pgtasks.worker.zygotes import Loaded, ZygoteClient

log = get_logger("pgtasks.worker")

_LAST_SECONDS = 5.0
"""How long the end of killed processes is waited for."""
_SECONDS_IN_VAIN = 1.0
"""How far such looks are apart: within this time plugins are asked again whether they still want it so."""
_LOOKS_IN_VAIN = 5
"""So many looks that bring none of what is runnable, since plugins leave something out, are the end of `--once`."""
_KILL_SECONDS = 10.0
"""How long processes may take to abort before they are killed."""
_RECOVERY_SECONDS = 10.0
"""How long the end of the supervisor waits for the database to take back the jobs of dead processes."""


@dataclass
class _State:
    """What the supervisor is about to do, and why."""

    stopping: bool = False
    aborted: bool = False
    killed: bool = False
    failure: PgtasksError | None = None
    """What the supervisor ends with, if not with success."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs an application on `conninfo` with as many processes as the settings say.

    Args:
        application: how it is imported again.
        app: what plugins are given for the application here, where none of its code runs.
        loaded: the application, as the zygote found it.
        zygote: where processes come from.
        conninfo: the database; its schema is up to date.
        systemd: is told how things stand.
        once: end when nothing is runnable any more.
        reload: import the application again when its files change.
    """

    def __init__(
        self,
        application: Application,
        app: App,
        loaded: Loaded,
        zygote: ZygoteClient,
        conninfo: str,
        *,
        systemd: Systemd,
        once: bool = False,
        reload: bool = False,
    ) -> None:
        self._settings = loaded.settings
        self._tasks = list(loaded.tasks)
        self._directory = application.directory if reload else None
        self._systemd = systemd
        self._once = once
        self._host_id = new_host_id()
        self._state = _State()
        self._background: set[asyncio.Task[None]] = set()
        self._recovering: set[str] = set()
        self._once_backoff = Backoff(0.01, 1.0)
        self._once_ended = 0
        self._once_claims: dict[str, int] = {}
        """How many claims each process had begun when they had last looked in vain."""
        self._once_looked_at = 0.0
        self._once_in_vain = 0
        """How often in a row all processes have looked and found none of what is runnable."""
        settings = loaded.settings
        host = HostInfo(self._host_id, settings.processes, settings.concurrency, tuple(loaded.tasks))
        self._hooks = HostHooks(app, app.use_loop(), host)
        # Two for statements, so that one which hangs does not hold up what dead processes held; one for housekeeping,
        # and one for heartbeats.
        database = Database(conninfo, max_connections=4, application_name=f"pgtasks supervisor {self._host_id}")
        database.session_statements = app.session_statements()
        self._link = DatabaseLink(
            database, Statements(self._settings.schema_name), self._host_id, self._hooks.database_error
        )
        self._scheduler = Scheduler(self._link, self._host_id, self._hooks)
        self._scheduler.use(loaded.crontab)
        self._checking_end = asyncio.Lock()
        self._fleet = Fleet(
            Generation.of(loaded, zygote, conninfo, self._settings.processes),
            host_id=self._host_id,
            do=self._do,
            on_message=self._hear,
            on_death=self._on_death,
            on_change=self._on_change,
            on_failure=self._fail,
            hooks=self._hooks,
        )
        self._health = Health(
            self._fleet,
            self._link,
            stalled_after=lambda: self._settings.stalled_after,
            stopping=lambda: self._state.stopping,
            plugins_say=self._hooks.health_problems,
        )
        self._reloader = Reloader(
            application,
            loaded,
            conninfo,
            fleet=self._fleet,
            link=self._link,
            systemd=systemd,
            on_loaded=self._on_reloaded,
        )

    async def run(self) -> None:
        """Run until told to stop.

        Raises:
            CrashLoopError: processes die as fast as they are started.
            BreakingMigrationError: the schema has become one that this release does not know.
            ShutdownForcedError: running jobs were cut off.
        """
        settings = self._settings
        if settings.health_port is not None:
            await self._health.listen(settings.health_address, settings.health_port)
        log.info(
            "worker_starting",
            host=self._host_id,
            processes=settings.processes,
            concurrency=settings.concurrency,
            tasks=len(self._tasks),
        )
        self._hooks.ready()
        if self._hooks.observes:
            self._do(self._hooks.run(self._fleet), "plugins")
        self._fleet.start(settings.processes)
        look_at_schema = asyncio.Event()
        self._do(self._end_when_schema_breaks(look_at_schema), "watch the schema")
        cancellations = CancellationWatch(self._link, lambda: self._fleet.members)
        self._do(cancellations.run(), "watch for cancelled jobs")
        timetables = TimetableScheduler(self._link)
        listener = new_listener(
            self._link,
            settings,
            on_jobs=self._wake,
            on_breaking=look_at_schema.set,
            on_cancelled=lambda worker_id: cancellations.look({worker_id}),
            on_timetables=None if self._once else timetables.look,
            hooks=self._hooks,
        )
        if settings.listen:
            self._do(listener.run(), "listen")
        if self._directory is not None:
            self._do(watch_files(self._directory, settings.tasks_dir, self.reload, settings.crontab), "watch files")
        self._do(self._reloader.run(), "reload")
        self._do(self._systemd.watch(self._health.life_problems), "feed the watchdog")
        polling = Polling(lambda: self._fleet.members, lambda: self._settings.poll_interval, lambda: listener.listening)
        self._do(polling.run(), "poll")
        self._do(enforce_deadlines(self._fleet), "enforce deadlines")
        heartbeats = Heartbeats(
            self._link,
            this_host(self._host_id),
            lambda: self._fleet.members,
            stale_after=settings.stale_after,
            max_interruptions=settings.max_interruptions,
            on_cancelled=cancellations.look,
        )
        self._do(heartbeats.run(), "heartbeats")
        if not self._once:
            self._do(self._scheduler.run(), "schedule cron entries")
            self._do(timetables.run(), "timetables")
        self._do(sweep_now_and_then(self._link), "sweep")
        self._do(restore_now_and_then(self._link, self._tasks), "restore names")
        self._do(watch_for_unknown_tasks(self._link, self._tasks), "watch for unknown tasks")
        try:
            await self._state.stopped.wait()
        finally:
            await self._close()
        if self._state.failure is not None:
            raise self._state.failure
        log.info("worker_stopped", host=self._host_id)

    # Processes

    def _hear(self, member: Member, messages: bytes) -> None:
        if FromWorker.READY in messages:
            self._fleet.is_ready(member)
        if FromWorker.MORE in messages:
            wake_one_idle(self._fleet.members)
        if FromWorker.RECYCLE in messages:
            self._fleet.replace(member)
        if FromWorker.IDLE in messages:
            self._look_for_an_end()

    @property
    def members(self) -> Collection[Member]:
        """All worker processes."""
        return self._fleet.members

    def resize(self, more: int) -> None:
        """Have so many processes more or, negative, fewer."""
        before, after = self._fleet.wanted, self._fleet.resize(self._fleet.wanted + more)
        message = None if after != before else "there is no room for more" if more > 0 else "there has to be one"
        log.info("processes_wanted", processes=after, **({"message": message} if message else {}))

    def reload(self, reason: str) -> None:
        """Import the application anew."""
        if not self._state.stopping:
            self._reloader.want(reason)

    def _on_reloaded(self, loaded: Loaded) -> None:
        self._settings = loaded.settings
        self._tasks[:] = loaded.tasks  # in place, for all that look at it now and then
        self._scheduler.use(loaded.crontab)

    def _on_change(self) -> None:
        if self._state.stopping:
            self._stop_if_none_is_left()
        elif self._fleet.complete:
            log.info("worker_ready", host=self._host_id, processes=self._fleet.wanted)
            self._systemd.started(f"{self._fleet.wanted} processes take jobs")

    def _on_death(self, death: Death) -> None:
        self._do(self._recover(death), "recover")

    async def _recover(self, death: Death) -> None:
        self._recovering.add(death.worker_id)
        await recover(self._link, death, self._hooks)
        self._recovering.discard(death.worker_id)
        self._look_for_an_end()

    # Waking

    def _wake(self, jobs: int) -> None:
        wake(self._fleet.members, jobs)

    def _look_for_an_end(self) -> None:
        if self._once and not self._state.stopping and not self._checking_end.locked():
            self._do(self._end_if_nothing_is_left(), "look for an end")

    async def _end_if_nothing_is_left(self) -> None:
        """End, for `--once`, if no process holds a job and the database has none to run."""
        async with self._checking_end:
            before = self._claims_if_all_idle()
            if before is None:
                return
            runnable, _ = await self._link.insist(
                has_runnable(self._link.statements, self._tasks, self._settings.forbidden_flags)
            )
            ended = runnable and self._have_ended_jobs()
            if runnable and self._have_looked_in_vain(before, ended=ended):
                self.drain("nothing is left that plugins let run")
            elif runnable:
                if ended:
                    self._once_backoff.reset()
                # Mostly something that was added just now. But it may be a job whose row somebody has locked, which
                # looks runnable and cannot be claimed, and there is no hurry to look at that again.
                await asyncio.sleep(self._once_backoff.next_pause())
                self._wake(0)
            elif before == self._claims_if_all_idle():
                # No process has begun a claim since before the look, so none has a job that the look did not see.
                self.drain("nothing is left to run")
            else:
                self._do(self._end_if_nothing_is_left(), "look for an end")

    def _claims_if_all_idle(self) -> dict[str, int] | None:
        views = {member.worker_id: member.slots.view() for member in self._fleet.members}
        if self._recovering or len(views) < self._fleet.wanted or not all(v.idle for v in views.values()):
            return None
        return {worker_id: view.started_claims for worker_id, view in views.items()}

    def _have_looked_in_vain(self, claims: dict[str, int], *, ended: bool) -> bool:
        """Whether all processes have looked several times, and plugins keep what is runnable from them.

        Args:
            claims: how many claims each process has begun.
            ended: whether jobs have ended since this was last asked.
        """
        views = [member.slots.view() for member in self._fleet.members]
        if not all(view.narrowed for view in views) or ended:
            self._once_in_vain = 0
        elif (
            all(number > self._once_claims.get(worker_id, -1) for worker_id, number in claims.items())
            and time.monotonic() - self._once_looked_at >= _SECONDS_IN_VAIN
        ):
            self._once_in_vain += 1
        else:
            return False  # some have not looked again, or plugins may not have been asked again
        self._once_claims, self._once_looked_at = claims, time.monotonic()
        return self._once_in_vain >= _LOOKS_IN_VAIN

    def _have_ended_jobs(self) -> bool:
        """Whether jobs have ended since this was last asked."""
        views = [member.slots.view() for member in self._fleet.members]
        before, self._once_ended = self._once_ended, sum(view.succeeded + view.failed for view in views)
        return self._once_ended != before

    # Stopping

    async def _end_when_schema_breaks(self, look: asyncio.Event) -> None:
        number = await watch_for_breaking_step(self._link, look)
        self._fail(BreakingMigrationError(f"migration {number} of the schema needs a newer release of pgtasks"))

    def _fail(self, failure: PgtasksError) -> None:
        if self._state.failure is None:
            self._state.failure = failure
            log.error("worker_draining", error=str(failure))
        self.drain(str(failure))

    def drain(self, reason: str = "a signal") -> None:
        """Let running jobs finish, then stop."""
        if self._state.stopping:
            return
        self._state.stopping = True
        self._hooks.shutdown(reason)
        self._systemd.stopping()
        self._fleet.drain()
        self._do(self._abort_in_time(), "wait for the shutdown timeout")
        self._stop_if_none_is_left()

    async def _abort_in_time(self) -> None:
        if self._settings.shutdown_timeout is not None:
            await asyncio.sleep(self._settings.shutdown_timeout)
            log.warning("worker_aborting", message="the shutdown timeout is over; giving running jobs back")
            self.abort()

    def abort(self) -> None:
        """Give running jobs back and stop."""
        self.drain()
        if self._state.aborted:
            return
        self._state.aborted = True
        if self._state.failure is None and any(member.holds_jobs for member in self._fleet.members):
            self._state.failure = ShutdownForcedError(
                "shutdown did not wait for all running jobs; they were given back"
            )
        self._fleet.abort()
        self._do(self._kill_in_time(), "wait for the abort")

    async def _kill_in_time(self) -> None:
        await asyncio.sleep(_KILL_SECONDS)
        self.kill()

    async def _stop_in_time(self) -> None:
        await asyncio.sleep(_LAST_SECONDS)
        if self._fleet.members:
            log.error("processes_not_reaped", pids=[member.pid for member in self._fleet.members])
            self._fleet.give_up()

    def kill(self) -> None:
        """Kill the processes, give their jobs back and stop."""
        self.abort()
        self._fleet.kill()
        if not self._state.killed:
            self._state.killed = True
            self._do(self._stop_in_time(), "wait for the end of killed processes")

    def _stop_if_none_is_left(self) -> None:
        if not self._fleet.members:
            self._state.stopped.set()

    async def _close(self) -> None:
        # What takes back the jobs of dead processes may need a moment, and must not wait for anything else.
        recoveries = [task for task in self._background if task.get_name() == "recover"]
        for task in self._background.difference(recoveries):
            if task.get_name() not in ("heartbeats", "plugins"):
                task.cancel()
        if recoveries:
            await asyncio.wait(recoveries, timeout=_RECOVERY_SECONDS)
        if self._recovering:
            log.error("jobs_left_locked", workers=sorted(self._recovering))
            if self._state.failure is None or isinstance(self._state.failure, ShutdownForcedError):
                self._state.failure = ShutdownForcedError(
                    "the jobs of ended processes could not be given back in time: they stay locked until a running "
                    f"worker has missed their heartbeats for {self._settings.stale_after:g} s"
                )
        await self._hooks.stopped()
        await end_tasks(list(self._background))
        self._fleet.close()
        await self._link.database.aclose()

    def _do(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside the rest; should it fail, the supervisor fails with it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor_failed", step=task.get_name(), exc_info=error)
            self._fail(PgtasksError(f"the supervisor failed in {task.get_name()}: {error!r}"))
