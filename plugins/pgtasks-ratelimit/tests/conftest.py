"""Fixtures: databases that have the plugin's tables, and workers that have the plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks import JobSpec
from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from pgtasks_ratelimit.migrations import migrations
from tests.conftest import server, servers  # noqa: F401 - fixtures
from tests.waiting import wait_until
from tests.worker.conftest import LONG, db, start_worker  # noqa: F401 - fixtures

# pytest imports tests by their paths, so that modules which they share are not found.
sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Server
    from tests.worker.conftest import Database, StartWorker, Worker

SCHEMA = "graphile_worker"


@pytest.fixture(scope="session")
def schema(request: pytest.FixtureRequest) -> str:
    name: str = getattr(request, "param", SCHEMA)
    return name


@pytest.fixture
def database(server: Server, schema: str) -> Iterator[str]:  # noqa: F811
    """The connection string of a new database that has the schema and the plugin's tables."""

    def install(conn: psycopg.Connection[Any]) -> None:
        migrate(conn, schema)
        migrate_plugins(conn, schema, plugin_steps(schema, [("ratelimit", migrations())]))

    name = server.create_database(server.template(f"ratelimit {schema}", install))
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


class Limited:
    """Workers with limits, and what their jobs have noted."""

    def __init__(self, start: StartWorker, db: Database, notes: Path) -> None:  # noqa: F811
        self._start = start
        self._notes = notes
        self.db = db

    def start(self, limits: dict[str, str], *options: str, **settings: Any) -> Worker:
        env = {
            "PGTASKS_PLUGINS": "pgtasks_ratelimit,ratelimit_watch",
            "PGTASKS_PLUGIN_RATELIMIT__LIMITS": json.dumps(limits),
            "PGTASKS_PLUGIN_RATELIMIT__REFRESH": "0.2",
            "NOTES": str(self._notes),
            "PYTHONPATH": ":".join(sys.path),
            **settings,
        }
        return self._start(*options, modules=("ratelimit_jobs",), env=env)

    def add(self, count: int, *flags: str, task: str = "work", payload: Any = None, **options: Any) -> list[int]:
        spec = JobSpec(task=task, payload=payload or {}, flags=flags, **options)
        return [job.id for job in self.db.app.add_jobs([spec] * count)]

    def notes(self, what: str) -> list[tuple[int, float]]:
        """The jobs that have noted this and when, in order."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        return [(int(line[1]), float(line[2])) for line in map(str.split, lines) if line[0] == what]

    def started_in(self, pid: int) -> set[int]:
        """The jobs that have started in this process."""
        lines = map(str.split, self._notes.read_text().splitlines())
        return {int(line[1]) for line in lines if line[0] == "start" and int(line[3]) == pid}

    def started(self) -> list[int]:
        return [job_id for job_id, _ in self.notes("start")]

    def most_running(self) -> int:
        lines = self._notes.read_text().splitlines()
        running = most = 0
        for line in lines:
            running += {"start": 1, "end": -1}.get(line.split()[0], 0)
            most = max(most, running)
        return most

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, LONG, what)

    def wait_for_starts(self, count: int) -> None:
        self.wait_for(lambda: len(self.started()) >= count, f"{count} starts")


@pytest.fixture
def limited(start_worker: StartWorker, db: Database, tmp_path: Path) -> Limited:  # noqa: F811
    return Limited(start_worker, db, tmp_path / "notes")
