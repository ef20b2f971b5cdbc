"""A worker process: one event loop that claims jobs, runs them and tells the database how they ended.

    claimer → local queue → executor → completer → database
       ↑______________________________________|

States: *running* until it is told to drain, *draining* while the jobs that it has started finish, then *stopped*. When
told to abort it cancels what can be cancelled, gives back what it can, and ends without waiting for the rest: a thread
cannot be stopped, so the supervisor gives back what is still in a slot once the process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from pgtasks.database import Database
from pgtasks.database.errors import is_outage
from pgtasks.job import RETURN, Completion, OutcomeKind
from pgtasks.logs import get_logger
from pgtasks.queue.finish import release_worker
from pgtasks.queue.workers import register_worker
from pgtasks.worker.admission import Admission
from pgtasks.worker.cancelling import Cancelling
from pgtasks.worker.claimer import Claimer
from pgtasks.worker.completer import Completer
from pgtasks.worker.decisions import Decisions
from pgtasks.worker.ending import end_tasks
from pgtasks.worker.executor import Executor
from pgtasks.worker.heartbeats import HeartbeatWatch
from pgtasks.worker.keeping import kept_by_task
from pgtasks.worker.link import Backoff, DatabaseLink
from pgtasks.worker.member import this_host
from pgtasks.worker.planning import ForbiddenFlagsCache, Planner
from pgtasks.worker.progress import ProgressWriter
from pgtasks.worker.protocol import Exit, FromWorker, ToWorker
from pgtasks.worker.recycling import Recycling
from pgtasks.worker.slots import ProcessView
from pgtasks.worker.stacks import write_tasks, write_threads_on_usr1
from pgtasks.worker.telling import Ends

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from pgtasks.app import App
    from pgtasks.job import Job
    from pgtasks.plugins import LoopDispatch, ProcessInfo
    from pgtasks.worker.slots import ProcessSlots

log = get_logger("pgtasks.worker")

_CANCEL_SECONDS = 1.0
"""How long cancelled handlers may take to end when the process aborts."""
_LAST_WORDS_SECONDS = 5.0
"""How long the database may take to be told of what ended, when the process aborts."""
_GOODBYE_SECONDS = 1.0
"""How long plugins may take to hear of the process's end, when it aborts."""
_UNANSWERED_SECONDS = 1.0
"""How long nothing is claimed when a plugin that has to be asked about jobs has not answered."""
_LOOK_SECONDS = 0.05
"""How often to ask meanwhile whether what holds that up is over."""
_TICK_SECONDS = 1.0
"""How often the process says that it moves, and looks whether it has had its day."""
_GIVEN_BACK_SECONDS = 0.05
"""How long to claim nothing in place of jobs that plugins have given back as they were."""
_CONNECTIONS = 2
"""Connections of a process for its own statements: one to claim, one to complete."""


