"""The supervisor: keeps worker processes alive, wakes them, gives back what dead ones held, and stops them.

It has one thread and runs no code of the user's. Two connections serve the whole host: one that listens and one for
statements.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgtasks.database import Database
from pgtasks.errors import BreakingMigrationError, CrashLoopError, PgtasksError, ShutdownForcedError
from pgtasks.logs import get_logger
from pgtasks.queue.claim import has_runnable
from pgtasks.queue.listen import Listener
from pgtasks.sql import Statements
from pgtasks.worker.link import Backoff, DatabaseLink
from pgtasks.worker.member import Member, new_host_id, wake, wake_one_idle
from pgtasks.worker.protocol import Exit, FromWorker, ToWorker
from pgtasks.worker.recovery import Death, recover
from pgtasks.worker.slots import SlotTable
from pgtasks.worker.upkeep import schema_broke, sweep_now_and_then, watch_for_unknown_tasks
from pgtasks.worker.zygotes import SpawnRefusedError, describe_status

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from pgtasks.worker.zygotes import Loaded, ZygoteClient

log = get_logger("pgtasks.worker")

_MOST_EARLY_DEATHS = 5
"""So many processes in a row that die before they claim jobs are a crash loop."""
_SETTLED_SECONDS = 10.0
"""A process that has lived so long was no failed start; the next one is started without much of a pause."""
_LAST_SECONDS = 5.0
"""How long the end of killed processes is waited for."""
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
    signals: int = 0
    early_deaths: int = 0
    failure: PgtasksError | None = None
    """What the supervisor ends with, if not with success."""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs `loaded` on `conninfo` with as many processes as the settings say.

    Args:
        loaded: the application, as the zygote found it.
        zygote: where processes come from.
        conninfo: the database; its schema is up to date.
        once: end when nothing is runnable any more.
    """

    def __init__(self, loaded: Loaded, zygote: ZygoteClient, conninfo: str, *, once: bool = False) -> None:
        self._settings = loaded.settings
        self._for_workers = loaded.settings.with_overrides(database_url=conninfo).to_json()
        self._tasks = loaded.tasks
        self._zygote = zygote
        self._once = once
        self._host_id = new_host_id()
        self._serial = 0
        self._table = SlotTable.create(self._settings.processes, self._settings.concurrency)
        self._members: dict[str, Member] = {}
        self._state = _State()
        self._background: set[asyncio.Task[None]] = set()
        self._recovering: set[str] = set()
        self._once_backoff = Backoff(0.01, 1.0)
        self._backoffs = [Backoff(0.05, 1.0) for _ in range(self._settings.processes)]
        database = Database(conninfo, max_connections=1, application_name=f"pgtasks supervisor {self._host_id}")
        self._link = DatabaseLink(database, Statements(self._settings.schema_name), self._host_id)
        self._checking_end = asyncio.Lock()
        self._next_to_poll = 0

    async def run(self) -> None:
        """Run until told to stop.

        Raises:
            CrashLoopError: processes die as fast as they are started.
            BreakingMigrationError: the schema has become one that this release does not know.
            ShutdownForcedError: running jobs were cut off.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._zygote.attach(self._on_exited, self._on_zygote_lost)
        settings = self._settings
        log.info(
            "worker_starting",
            host=self._host_id,
            processes=settings.processes,
            concurrency=settings.concurrency,
            tasks=len(self._tasks),
        )
        for index in range(settings.processes):
            self._do(self._spawn(index), "spawn")
        if settings.listen:
            self._do(
                Listener(
                    self._link.database.conninfo,
                    pauses=lambda: Backoff().next_pause,
                    on_jobs=self._wake,
                    on_migration=self._on_migration,
                ).run(),
                "listen",
            )
        self._do(self._poll(), "poll")
        self._do(sweep_now_and_then(self._link), "sweep")
        self._do(watch_for_unknown_tasks(self._link, self._tasks), "watch for unknown tasks")
        try:
            await self._state.stopped.wait()
        finally:
            await self._close()
        if self._state.failure is not None:
            raise self._state.failure
        log.info("worker_stopped", host=self._host_id)

    # Processes

    async def _spawn(self, index: int) -> None:
        if self._state.stopping:
            return
        self._serial += 1
        ours, theirs = socket.socketpair()
        slots = self._table.of_process(index)
        slots.clear()
        loop = asyncio.get_running_loop()
        member = Member(index, f"{self._host_id}-{self._serial}", ours, slots, born=loop.time())
        self._members[member.worker_id] = member
        ours.setblocking(False)
        loop.add_reader(ours, self._hear, member)
        try:
            with theirs:
                member.pid = await self._zygote.spawn(
                    index=index,
                    worker_id=member.worker_id,
                    settings=self._for_workers,
                    control=theirs,
                    slots=self._table,
                )
        except SpawnRefusedError as error:
            log.warning("process_refused", process=index, error=str(error))
            self._forget(member)
            self._stop_if_none_is_left()
            await self._spawn_after(self._backoffs[index].next_pause(), index)
            return
        log.info("process_started", process=index, pid=member.pid, worker=member.worker_id)

    def _hear(self, member: Member) -> None:
        try:
            messages = member.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            messages = b""
        if not messages:
            asyncio.get_running_loop().remove_reader(member.control)
            return
        if FromWorker.READY in messages:
            self._on_ready(member)
        if FromWorker.MORE in messages:
            wake_one_idle(self._members.values())
        if FromWorker.IDLE in messages:
            self._look_for_an_end()

    def _on_ready(self, member: Member) -> None:
        member.ready = True
        self._state.early_deaths = 0
        if all(other.ready for other in self._members.values()):
            log.info("worker_ready", host=self._host_id, processes=len(self._members))

    def _on_exited(self, worker_id: str, pid: int, status: int) -> None:
        member = self._members[worker_id]
        code = os.waitstatus_to_exitcode(status)
        death = Death.of(member.worker_id, pid, code, member.slots, uncharged=member.uncharged)
        self._forget(member)
        if death.clean:
            log.info("process_exited", process=member.index, pid=pid, status=describe_status(code))
        else:
            running = [claim.job_id for claim in member.slots.running()]
            log.warning("process_exited", process=member.index, pid=pid, status=describe_status(code), running=running)
            self._do(self._recover(death), "recover")
        if self._state.stopping:
            self._stop_if_none_is_left()
        else:
            self._replace(member)

    def _forget(self, member: Member) -> None:
        del self._members[member.worker_id]
        asyncio.get_running_loop().remove_reader(member.control)
        member.control.close()

    async def _recover(self, death: Death) -> None:
        self._recovering.add(death.worker_id)
        await recover(self._link, death)
        self._recovering.discard(death.worker_id)
        self._look_for_an_end()

    def _replace(self, member: Member) -> None:
        if asyncio.get_running_loop().time() - member.born > _SETTLED_SECONDS:
            self._backoffs[member.index].reset()
        if not member.ready:
            self._state.early_deaths += 1
            if self._state.early_deaths >= _MOST_EARLY_DEATHS:
                self._fail(
                    CrashLoopError(
                        f"{self._state.early_deaths} worker processes in a row ended before they were ready; "
                        f"what ended them is in the log above"
                    )
                )
                return
        self._do(self._spawn_after(self._backoffs[member.index].next_pause(), member.index), "replace")

    async def _spawn_after(self, seconds: float, index: int) -> None:
        await asyncio.sleep(seconds)
        if not self._state.stopping:
            log.info("process_replaced", process=index)
            await self._spawn(index)

    def _on_zygote_lost(self) -> None:
        self._fail(PgtasksError("the process that forks worker processes was killed; the worker cannot go on without"))
        # Nobody tells us any more when a worker process ends, so none is waited for.
        self._kill()
        self._give_up_on_members()

    # Waking

    def _wake(self, jobs: int) -> None:
        wake(self._members.values(), jobs)

    async def _poll(self) -> None:
        """Wake one process after another, one an interval: jobs become due without a notification."""
        while True:
            await asyncio.sleep(self._settings.poll_interval * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            members = [member for member in self._members.values() if member.slots.view().free]
            if members:
                self._next_to_poll += 1
                members[self._next_to_poll % len(members)].tell(ToWorker.WAKE)

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
            if runnable:
                # Mostly something that was added just now. But it may be a job whose row somebody has locked, which
                # looks runnable and cannot be claimed, and there is no hurry to look at that again.
                await asyncio.sleep(self._once_backoff.next_pause())
                self._wake(0)
            elif before == self._claims_if_all_idle():
                # No process has begun a claim since before the look, so none has a job that the look did not see.
                self._drain()
            else:
                self._do(self._end_if_nothing_is_left(), "look for an end")

    def _claims_if_all_idle(self) -> dict[str, int] | None:
        views = {member.worker_id: member.slots.view() for member in self._members.values()}
        if self._recovering or len(views) < self._settings.processes or not all(v.idle for v in views.values()):
            return None
        return {worker_id: view.started_claims for worker_id, view in views.items()}

    # Stopping

    def _on_signal(self, number: int) -> None:
        self._state.signals += 1
        name = signal.Signals(number).name
        if self._state.signals == 1:
            log.info(
                "worker_draining",
                signal=name,
                message="running jobs finish first; signal again to give them back and stop at once",
            )
            self._drain()
        elif self._state.signals == 2:
            log.warning("worker_aborting", signal=name, message="giving running jobs back; signal again to kill")
            self._abort()
        else:
            log.warning("worker_killing", signal=name)
            self._kill()

    def _on_migration(self, number: int, breaking: bool) -> None:
        if breaking:
            self._do(self._end_if_schema_broke(number), "look at the schema")

    async def _end_if_schema_broke(self, number: int) -> None:
        if await schema_broke(self._link):
            self._fail(BreakingMigrationError(f"migration {number} of the schema needs a newer release of pgtasks"))

    def _fail(self, failure: PgtasksError) -> None:
        if self._state.failure is None:
            self._state.failure = failure
            log.error("worker_draining", error=str(failure))
        self._drain()

    def _drain(self) -> None:
        if self._state.stopping:
            return
        self._state.stopping = True
        for member in self._members.values():
            member.tell(ToWorker.DRAIN)
        self._do(self._abort_in_time(), "wait for the shutdown timeout")
        self._stop_if_none_is_left()

    async def _abort_in_time(self) -> None:
        if self._settings.shutdown_timeout is not None:
            await asyncio.sleep(self._settings.shutdown_timeout)
            log.warning("worker_aborting", message="the shutdown timeout is over; giving running jobs back")
            self._abort()

    def _abort(self) -> None:
        self._drain()
        if self._state.aborted:
            return
        self._state.aborted = True
        if self._state.failure is None and any(member.holds_jobs for member in self._members.values()):
            self._state.failure = ShutdownForcedError(
                "shutdown did not wait for all running jobs; they were given back"
            )
        for member in self._members.values():
            member.uncharged = True
            member.tell(ToWorker.ABORT)
        self._do(self._kill_in_time(), "wait for the abort")

    async def _kill_in_time(self) -> None:
        await asyncio.sleep(_KILL_SECONDS)
        self._kill()

    async def _stop_in_time(self) -> None:
        await asyncio.sleep(_LAST_SECONDS)
        if self._members:
            log.error("processes_not_reaped", pids=[member.pid for member in self._members.values()])
            self._give_up_on_members()

    def _give_up_on_members(self) -> None:
        """Treat processes that were killed as gone, although nobody says so."""
        for member in list(self._members.values()):
            death = Death.of(member.worker_id, member.pid, Exit.ABORTED, member.slots, uncharged=True)
            self._do(self._recover(death), "recover")
            self._forget(member)
        self._state.stopped.set()

    def _kill(self) -> None:
        self._abort()
        for member in self._members.values():
            if member.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, signal.SIGKILL)
        if not self._state.killed:
            self._state.killed = True
            self._do(self._stop_in_time(), "wait for the end of killed processes")

    def _stop_if_none_is_left(self) -> None:
        if not self._members:
            self._state.stopped.set()

    async def _close(self) -> None:
        # What takes back the jobs of dead processes may need a moment; all else only waits for something to happen.
        recoveries = [task for task in self._background if task.get_name() == "recover"]
        if recoveries:
            await asyncio.wait(recoveries, timeout=_RECOVERY_SECONDS)
        if self._recovering:
            log.error("jobs_left_locked", workers=sorted(self._recovering))
            self._state.failure = self._state.failure or ShutdownForcedError(
                "the jobs of ended processes could not be given back in time: they stay locked for up to four hours, "
                "or until `select graphile_worker.force_unlock_workers(...)` is called with the workers in the log"
            )
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._zygote.close()
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
