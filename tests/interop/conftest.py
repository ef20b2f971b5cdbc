"""Real Graphile Workers beside real workers of ours, on one database each test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgtasks import App, Registry
from tests.interop.releases import HERE, LABELS, Release, find_release
from tests.npm import install, skipping_what_is_unavailable
from tests.waiting import wait_until
from tests.worker.conftest import LONG, Database, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLES = """
    create table runs (
        position bigint generated always as identity primary key,
        job_id bigint not null,
        task text not null,
        side text not null,
        attempt int not null,
        payload json,
        started timestamptz not null default clock_timestamp(),
        ended timestamptz
    );
    create table permits (name text);
"""


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Path:
    """Where npm has installed all releases of Graphile Worker that are tested."""
    with skipping_what_is_unavailable():
        return install(HERE, request.config.cache.mkdir("graphile-worker"))


@pytest.fixture(scope="session", params=LABELS)
def release(request: pytest.FixtureRequest, packages: Path) -> Release:
    """Each release of Graphile Worker in turn."""
    with skipping_what_is_unavailable():
        return find_release(request.param, packages)


class Graphile:
    """A release of Graphile Worker on a database."""

    def __init__(self, release: Release, conninfo: str) -> None:
        self.release = release
        values = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DATABASE_URL", "NODE_"))}
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        self.environment = kept | {names[name]: value for name, value in values.items() if name in names}

    def command(self, command: str, value: object = None) -> list[str]:
        base = [str(self.release.node), str(HERE / "runner.mjs"), str(self.release.package), command]
        return base if value is None else [*base, json.dumps(value)]

    def about(self) -> dict[str, str]:
        answer: dict[str, str] = json.loads(self._run(self.command("about")))
        return answer

    def call(self, *calls: tuple[str, list[Any]]) -> list[Any]:
        """Call methods of its WorkerUtils; it brings its schema up to date first, as it always does."""
        answers: list[Any] = json.loads(self._run(self.command("call", calls)))
        return answers

    def add_job(self, *values: object) -> int:
        """Add a job and return its id."""
        [job] = self.call(("addJob", list(values)))
        return int(job["id"])

    def cleanup(self, *operations: str, cwd: Path) -> None:
        """Run its own command line with `--cleanup`, in a directory with the tasks that it demands."""
        tasks = cwd / "tasks"
        tasks.mkdir(exist_ok=True)
        (tasks / "node_note.js").write_text("module.exports = async () => {};\n")
        cli = self.release.package / "dist" / "cli.js"
        self._run([str(self.release.node), str(cli), "--cleanup", ",".join(operations)], cwd)

    def _run(self, command: list[str], cwd: Path = HERE) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=LONG, check=False, cwd=cwd
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


class NodeWorker:
    """A running Graphile Worker."""

    def __init__(
        self, graphile: Graphile, log_file: Path, tasks: dict[str, str], poll_interval: float, crontab: str = ""
    ) -> None:
        self._log_file = log_file
        options: dict[str, Any] = {"tasks": tasks, "concurrency": 4, "pollInterval": round(poll_interval * 1000)}
        options["crontab"] = crontab
        with log_file.open("wb") as log:
            self.process = subprocess.Popen(
                graphile.command("work", options),
                cwd=HERE,
                env=graphile.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self._log_file.read_text()

    def wait_until_started(self) -> None:
        self.wait_for_text('{"event":"started"}')

    def wait_for_text(self, text: str) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, LONG, f"{text} in:\n{self.text}")
        assert text in self.text, f"it ended without {text}:\n{self.text}"

    def wait(self) -> int:
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Graphile Worker did not end:\n{self.text}") from None

    def stop(self) -> None:
        """Let it finish its jobs; it then ends itself by the signal that it got."""
        self.process.send_signal(signal.SIGTERM)
        assert self.wait() in (0, -signal.SIGTERM), self.text

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class StartNode(Protocol):
    def __call__(
        self, tasks: dict[str, str] | None = None, poll_interval: float = ..., crontab: str = ...
    ) -> NodeWorker: ...


class StartPython(Protocol):
    def __call__(self, *options: str, poll_interval: float = ...) -> Worker: ...


class Shared(Database):
    """The test's own look at the database that both sides share."""

    def runs(self, columns: str = "job_id, side", where: str = "true") -> list[tuple[Any, ...]]:
        return self.rows(f"select {columns} from runs where {where} order by position")

    def wait_for_run(self, job_id: int, *, ended: bool = True, attempt: int = 1) -> None:
        condition = f"job_id = {job_id} and attempt = {attempt} and (ended is not null or not {ended})"
        self.wait(lambda: self.runs(where=condition), f"attempt {attempt} of job {job_id}")

    def payload_of(self, job_id: int) -> Any:
        """The JSON that the handler of a job got, as text."""
        return self.value("select payload::text from runs where job_id = %s", job_id)


@pytest.fixture
def db(database: str) -> Iterator[Shared]:
    app = App(registry=Registry(), database_url=database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLES)
        yield Shared(connection, app)
    app.close()


@pytest.fixture
def graphile(release: Release, database: str, db: Shared) -> Graphile:
    return Graphile(release, database)


@pytest.fixture
def start_node(graphile: Graphile, tmp_path: Path) -> Iterator[StartNode]:
    """Start a Graphile Worker that runs, by default, the tasks `node_note` and `hold`."""
    running: list[NodeWorker] = []

    def start(tasks: dict[str, str] | None = None, poll_interval: float = 0.2, crontab: str = "") -> NodeWorker:
        tasks = tasks or {"node_note": "note", "hold": "hold"}
        running.append(NodeWorker(graphile, tmp_path / f"node-{len(running)}.log", tasks, poll_interval, crontab))
        return running[-1]

    yield start
    for worker in running:
        worker.kill()


@pytest.fixture
def start_python(database: str, tmp_path: Path) -> Iterator[StartPython]:
    """Start a worker of ours with one process, which runs the tasks in `tasks.py`: `py_note`, `note` and `hold`."""
    running: list[Worker] = []

    def start(*options: str, poll_interval: float = 0.2) -> Worker:
        log_file = tmp_path / f"python-{len(running)}.log"
        options = ("--processes", "1", "--poll-interval", str(poll_interval), *options)
        running.append(Worker(database, log_file, ("tests.interop.tasks",), options))
        return running[-1]

    yield start
    for worker in running:
        worker.close()