class WorkerProcess:
    """What runs in a worker process.

    Args:
        app: the application, as the zygote imported it.
        process: which one this is, and who it is in the database.
        hooks: those of plugins.
        control: socket to the supervisor; when it closes, the supervisor is gone.
        slots: this process's part of the slot table.
    """

    def __init__(
        self, app: App, process: ProcessInfo, hooks: LoopDispatch, control: socket.socket, slots: ProcessSlots
    ) -> None:
        settings = app.settings
        worker_id = process.worker_id
        self._process = process
        self._hooks = hooks
        self._control = control
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        database = Database(
            app.database.conninfo, max_connections=_CONNECTIONS, application_name=f"pgtasks {worker_id}"
        )
        database.session_statements = app.session_statements()
        self._link = DatabaseLink(database, app.statements, worker_id, hooks.observer("database_error"))
        if any(task.options.transactional for task in app.registry):
            # Each of their jobs has a connection for as long as it runs, and may want another one meanwhile.
            app.database.make_room(2 * settings.concurrency)
        self._progress = ProgressWriter(self._link, lambda: self._executor.held_ids)
        self._executor = Executor(
            app,
            settings.concurrency,
            slots,
            self._ended,
            self._on_no_thread,
            lambda: self._heartbeats.fresh,
            hooks,
            self._progress.report,
        )
        self._admission = Admission(hooks, self._loop, self._pump, self._refused, self._on_no_answer)
        self._decisions = Decisions(hooks, self._loop, self._write)
        self._ends = Ends(hooks)
        self._claimer = Claimer(
            self._link,
            planner=Planner(hooks, ForbiddenFlagsCache(hooks, app, settings.forbidden_flags), app.registry.names),
            concurrency=settings.concurrency,
            free_slots=lambda: self._executor.free,
            handed_over=lambda: self._executor.ready + self._admission.count,
            known_ids=self._known_ids,
            on_change=self._pump,
            on_answer=self._on_answer,
            on_full=lambda: self._tell(FromWorker.MORE),
            on_claimed=hooks.observer("jobs_claimed"),
            on_stuck=self._on_stuck,
            give_back=self._give_back,
            register=register_worker(app.statements, worker_id, this_host(worker_id.rpartition("-")[0]), os.getpid()),
            on_evicted=self._evict,
        )
        app.on_look = partial(self._loop.call_soon_threadsafe, self._claimer.look_again)
        self._cancelling = Cancelling(self._link, self._executor, self._withdraw, self._cancelled)
        self._completer = Completer(
            self._link,
            self._written,
            self._claimer,
            self._ends.tell if self._ends.active else None,
            kept_by_task(app),
        )
        self._heartbeats = HeartbeatWatch(
            slots, settings.stale_after, on_lost=self._suspend, on_restored=self._claimer.resume
        )
        self._threadless = Backoff()
        self._resuming: asyncio.TimerHandle | None = None
        self._recycling = Recycling(settings)
        self._recycling_reason: str | None = None
        self._draining = False
        self._aborting = False
        self._evicted = False
        self._succeeded = 0
        self._failed = 0
        self._ready = False
        self._reported_idle = False
        self._orphaned = False
        self._stopped = asyncio.Event()

    async def run(self) -> int:
        """Work until told to stop; returns the process's exit code."""
        write_threads_on_usr1()
        _ForkGuard()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.drain)
        self._control.setblocking(False)
        self._loop.add_reader(self._control, self._hear)
        loops = [
            self._loop.create_task(self._claimer.run(), name="claimer"),
            self._loop.create_task(self._completer.run(), name="completer"),
            self._loop.create_task(self._tick(), name="tick"),
            self._loop.create_task(self._heartbeats.run(), name="heartbeat watch"),
            self._loop.create_task(self._progress.run(), name="progress"),
        ]
        if self._hooks.observes:
            loops.append(self._loop.create_task(self._hooks.watch(), name="plugin watch"))
        for loop in loops:
            loop.add_done_callback(lambda _: self._stopped.set())
        self._claimer.look_again()
        await self._stopped.wait()
        self._loop.remove_reader(self._control)
        for loop in loops:
            if loop.cancelled():
                raise RuntimeError(f"something in this process has cancelled the {loop.get_name()}")
            if loop.done():
                loop.result()  # raises what ended it: a bug, which the supervisor reports as a crash
        if self._aborting:
            return await self._abort()
        await end_tasks(loops)
        await self._retire()
        await self._say_goodbye(_LAST_WORDS_SECONDS)
        await self._link.database.aclose()
        return Exit.DRAINED

    async def _say_goodbye(self, seconds: float) -> None:
        """Tell plugins that the process ends, and give them a moment for it."""
        self._hooks.tell("worker_process_shutdown", process=self._process)
        await self._hooks.flushed(seconds)

    def drain(self) -> None:
        """Start nothing more; give back what waits; stop when the running jobs have ended."""
        if not self._draining:
            self._draining = True
            self._hooks.tell("worker_draining", process=self._process)
            self._give_back(self._take_back() + self._claimer.stop())
            self._pump()

    def _take_back(self) -> list[Job]:
        return self._executor.take_back() + self._admission.take_back()

    def abort(self) -> None:
        """Do not wait for the running jobs."""
        self.drain()
        self._aborting = True
        self._stopped.set()

    def _hear(self) -> None:
        try:
            messages = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            messages = b""
        if not messages:
            # The supervisor is gone, and with it whoever would replace, recover or stop this process.
            self._loop.remove_reader(self._control)
            self._orphaned = True
            log.error("supervisor_lost")
            self.abort()
        if ToWorker.STACKS in messages:
            write_tasks()
        if ToWorker.CANCEL in messages:
            self._cancelling.look()
        if ToWorker.ABORT in messages:
            self.abort()
        elif ToWorker.EVICT in messages:
            self._evict()
        elif ToWorker.DRAIN in messages:
            self.drain()
        elif ToWorker.WAKE in messages:
            self._reported_idle = False
            self._claimer.look_again()

    def _evict(self) -> None:
        """Somebody has retired this worker and given its jobs to others: end, so that a new one takes its place."""
        if not self._evicted:
            self._evicted = True
            log.warning("worker_evicted")
            self.abort()

    def _suspend(self) -> None:
        """Hold no job any more: others may have been given them."""
        self._give_back(self._take_back() + self._claimer.suspend())
        self._executor.ask_to_stop("the heartbeats of the worker do not go through, so its jobs may be given to others")

    def _on_stuck(self) -> None:
        """Leave to others what waits behind jobs that take long."""
        self._give_back(self._take_back() + self._claimer.take_back())
        self._pump()

    def _on_no_thread(self) -> None:
        self._leave_to_others(self._threadless.next_pause())

    def _on_no_answer(self) -> None:
        self._leave_to_others(_UNANSWERED_SECONDS)

    def _leave_to_others(self, seconds: float) -> None:
        """Claim nothing for a while: the jobs that are given back would be claimed again at once."""
        self._give_back(self._take_back() + self._claimer.suspend())
        due = self._loop.time() + seconds
        if self._resuming is not None:
            due = max(due, self._resuming.when())
            self._resuming.cancel()
        self._resuming = self._loop.call_at(due, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        if not self._heartbeats.lost:
            self._claimer.resume()

    async def _tick(self) -> None:
        """Say that this process moves, for as long as it does."""
        while True:
            self._slots.tick()
            self._recycle_if_due()
            await asyncio.sleep(_TICK_SECONDS)

    def _recycle_if_due(self) -> None:
        """Ask for a successor if a limit is reached; again and again, since a message may be lost."""
        reason = self._recycling.reason() if self._ready and not self._draining else None
        if reason is None:
            return
        if self._recycling_reason is None:
            self._recycling_reason = reason
            log.info("process_recycling", reason=reason)
        self._tell(FromWorker.RECYCLE)

    def _on_answer(self) -> None:
        """A claim was answered, or it is up to the database that none is: this process works as it should."""
        if not self._ready:
            self._ready = True
            self._tell(FromWorker.READY)
            self._hooks.tell("worker_ready", process=self._process)

    def _tell(self, message: bytes) -> None:
        # The supervisor may be gone, or so busy that the socket is full of hints: both are noticed elsewhere.
        with contextlib.suppress(OSError):
            self._control.send(message)

    def _ended(self, completions: list[Completion]) -> None:
        if self._decisions.active:
            self._decisions.take(completions)
        else:
            self._completer.add(completions)
        self._claimer.ended(completions)
        if self._recycling.count(len(completions)) and self._recycling_reason is None:
            self._recycle_if_due()
        self._pump()

    def _written(self, completions: list[Completion]) -> None:
        for completion in completions:
            if completion.outcome.kind is OutcomeKind.SUCCESS:
                self._succeeded += 1
            elif completion.outcome.kind in (OutcomeKind.RETRY, OutcomeKind.FAIL):
                self._failed += 1
        self._claimer.written(completions)
        self._pump()

    def _write(self, completions: list[Completion]) -> None:
        self._completer.add(completions)
        self._pump()

    def _refused(self, completions: list[Completion]) -> None:
        self._completer.add(completions)
        if all(completion.outcome is RETURN for completion in completions):
            # The next claim may bring the same ones.
            self._loop.call_later(_GIVEN_BACK_SECONDS, self._claimer.use_room)
        else:
            self._claimer.use_room()

    def _cancelled(self, completions: list[Completion]) -> None:
        self._refused(completions)
        self._pump()

    def _withdraw(self, claims: Collection[tuple[int, int]]) -> list[Job]:
        """Take back those of these jobs that have not been started."""
        return self._claimer.withdraw(claims) + self._admission.withdraw(claims) + self._executor.withdraw(claims)

    def _give_back(self, jobs: list[Job]) -> None:
        self._completer.add([Completion(job, RETURN, ran=False) for job in jobs])

    def _known_ids(self) -> list[int]:
        """The ids of all jobs that this process holds, but for those in the claimer's queue."""
        known = self._executor.held_ids + self._completer.pending_ids
        return known + self._admission.ids + self._decisions.ids

    def _pump(self) -> None:
        """Start what can be started, and say how things stand."""
        queue, executor = self._claimer.queue, self._executor
        # The watch may not have looked yet, as after the process, or the whole host, has slept.
        if self._admission.active:
            if (queue or self._admission.count) and self._may_start():
                self._start_admitted()
        elif (queue or executor.ready) and self._may_start():
            while executor.free and (job := executor.next_ready() or (queue.popleft() if queue else None)):
                executor.start(job)
            while queue and not executor.free and executor.takes(queue[0]):
                executor.hand_over(queue.popleft())
        view = self._view()
        self._slots.publish(view)
        if not view.idle:
            self._reported_idle = False
        elif not self._reported_idle:
            self._reported_idle = True
            self._tell(FromWorker.IDLE)
        if self._draining and not (view.running or view.finishing or self._admission.count or self._claimer.claiming):
            self._stopped.set()

    def _may_start(self) -> bool:
        return self._heartbeats.look() and not (self._completer.full or self._decisions.full)

    def _start_admitted(self) -> None:
        """Start what plugins have admitted, and ask them about what comes next."""
        queue, executor, admission = self._claimer.queue, self._executor, self._admission
        while executor.free and (admitted := admission.next()) is not None:
            executor.start(*admitted)
        room = min(len(queue), executor.free - admission.count)
        if room > 0:
            admission.ask([queue.popleft() for _ in range(room)])

    def _view(self) -> ProcessView:
        running, finishing = self._executor.running, self._completer.pending + self._decisions.count
        queued = len(self._claimer.queue) + self._executor.ready + self._admission.count
        return ProcessView(
            started_claims=self._claimer.started_claims,
            running=running,
            queued=queued,
            finishing=finishing,
            # With nothing to be claimed there is no room, so that another process is woken for new jobs.
            free=0 if self._claimer.closed else self._executor.free,
            idle=self._claimer.waiting and not (running or queued or finishing),
            unsure=self._claimer.unsure,
            aborted=self._aborting,
            narrowed=self._claimer.narrowed,
            succeeded=self._succeeded,
            failed=self._failed,
        )

    async def _retire(self) -> None:
        """Say that this worker has ended; what is locked by it without its knowing goes back."""
        operation = release_worker(self._link.statements, self._link.worker_id, retire=True)
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                # A claim that was cut off may still be under way in the server.
                while not (await self._link.attempt(operation)).complete:  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(_LOOK_SECONDS)
        except Exception as error:
            # Without the database another host does it, once the heartbeats have not come for long enough.
            if not is_outage(error):
                raise

    async def _abort(self) -> int:
        log.warning("worker_aborting", running=self._executor.running)
        self._slots.publish(self._view())
        self._executor.ask_to_stop("the worker stops without waiting for its jobs")
        await self._executor.wait_for_all(_CANCEL_SECONDS)
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._decisions.settled()
                await self._completer.flushed()
                if self._orphaned:
                    await self._retire()
                await self._say_goodbye(_GOODBYE_SECONDS)
        except Exception as error:
            if not is_outage(error):
                raise
        return Exit.EVICTED if self._evicted else Exit.ABORTED


class _ForkGuard:
    """Undoes in a child that a handler forks what a worker does with signals: they are the worker's, not the child's.

    They are held back from before the fork until then. Otherwise a signal that comes early, as from
    `multiprocessing.Process.terminate`, would be lost on the child, and heard by the worker through the wake-up
    descriptor that both share.
    """

    _signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._masks = threading.local()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._reset)

    def _hold(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _reset(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in self._signals:
            signal.signal(number, signal.SIG_DFL)
        self._release()
