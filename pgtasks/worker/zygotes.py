"""The supervisor's side of the zygote: starting it, asking it for processes, hearing of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks import __version__
from pgtasks.cron.data import read_entry
from pgtasks.errors import AppLoadError, ForkUnsafeError, PgtasksError, PluginError, SettingsError
from pgtasks.logs import get_logger
from pgtasks.settings import Settings
from pgtasks.worker import zygote
from pgtasks.worker.child import Fork, may_fork, start_interpreter
from pgtasks.worker.protocol import Lines, describe_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pgtasks.cron.entry import CronEntry
    from pgtasks.worker.slots import SlotTable
    from pgtasks.worker.starting import StopWhileStarting

log = get_logger("pgtasks.worker")

_CLASSES: dict[int, type[PgtasksError]] = {
    error.exit_code: error for error in (AppLoadError, ForkUnsafeError, PluginError, SettingsError)
}
_END_SECONDS = 10.0
"""How long a zygote may wait for processes that have lost their supervisor."""
_ANSWER_SECONDS = 30.0
"""A zygote that has not answered a request for a process after so long does not move."""


class SpawnRefusedError(Exception):
    """The system gives no further process now."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the zygote found when it imported the application."""

    settings: Settings
    """The settings, those that the application sets in code included."""
    tasks: tuple[str, ...]
    """Names of all tasks."""
    version: str
    """The version of pgtasks that its processes run."""
    graces: Mapping[str, float] = field(default_factory=dict)
    """By name, the `grace` of those tasks that set one, in seconds."""

    crontab: Sequence[CronEntry] = ()
    """What is to be scheduled."""

    def grace_of(self, task: str | None) -> float:
        """Return the seconds that jobs of a task have to stop when they are asked to; None: of an unknown one."""
        default = self.settings.job_grace
        return self.graces.get(task or "", math.inf if default is None else default)


