"""The zygote: a process that imports the application once and then only forks.

The first one is a fork of the supervisor, before that has a connection or a loop; one for changed code is a fresh
interpreter (`python -m pgtasks.worker.zygote FD`). It answers requests on one socket, a line of JSON each:

    {"load": {…}}          imports the modules; answers {"loaded": {…}} or {"failed": {…}}
    {"spawn": {…}} + fds   forks a worker process; answers {"spawned": pid} or {"refused": "…"}
    {"exited": [worker, pid, status]} is sent for each worker process that ends
    {"stopped": [worker, whether]}    for each that a signal stops or continues

It has one thread, opens no connection, and ends when the supervisor closes the socket or dies. What it forks is a
copy of itself that has the application in memory and can start working within milliseconds.

Should the supervisor die, its worker processes notice by themselves and give back what they hold. One that does not
react, since a job has its interpreter, is killed after a second, and none outlives the zygote.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import io
import os
import random
import selectors
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from pgtasks import __version__
from pgtasks.cron.data import write_entry
from pgtasks.errors import PgtasksError, SettingsError
from pgtasks.loading import load_app
from pgtasks.logs import (
    LogFormat,
    LogLevel,
    adopt_application_logging,
    bind_process,
    configure_worker_logging,
    get_logger,
)
from pgtasks.plugins import ProcessInfo, Role
from pgtasks.settings import Settings
from pgtasks.worker.cron_entries import find_entries
from pgtasks.worker.executables import executable_handler
from pgtasks.worker.leftovers import open_descriptors, refuse_leftovers
from pgtasks.worker.process import WorkerProcess
from pgtasks.worker.protocol import Exit, Lines
from pgtasks.worker.recycling import resident_megabytes
from pgtasks.worker.slots import SlotTable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgtasks.app import App
    from pgtasks.worker.slots import ProcessSlots

_REAP_SECONDS = 1.0
"""How long the end of a child can go unnoticed, should its signal be lost."""

_REACT_SECONDS = 1.0
"""How long worker processes may take to notice that the supervisor is gone."""
_LAST_SECONDS = 7.0
"""How long they may take altogether: to cancel jobs, and to give all back if the database answers."""
_DESCRIPTORS = 2
"""What comes with a request for a process: its end of the control socket, and the slot table."""
_NOT_OURS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
"""Signals that mean something to the supervisor, and come here if somebody sends them to all processes at once."""

LogStyle = tuple[LogLevel, LogFormat]

log = get_logger("pgtasks.worker")


class Zygote:
    """Serves the supervisor at the other end of `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = Lines(sock)
        self._app: App | None = None
        self._table: SlotTable | None = None
        self._workers: dict[int, tuple[str, ProcessSlots]] = {}
        self._wakeup, self._wakeup_writer = socket.socketpair()
        self._own = open_descriptors()

    def serve(self) -> None:
        """Answer requests until the supervisor is gone."""
        for end in (self._wakeup, self._wakeup_writer):
            end.setblocking(False)
        self._mind_signals()
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self._wakeup, selectors.EVENT_READ)
            while True:
                # Looks now and then in any case: an application may have changed what signals do.
                ready = {key.fileobj for key, _ in selector.select(_REAP_SECONDS)}
                if self._wakeup in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wakeup.recv(4096)
                self._reap()
                if self._sock in ready:
                    data, descriptors, _, _ = socket.recv_fds(self._sock, 65536, _DESCRIPTORS)
                    if not data:
                        return
                    for request in self._lines.feed(data):
                        self._answer(request, descriptors)

    def _mind_signals(self) -> None:
        """Be woken by the end of a child. All else is for the supervisor, which tells us by closing the socket."""
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for number in _NOT_OURS:
            signal.signal(number, lambda *_: None)  # not ignored, which programs that tasks start would inherit

    def end_orphans(self) -> None:
        """Wait until the worker processes have ended whose supervisor is gone; kill those that do not react."""
        began = time.monotonic()
        while self._workers:
            passed = time.monotonic() - began
            for pid, (_, slots) in self._workers.items():
                if passed > _LAST_SECONDS or (passed > _REACT_SECONDS and not slots.view().aborted):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            while (changed := _changed_child()) is not None:
                pid, status = changed
                if not (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
                    self._workers.pop(pid, None)

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        if "load" in request:
            self._load(**request["load"])
        elif "spawn" in request:
            self._spawn(descriptors, **request["spawn"])

    def _load(self, modules: list[str], explicit: dict[str, Any], path: list[str], log_as: LogStyle) -> None:
        # Before the import, so that an application which configures logging itself has the last word.
        configure_worker_logging(*log_as)
        sys.path[:] = path
        try:
            self._app = app = load_app(modules, explicit, executable_handler)
            app.assume(Role.WORKER)
            settings = app.settings
            _ = app.hooks  # loads the plugins, which may add tasks
            for task in app.registry:
                task.check()  # what annotations name must be there, and is made once for all processes
            crontab = [write_entry(entry) for entry in find_entries(app)]
            refuse_leftovers(self._own)
            _refuse_too_little_memory(settings)
        except PgtasksError as error:
            self._lines.send(failed={"message": str(error), "exit_code": error.exit_code})
            return
        by_plugin = app.hooks.decide("setup_logging", bool, level=settings.log_level, format=settings.log_format)
        if not by_plugin and (settings.log_level, settings.log_format) != tuple(log_as):
            configure_worker_logging(settings.log_level, settings.log_format)
        adopt_application_logging()
        self._mind_signals()  # again, since importing an application may change them
        # Worker processes share what is there now for as long as nobody writes to it, and the collector would.
        gc.collect()
        gc.freeze()
        graces = {task.name: task.options.grace for task in app.registry if task.options.grace is not None}
        found = {"settings": settings.to_json(), "tasks": app.registry.names, "version": __version__, "graces": graces}
        self._lines.send(loaded=found | {"crontab": crontab})

    def _spawn(self, descriptors: list[int], index: int, worker_id: str, settings: str, shape: list[int]) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # nobody reads it any more, or its disk is full
                stream.flush()
        try:
            if len(descriptors) < _DESCRIPTORS:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            control, slots = descriptors
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if self._table is None:
                self._table = SlotTable(slots, *shape)
            refuse_leftovers(self._own | {control, slots})
            pid = os.fork()
        except PgtasksError as error:
            self._lines.send(failed={"message": str(error), "exit_code": error.exit_code})
        except OSError as error:
            self._lines.send(refused=str(error))
        else:
            if pid == 0:
                os.close(slots)
                self._become_worker(control, index, worker_id, settings, self._table)
            self._workers[pid] = worker_id, self._table.of_process(index)
            self._lines.send(spawned=pid)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _reap(self) -> None:
        while (changed := _changed_child()) is not None:
            pid, status = changed
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                if pid in self._workers:
                    self._lines.send(stopped=[self._workers[pid][0], os.WIFSTOPPED(status)])
                continue
            # A child of the application's own, left over from its import, is reaped too, but is nobody's business.
            if (worker := self._workers.pop(pid, None)) is not None:
                self._lines.send(exited=[worker[0], pid, status])

    def _become_worker(self, control: int, index: int, worker_id: str, settings: str, table: SlotTable) -> NoReturn:
        code = Exit.BUG
        try:
            os.setpgid(0, 0)  # so that a job that signals its process group hits no other process
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for sock in (self._sock, self._wakeup, self._wakeup_writer):
                sock.close()
            random.seed()
            _print_whole_lines()
            assert self._app is not None
            chosen = Settings.from_json(settings)
            bind_process(process=index, worker=worker_id)
            self._app.configure(chosen)
            # Not asyncio.run, which would cancel what still runs and wait for it: the slots must show what ran, and a
            # handler may refuse to end.
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            process = ProcessInfo(worker_id, index, os.getpid())
            self._app.hooks.collect("worker_process_init", _ignored, app=self._app, process=process)
            code = _run_past_exits(loop, _work(self._app, process, control, table))
        except BaseException:
            log.exception("worker_failed", exception=traceback.format_exc())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit: threads may still run handlers, and nothing registered before the fork is ours to run.
            os._exit(code)


def _run_past_exits(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, int]) -> int:
    """Run a loop until `work` is done, also where a task that a handler has made, or a callback, wants to exit.

    asyncio then leaves the loop at once, and the process would take all other jobs with it. Whoever waits for such a
    task gets the exception as well, so that it fails the job that has made it.
    """
    working = loop.create_task(work)
    while True:
        try:
            return loop.run_until_complete(working)
        except (SystemExit, KeyboardInterrupt) as error:
            if working.done():
                raise
            log.warning("exit_ignored", error=repr(error), exception=traceback.format_exc())


def _print_whole_lines() -> None:
    """Write what handlers print line by line if output is unbuffered.

    There `print` writes the end of a line by itself, and lines of other processes would come between.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through:
        sys.stdout.reconfigure(line_buffering=True, write_through=False)


def _changed_child() -> tuple[int, int] | None:
    """Return pid and wait status of a child that has ended, and reap it, or that a signal has stopped or continued."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _refuse_too_little_memory(settings: Settings) -> None:
    used = resident_megabytes()
    if settings.max_memory is not None and used >= settings.max_memory:
        raise SettingsError(
            f"max_memory is {settings.max_memory} MB, and the application alone takes {used:.0f} MB when it has just "
            f"been imported: its processes would be replaced for ever"
        )


async def _work(app: App, process: ProcessInfo, control: int, table: SlotTable) -> int:
    with socket.socket(fileno=control) as sock:
        return await WorkerProcess(app, process, app.use_loop(), sock, table.of_process(process.index)).run()


def _ignored(answer: object) -> object:
    return answer


def serve(sock: socket.socket) -> None:
    """Serve the supervisor at the other end of `sock`, until it is gone and all worker processes are."""
    zygote = Zygote(sock)
    with contextlib.suppress(ConnectionError):  # the supervisor's death in mid-answer is an end like any other
        zygote.serve()
    zygote.end_orphans()


def main(argv: list[str]) -> int:
    """Serve the supervisor on the inherited socket whose number is the only argument."""
    with socket.socket(fileno=int(argv[1])) as sock:
        serve(sock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
