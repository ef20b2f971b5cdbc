"""Real workers, each a command in a process of its own, on a database that has the table its jobs write to."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest

from pgtasks import App, Registry
from tests.forked import forks, may_be_forked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.forked import Command

ROOT = Path(__file__).parents[2]
LONG = 60.0
"""How long a test waits in vain before it fails, on a machine that is busy with other tests."""


class Worker:
    """A running `pgtasks worker`, with its log."""

    def __init__(
        self,
        conninfo: str,
        log_file: Path,
        modules: tuple[str, ...],
        options: tuple[str, ...],
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> None:
        self._log_file = log_file
        self._read: list[dict[str, Any]] = []
        self._read_to = 0
        self._sees_our_pids = "unshare" not in before
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DATABASE_URL"))}
        environment = {**kept, "PGTASKS_DATABASE_URL": conninfo, "PGTASKS_LOG_FORMAT": "json", **(env or {})}
        arguments = ["worker", *modules, *options]
        self.process: Command | subprocess.Popen[bytes]
        with log_file.open("wb") as log, Path(os.devnull).open("rb") as nothing:
            if before or not may_be_forked(env):
                self.process = subprocess.Popen(
                    [*before, sys.executable, "-m", "pgtasks", *arguments],
                    cwd=cwd,
                    env=environment,
                    stdin=nothing,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            else:
                self.process = forks().start(arguments, cwd, environment, [nothing, log, log])

    @property
    def text(self) -> str:
        return self._log_file.read_text()

    def records(self, event: str | None = None, **keys: Any) -> list[dict[str, Any]]:
        """Return records of the log; only what is new is read, as it is looked at a hundred times a second."""
        with self._log_file.open("rb") as file:
            file.seek(self._read_to)
            lines, newline, _ = file.read().rpartition(b"\n")
        if newline:
            self._read_to += len(lines) + 1
            for line in lines.split(b"\n"):
                with contextlib.suppress(ValueError):
                    if isinstance(record := json.loads(line), dict):
                        self._read.append(record)
        return [one for one in self._read if event in (None, one.get("event")) and keys.items() <= one.items()]

    def wait_for(self, event: str, count: int = 1, **keys: Any) -> dict[str, Any]:
        def happened() -> bool:
            return len(self.records(event, **keys)) >= count or self.process.poll() is not None

        wait_until(happened, LONG, f"{count} records {event!r} {keys} in the log:\n{self.text}")
        found = self.records(event, **keys)
        assert len(found) >= count, f"the worker ended without {count} records {event!r} {keys}:\n{self.text}"
        return found[count - 1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end:\n{self.text}") from None

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def process_ids(self, at_least: int = 1) -> list[int]:
        """The worker processes that were started, as soon as it has said so of the first ones, or has ended.

        A process may have run a job before that.
        """

        def told() -> bool:
            return len(self.records("process_started")) >= at_least or self.process.poll() is not None

        wait_until(told, LONG, f"the start of {at_least} worker processes:\n{self.text}")
        return [record["pid"] for record in self.records("process_started")]

    def kill_all(self) -> None:
        """Kill it with all its processes, so that none sees another's end and does something about it."""
        pids = [self.process.pid, *self.process_ids()]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                os.kill(pid, number)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.process_ids() if self._sees_our_pids else []:
            wait_until(lambda pid=pid: not alive(pid), LONG, f"the end of worker process {pid}")  # type: ignore[misc]


def prepared(code: str) -> tuple[str, ...]:
    """What to start a worker by (`before`) so that `code` runs in its process first."""
    run = "import runpy, sys; sys.argv[:4] = ['pgtasks']; runpy.run_module('pgtasks', run_name='__main__')"
    return (sys.executable, "-c", f"{code}\n{run}")


class StartWorker(Protocol):
    def __call__(
        self,
        *options: str,
        modules: tuple[str, ...] = ...,
        cwd: Path = ...,
        env: Mapping[str, str] | None = ...,
        before: tuple[str, ...] = ...,
    ) -> Worker: ...


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    entry = Path(f"/proc/{pid}/stat")
    if Path("/proc/self").exists():  # asked often, and so without a program
        try:
            state = entry.read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
    else:
        command = ["ps", "-o", "stat=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[:1]
    return state not in ("Z", "X", "")


def parent_of(pid: int) -> int:
    return int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(pid)]))


class Database:
    """The test's own look at the database."""

    def __init__(self, connection: psycopg.Connection, app: App) -> None:
        self.connection = connection
        self.app = app

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), parameters).fetchall()

    def value(self, query: str, *parameters: object) -> Any:
        return self.rows(query, *parameters)[0][0]

    def effects(self, what: str = "ran") -> list[int]:
        """The ids of the jobs that have done `what`, in the order in which they did."""
        return [row[0] for row in self.rows("select job_id from effects where what = %s order by position", what)]

    def job(self, job_id: int) -> Any:
        """Its row in the view, by column name, or None."""
        with self.connection.cursor(row_factory=psycopg.rows.namedtuple_row) as cursor:
            return cursor.execute("select * from graphile_worker.jobs where id = %s", (job_id,)).fetchone()

    def locked(self) -> int:
        jobs = self.value("select count(*) from graphile_worker.jobs where locked_at is not null")
        queues = self.value("select count(*) from graphile_worker._private_job_queues where locked_at is not null")
        return int(jobs + queues)

    def count(self) -> int:
        return int(self.value("select count(*) from graphile_worker.jobs"))

    def permit(self, name: str) -> None:
        self.connection.execute("insert into permits values (%s)", (name,))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, LONG, what)

    def wait_for_effects(self, number: int, what: str = "ran") -> None:
        self.wait(lambda: len(self.effects(what)) >= number, f"{number} jobs that {what}")

    def wait_until_empty(self) -> None:
        self.wait(lambda: self.count() == 0, "an empty queue")


@pytest.fixture
def db(database: str) -> Iterator[Database]:
    app = App(registry=Registry(), database_url=database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("""
            create table effects (
                position bigint generated always as identity primary key, job_id bigint, attempt int, what text, pid int
            );
            create table permits (name text);
            create table ledger (job_id bigint, attempt int);
        """)
        yield Database(connection, app)
    app.close()


@pytest.fixture
def start_worker(database: str, db: Database, tmp_path: Path) -> Iterator[StartWorker]:
    running: list[Worker] = []

    def start(
        *options: str,
        modules: tuple[str, ...] = ("tests.worker.jobs",),
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        before: tuple[str, ...] = (),
    ) -> Worker:
        log_file = tmp_path / f"worker-{len(running)}.log"
        worker = Worker(database, log_file, modules, options, cwd=cwd, env=env, before=before)
        running.append(worker)
        return worker

    yield start
    for worker in running:
        worker.close()