class ZygoteClient:
    """A running zygote."""

    def __init__(self, start: Callable[[socket.socket], Fork | subprocess.Popen[bytes]]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start(theirs)
        self._sock = ours
        self._lines = Lines(ours)
        self._answers: asyncio.Queue[dict[str, Any]] | None = None
        self._asking = asyncio.Lock()
        self._on_exited: Callable[[str, int, int], None] | None = None
        self._on_stopped: Callable[[str, bool], None] | None = None

    @classmethod
    def first(cls) -> ZygoteClient:
        """Make one of this process, which has imported nothing of the application and opened nothing yet.

        If it has threads all the same, as under a tool that watches it, the zygote is a fresh interpreter.
        """
        return cls(lambda sock: Fork(sock, zygote.serve)) if may_fork() else cls.fresh()

    @classmethod
    def fresh(cls) -> ZygoteClient:
        """Make one that is a fresh interpreter."""
        return cls(lambda sock: start_interpreter(sock, zygote.__name__))

    def load(self, settings: Settings, explicit: Mapping[str, Any], directory: Path, stop: StopWhileStarting) -> Loaded:
        """Have the application imported.

        Args:
            settings: names the modules, and how to log.
            explicit: settings of the command line, which win over those that the application makes in code.
            directory: where modules are looked for first.
            stop: notices when the worker is told to stop meanwhile.

        Raises:
            AppLoadError: it cannot be, or has no task.
            SettingsError: it sets something that cannot be used.
            StoppedWhileStartingError: the worker was told to stop; an import may take its time.
        """
        answers: list[dict[str, Any]] = []
        with self._explaining_its_end(settings):
            self._ask_to_load(settings, explicit, directory)
            while not answers:
                stop.wait_for(self._sock)
                answers = self._load_answers(self._sock.recv(65536))
        return _loaded(answers[0])

    async def load_async(self, settings: Settings, explicit: Mapping[str, Any], directory: Path) -> Loaded:
        """Do what `load` does beside whatever else the event loop does, until cancelled."""
        answers: list[dict[str, Any]] = []
        with self._explaining_its_end(settings):
            self._ask_to_load(settings, explicit, directory)
            self._sock.setblocking(False)
            while not answers:
                answers = self._load_answers(await asyncio.get_running_loop().sock_recv(self._sock, 65536))
        return _loaded(answers[0])

    def _ask_to_load(self, settings: Settings, explicit: Mapping[str, Any], directory: Path) -> None:
        self._lines.send(
            load={
                "modules": settings.modules,
                "explicit": dict(explicit),
                "path": _module_path(str(directory)),
                "log_as": [settings.log_level, settings.log_format],
            }
        )

    def _load_answers(self, data: bytes) -> list[dict[str, Any]]:
        if not data:
            raise ConnectionResetError
        return self._lines.feed(data)

    @contextlib.contextmanager
    def _explaining_its_end(self, settings: Settings) -> Iterator[None]:
        try:
            yield
        except ConnectionError as error:
            raise AppLoadError(
                f"importing {_sources(settings)} ended the process that did it ({self._end()}); "
                f"look for a call of exit() or a crash in an extension module"
            ) from error

    def attach(
        self,
        on_exited: Callable[[str, int, int], None],
        on_stopped: Callable[[str, bool], None],
        on_lost: Callable[[], None],
    ) -> None:
        """From now on serve the running event loop.

        Args:
            on_exited: called with the worker id, pid and wait status of each worker process that ends.
            on_stopped: called with the worker id of each that a signal has stopped, or continued, and whether it was
                stopped.
            on_lost: called if the zygote itself ends.
        """
        loop = asyncio.get_running_loop()
        self._answers = asyncio.Queue()
        self._on_exited = on_exited
        self._on_stopped = on_stopped
        self._sock.setblocking(False)
        loop.add_reader(self._sock, self._hear, on_lost)

    async def spawn(
        self, *, index: int, worker_id: str, settings: str, control: socket.socket, slots: SlotTable
    ) -> int:
        """Have a worker process forked; returns its pid.

        Raises:
            SpawnRefusedError: the system gives no further process now.
            ForkUnsafeError: the application does not let one be forked.
        """
        assert self._answers is not None, "attach comes first"
        message = {"index": index, "worker_id": worker_id, "settings": settings}
        request = Lines.encode(spawn=message | {"shape": [slots.processes, slots.slots]})
        # One request at a time, so that the descriptors arrive with the line that they belong to.
        async with self._asking:
            try:
                socket.send_fds(self._sock, [request], [control.fileno(), slots.descriptor])
            except OSError as error:
                raise SpawnRefusedError(str(error)) from error
            overdue = asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._kill_stuck)
            answer = await self._answers.get()
            overdue.cancel()
        if "refused" in answer:
            raise SpawnRefusedError(answer["refused"])
        _raise_if_failed(answer)
        return int(answer["spawned"])

    def detach(self) -> None:
        """Serve the running event loop no more."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)

    def close(self) -> None:
        """Let the zygote end, and wait until it has."""
        self._sock.close()
        try:
            self._process.wait(_END_SECONDS if self._answers is not None else 1)
        except subprocess.TimeoutExpired:  # in the middle of an import
            self._process.kill()
            self._process.wait()

    def discard(self) -> None:
        """Kill a zygote that has no processes."""
        self._sock.close()
        self._process.kill()
        self._process.wait()

    def _kill_stuck(self) -> None:
        """Kill a zygote that does not answer; its end is then heard of as any other."""
        log.error("zygote_stuck", seconds=_ANSWER_SECONDS)
        self._process.kill()

    def _hear(self, on_lost: Callable[[], None]) -> None:
        assert self._answers is not None
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._answers.put_nowait({"refused": "the process that forks worker processes has ended"})
            on_lost()
            return
        assert self._on_exited is not None
        assert self._on_stopped is not None
        loop = asyncio.get_running_loop()
        for message in self._lines.feed(data):
            # Later, for an answer may come along with it, and whoever waits for that goes on first.
            if "exited" in message:
                loop.call_soon(self._on_exited, *message["exited"])
            elif "stopped" in message:
                loop.call_soon(self._on_stopped, *message["stopped"])
            else:
                self._answers.put_nowait(message)

    def _end(self) -> str:
        return describe_status(self._process.wait())


def _module_path(directory: str) -> list[str]:
    """Return where all zygotes look for modules: what Python has put first for a script of ours is none of it."""
    scripts = str(Path(sys.argv[0]).resolve().parent)
    return [directory, *(place for place in sys.path if place not in (directory, scripts))]


def _raise_if_failed(answer: Mapping[str, Any]) -> None:
    if "failed" in answer:
        failed = answer["failed"]
        raise _CLASSES.get(failed["exit_code"], PgtasksError)(failed["message"])


def _loaded(answer: Mapping[str, Any]) -> Loaded:
    _raise_if_failed(answer)
    loaded = answer["loaded"]
    version = loaded["version"]
    return Loaded(
        Settings.from_json(loaded["settings"]),
        tuple(loaded["tasks"]),
        version,
        loaded["graces"],
        # Another version, which is refused, may write entries in another way.
        tuple(map(read_entry, loaded["crontab"])) if version == __version__ else (),
    )


def _sources(settings: Settings) -> str:
    return ", ".join((*settings.modules, *([] if settings.tasks_dir is None else [str(settings.tasks_dir)])))
