"""Procrastinate, on psycopg."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from benchmarks.counting import Table
from benchmarks.peers.base import SCRIPTS, Peer, answer, install_python, version_of
from benchmarks.processes import started, throughput
from benchmarks.server import postgres_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.server import Server

PROCESSES = 2
SLOTS = 24
SCRIPT = SCRIPTS / "procrastinate_app.py"


class Procrastinate(Peer):
    """Async tasks; done jobs stay in its table, as by default."""

    name = "procrastinate"
    title = "Procrastinate"
    about = f"{PROCESSES} processes with {SLOTS} slots each"
    share = 0.05

    def install(self) -> None:
        """Install it with pip."""
        self._python = install_python("procrastinate", "procrastinate", "psycopg[binary,pool]")
        self.version = version_of(self._python, "procrastinate")

    @contextmanager
    def opened(self, server: Server) -> Iterator[None]:
        """Make a database with its own schema."""
        self._log = server.directory / "procrastinate.log"
        with (
            server.database("bench_procrastinate") as conninfo,
            psycopg.connect(conninfo, autocommit=True) as self._connection,
        ):
            self._environment = {**postgres_environment(conninfo), "PYTHONPATH": str(SCRIPTS)}
            answer(self._command("schema", "--apply"), self._environment, may_be_silent=True)
            self._table = Table(self._connection, "procrastinate_jobs", "status in ('todo', 'doing')")
            yield

    def throughput(self, jobs: int) -> float:
        """Run its workers on jobs that it has added itself."""
        self.clear()
        self._fill(jobs, min(jobs, 1_000))
        self._connection.execute("vacuum analyze procrastinate_jobs")
        command = self._command("worker", "--concurrency", str(SLOTS))
        return throughput(self._table, started([command] * PROCESSES, self._log, self._environment), PROCESSES)

    def adding(self, jobs: int) -> dict[str, float]:
        """One at a time, and many in one call."""
        few, many = max(100, jobs // 100), max(1_000, jobs // 1_000 * 1_000)
        return {"defer": self._add(few, 1), "batch_defer, 1,000 a call": self._add(many, 1_000)}

    def _add(self, jobs: int, batch: int) -> float:
        self.clear()
        return jobs / self._fill(jobs, batch)

    def _fill(self, jobs: int, batch: int) -> float:
        return float(answer([self._python, SCRIPT, "add", str(jobs), str(batch)], self._environment))

    def clear(self) -> None:
        """Empty its tables."""
        self._connection.execute("truncate procrastinate_jobs cascade")

    def _command(self, *arguments: str) -> list[str | Path]:
        return [self._python, "-m", "procrastinate", "--app", "procrastinate_app.app", *arguments]
