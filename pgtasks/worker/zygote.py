"""The zygote: a process that imports the application once and then only forks.

It is started as a fresh interpreter (`python -m pgtasks.worker.zygote FD`), so nothing of the supervisor's, no
connection and no loop, is inherited. It answers requests on one socket, a line of JSON each:

    {"load": {…}}          imports the modules; answers {"loaded": {…}} or {"failed": {…}}
    {"spawn": {…}} + fds   forks a worker process; answers {"spawned": pid} or {"refused": "…"}
    {"exited": [worker, pid, status]} is sent for each worker process that ends

It has one thread, opens no connection, and ends when the supervisor closes the socket or dies. What it forks is a
copy of itself that has the application in memory and can start working within milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import selectors
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from pgtasks.errors import PgtasksError
from pgtasks.loading import load_app
from pgtasks.logs import (
    LogFormat,
    LogLevel,
    adopt_application_logging,
    bind_process,
    configure_worker_logging,
    get_logger,
)
from pgtasks.settings import Settings
from pgtasks.worker.process import WorkerProcess
from pgtasks.worker.protocol import Exit, Lines
from pgtasks.worker.slots import SlotTable

if TYPE_CHECKING:
    from pgtasks.app import App

_REAP_SECONDS = 1.0
"""How long the end of a child can go unnoticed, should its signal be lost."""

LogStyle = tuple[LogLevel, LogFormat]

log = get_logger("pgtasks.worker")


class Zygote:
    """Serves the supervisor at the other end of `sock`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = Lines(sock)
        self._app: App | None = None
        self._workers: dict[int, str] = {}
        self._wakeup, self._wakeup_writer = socket.socketpair()

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
                    data, descriptors, _, _ = socket.recv_fds(self._sock, 65536, 2)
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

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> None:
        if "load" in request:
            self._load(**request["load"])
        elif "spawn" in request:
            self._spawn(descriptors, **request["spawn"])

    def _load(self, modules: list[str], explicit: dict[str, Any], directory: str, log_as: LogStyle) -> None:
        # Before the import, so that an application which configures logging itself has the last word.
        configure_worker_logging(*log_as)
        if directory not in sys.path:
            sys.path.insert(0, directory)
        try:
            self._app = app = load_app(modules)
            app.override(explicit)
            settings = app.settings
        except PgtasksError as error:
            self._lines.send(failed={"message": str(error), "exit_code": error.exit_code})
            return
        if (settings.log_level, settings.log_format) != tuple(log_as):
            configure_worker_logging(settings.log_level, settings.log_format)
        adopt_application_logging()
        self._mind_signals()  # again, since importing an application may change them
        self._lines.send(loaded={"settings": settings.to_json(), "tasks": app.registry.names})

    def _spawn(self, descriptors: list[int], index: int, worker_id: str, settings: str, shape: list[int]) -> None:
        control, slots = descriptors
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(control)
            os.close(slots)
            self._lines.send(refused=str(error))
            return
        if pid == 0:
            self._become_worker(control, slots, index, worker_id, settings, shape)
        self._workers[pid] = worker_id
        os.close(control)
        os.close(slots)
        self._lines.send(spawned=pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # A child of the application's own, left over from its import, is reaped too, but is nobody's business.
            if (worker_id := self._workers.pop(pid, None)) is not None:
                self._lines.send(exited=[worker_id, pid, status])

    def _become_worker(
        self, control: int, slots: int, index: int, worker_id: str, settings: str, shape: list[int]
    ) -> NoReturn:
        code = Exit.BUG
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            for sock in (self._sock, self._wakeup, self._wakeup_writer):
                sock.close()
            random.seed()
            assert self._app is not None
            chosen = Settings.from_json(settings)
            bind_process(process=index, worker=worker_id)
            self._app.configure(chosen)
            table = SlotTable(slots, *shape)
            # Not asyncio.run, which would cancel what still runs and wait for it: the slots must show what ran, and a
            # handler may refuse to end.
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            code = loop.run_until_complete(_work(self._app, worker_id, control, table, index))
        except BaseException:
            log.exception("worker_failed", exception=traceback.format_exc())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit: threads may still run handlers, and nothing registered before the fork is ours to run.
            os._exit(code)


async def _work(app: App, worker_id: str, control: int, table: SlotTable, index: int) -> int:
    with socket.socket(fileno=control) as sock:
        return await WorkerProcess(app, worker_id, sock, table.of_process(index)).run()


def main(argv: list[str]) -> int:
    """Serve the supervisor on the inherited socket whose number is the only argument."""
    with socket.socket(fileno=int(argv[1])) as sock, contextlib.suppress(ConnectionError):
        Zygote(sock).serve()  # the supervisor's death in mid-answer is an end like any other
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
