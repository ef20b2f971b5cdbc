"""Real workers: the command `pgtasks worker` in a process of its own, and what it logs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import orjson

from pgtasks.settings.sources import PLUGIN_TABLE, environment_name, plugin_environment_name
from pgtasks.testing import recorder
from pgtasks.testing.recording import HookRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ERROR: Final = "pgtasks: error: "
_LOOK_SECONDS: Final = 0.02
Records = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """A worker that has ended."""

    code: int
    """Its exit code, or negative the signal that has killed it."""
    log: str
    """What it has written to stderr: its log, and then the error over which it ended, if any."""
    output: str
    """What it and its tasks have written to stdout."""

    @property
    def error(self) -> str | None:
        """The message that it ended with, after `pgtasks: error: `."""
        _, mark, message = self.log.partition(_ERROR)
        return message.strip() if mark else None

    def records(self, event: str | None = None, **keys: Any) -> Records:
        """Return the records of its log, in order: all, or those of an event, with these values of these keys."""
        return _records(self.log, event, keys)


class RunningWorker:
    """A worker that runs; `start_worker` makes it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, output: Path, timeout: float) -> None:
        self._process = process
        self._log = log
        self._output = output
        self._timeout = timeout
        self._left: tuple[str, str] | None = None
        """Log and output of a worker that is gone, as its files are."""

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written to stderr so far."""
        return self._read()[0]

    def records(self, event: str | None = None, **keys: Any) -> Records:
        """Return the records of its log so far, as `WorkerRun.records` does."""
        return _records(self.log, event, keys)

    def wait_for(self, event: str, count: int = 1, **keys: Any) -> Records:
        """Return the records of an event as soon as there are so many.

        Raises:
            AssertionError: the worker has ended, or its time is up, and there are not.
        """
        until = time.monotonic() + self._timeout
        while True:
            ended = self._process.poll() is not None
            found = self.records(event, **keys)
            if len(found) >= count:
                return found
            if ended or time.monotonic() > until:
                why = f"ended with code {self._process.returncode}" if ended else f"ran for {self._timeout:g} s"
                raise AssertionError(f"the worker {why} without {count} records {event!r} {keys}:\n{self.log}")
            time.sleep(_LOOK_SECONDS)

    def send_signal(self, number: int) -> None:
        """Send a signal to its supervisor."""
        self._process.send_signal(number)

    def wait(self) -> WorkerRun:
        """Wait for its end.

        Raises:
            AssertionError: it has not ended within its time; it is killed.
        """
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the worker did not end within {self._timeout:g} s:\n{self.log}") from None
        return WorkerRun(self._process.returncode, *self._read())

    def stop(self) -> WorkerRun:
        """Tell it to end (TERM), and wait until it has."""
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """Kill it, if it still runs; its processes end with it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and keep what its files hold."""
        self.kill()
        self._left = self._read()

    def _read(self) -> tuple[str, str]:
        if self._left is not None:
            return self._left
        return self._log.read_text(errors="replace"), self._output.read_text(errors="replace")


def run_worker(
    modules: str | Sequence[str],
    *,
    database: str,
    plugins: Sequence[object] = (),
    once: bool = True,
    processes: int = 1,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    **settings: Any,
) -> WorkerRun:
    """Run `pgtasks worker --once`, which ends when no job is runnable any more, and return how it went.

    The worker gets no `PG…` and `PGTASKS_…` variables but those that are named here, loads no plugin but those, and
    imports what this process can import.

    Args:
        modules: what it imports to find tasks.
        database: the connection string of its database.
        plugins: names of installed plugins, modules that are plugins, or their names, and a `HookRecorder`. Objects
            cannot be taken into another process.
        once: False: it runs until something else ends it.
        processes: how many worker processes it has.
        cwd: its working directory, in which modules are looked for first; the current one by default.
        env: more environment variables.
        timeout: seconds after which it is killed.
        settings: any settings by name, as of `App`; `plugin={"shop": {"key": "value"}}` are those of plugins.

    Raises:
        AssertionError: it has not ended in time; the message has its log.
        TypeError: a plugin is an object.

    Examples:
        ```python
        run = run_worker("jobs", database=pgtasks_database, plugins=["shop"])
        assert run.code == 0
        assert run.records("job_failed", task="charge")
        ```
    """
    options = ("--once",) if once else ()
    with _worker(options, modules, database, plugins, processes, cwd, env, timeout, settings) as worker:
        return worker.wait()


@contextlib.contextmanager
def start_worker(
    modules: str | Sequence[str],
    *,
    database: str,
    plugins: Sequence[object] = (),
    processes: int = 1,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    **settings: Any,
) -> Iterator[RunningWorker]:
    """Run `pgtasks worker` for as long as a block lasts; at its end the worker is killed if it still runs.

    Args:
        modules: as for `run_worker`, like all that follow.
        database: its database.
        plugins: its plugins.
        processes: how many worker processes it has.
        cwd: its working directory.
        env: more environment variables.
        timeout: seconds for which any method waits.
        settings: any settings by name.

    Examples:
        ```python
        with start_worker("jobs", database=pgtasks_database, plugins=["shop"]) as worker:
            worker.wait_for("worker_ready")
            assert worker.stop().code == 0
        ```
    """
    with _worker((), modules, database, plugins, processes, cwd, env, timeout, settings) as worker:
        yield worker


@contextlib.contextmanager
def _worker(
    options: Sequence[str],
    modules: str | Sequence[str],
    database: str,
    plugins: Sequence[object],
    processes: int,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    timeout: float,
    settings: Mapping[str, Any],
) -> Iterator[RunningWorker]:
    environment = {
        **_inherited(),
        **_as_environment({"autoload_plugins": False, "log_format": "json", "processes": processes, **settings}),
        **_plugins_environment(plugins),
        environment_name("database_url"): database,
        **(env or {}),
    }
    modules = [modules] if isinstance(modules, str) else modules
    with tempfile.TemporaryDirectory(prefix="pgtasks-worker-") as directory:
        log, output = Path(directory, "log"), Path(directory, "output")
        with log.open("wb") as stderr, output.open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "pgtasks", "worker", *modules, *options],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # so that Ctrl-C reaches the tests alone, which then end it
            )
        worker = RunningWorker(process, log, output, timeout)
        try:
            yield worker
        finally:
            worker.close()


def _inherited() -> dict[str, str]:
    """Return this process's environment without what chooses a database or a setting, and with all it can import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_URL"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _as_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    tables = settings.get(PLUGIN_TABLE, {})
    return {
        **{environment_name(name): _text(value) for name, value in settings.items() if name != PLUGIN_TABLE},
        **{
            plugin_environment_name(plugin, key): _text(value)
            for plugin, table in tables.items()
            for key, value in table.items()
        },
    }


def _plugins_environment(plugins: Sequence[object]) -> dict[str, str]:
    names: list[str] = []
    more: dict[str, str] = {}
    for plugin in plugins:
        match plugin:
            case str():
                names.append(plugin)
            case HookRecorder():
                names.append(recorder.__name__)
                more = {recorder.FILE: str(plugin.file), recorder.HOOKS: _text(plugin.hooks)}
            case ModuleType():
                names.append(plugin.__name__)
            case _:
                raise TypeError(
                    f"plugin {plugin!r} is an object, which a worker cannot be given, since it is another process: "
                    "name the plugin, if it is installed, or its module"
                )
    return {environment_name("plugins"): _text(names), **more} if names else more


def _text(value: Any) -> str:
    """Return a setting's value as the environment has it."""
    if isinstance(value, str | os.PathLike):
        return str(value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return orjson.dumps(value, default=list).decode() if isinstance(value, list | tuple | dict | set) else str(value)


def _records(log: str, event: str | None, keys: Mapping[str, Any]) -> Records:
    found = []
    for line in log.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            record = orjson.loads(line)
            if isinstance(record, dict) and event in (None, record.get("event")) and keys.items() <= record.items():
                found.append(record)
    return found
