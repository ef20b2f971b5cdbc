"""PGQueuer, on asyncpg and uvloop."""

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

    from benchmarks.server import Server

PROCESSES = 2
SCRIPT = SCRIPTS / "pgqueuer_app.py"


class PGQueuer(Peer):
    """Large batches; its tables as durable as it makes them by default."""

    name = "pgqueuer"
    title = "PGQueuer"
    about = f"asyncpg and uvloop, {PROCESSES} processes, batches of 1,000"

    def install(self) -> None:
        """Install it with pip."""
        self._python = install_python("pgqueuer", "pgqueuer[asyncpg]", "uvloop")
        self.version = version_of(self._python, "pgqueuer")

    @contextmanager
    def opened(self, server: Server) -> Iterator[None]:
        """Make a database with its own schema."""
        self._log = server.directory / "pgqueuer.log"
        with (
            server.database("bench_pgqueuer") as conninfo,
            psycopg.connect(conninfo, autocommit=True) as self._connection,
        ):
            self._environment = postgres_environment(conninfo)
            answer([self._python, "-m", "pgqueuer", "install"], self._environment, may_be_silent=True)
            self._table = Table(self._connection, "pgqueuer")
            yield

    def throughput(self, jobs: int) -> float:
        """Run its workers on rows as it adds them itself."""
        self.clear()
        self._connection.execute(
            """
            insert into pgqueuer (priority, status, entrypoint)
            select 0, 'queued', 'noop' from generate_series(1, %s)
            """,
            (jobs,),
        )
        self._connection.execute("vacuum analyze pgqueuer")
        workers = started([[self._python, SCRIPT, "work"]] * PROCESSES, self._log, self._environment)
        return throughput(self._table, workers, PROCESSES)

    def adding(self, jobs: int) -> dict[str, float]:
        """One at a time, and many in one call."""
        few, many = max(100, jobs // 50), max(1_000, jobs // 1_000 * 1_000)
        return {"enqueue": self._add(few, 1), "enqueue, 1,000 a call": self._add(many, 1_000)}

    def _add(self, jobs: int, batch: int) -> float:
        self.clear()
        return jobs / float(answer([self._python, SCRIPT, "add", str(jobs), str(batch)], self._environment))

    def clear(self) -> None:
        """Empty its tables."""
        self._connection.execute("truncate pgqueuer, pgqueuer_log")
