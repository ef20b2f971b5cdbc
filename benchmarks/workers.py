"""pgtasks itself: its database, its workers, and filling its queue."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.counting import Table
from benchmarks.processes import started, throughput
from benchmarks.results import MeasurementError
from pgtasks import App
from pgtasks.queue.migrate import migrate

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.server import Server

JOBS = "graphile_worker._private_jobs"
PROCESSES = 2
SLOTS = 24
"""Jobs that a process runs at a time, as many as Graphile Worker is given."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A database with pgtasks' schema."""

    conninfo: str
    connection: psycopg.Connection[Any]
    log: Path

    @property
    def table(self) -> Table:
        """The jobs that have neither succeeded nor failed for good."""
        return Table(self.connection, JOBS, "not (locked_at is null and attempts >= max_attempts)")

    def clear(self) -> None:
        """Empty the queue."""
        self.connection.execute(f"truncate {JOBS}, graphile_worker._private_job_queues")

    def fill(self, jobs: int, task: str = "noop", queues: int = 0, fail_every: int = 0) -> None:
        """Put so many jobs into the empty queue.

        Args:
            jobs: How many.
            task: Name of their task.
            queues: Over how many named queues they are spread; 0 for none.
            fail_every: Of so many jobs one fails, for good; 0 for none.
        """
        self.clear()
        self.add(jobs, task, queues, fail_every)
        self.connection.execute(f"vacuum analyze {JOBS}")

    def add(self, jobs: int, task: str = "noop", queues: int = 0, fail_every: int = 0) -> None:
        """Add so many jobs with one statement."""
        self.connection.execute(
            """
            select count(*) from graphile_worker.add_jobs(array(
                select row(
                    case when %(fail_every)s > 0 and n %% nullif(%(fail_every)s, 0) = 0 then 'fail' else %(task)s end,
                    null,
                    case when %(queues)s > 0 then 'queue ' || n %% nullif(%(queues)s, 0) end,
                    null,
                    case when %(fail_every)s > 0 and n %% nullif(%(fail_every)s, 0) = 0 then 1 end,
                    null, null, null
                )::graphile_worker.job_spec
                from generate_series(1, %(jobs)s) as n
            ))
            """,
            {"jobs": jobs, "task": task, "queues": queues, "fail_every": fail_every},
        )

    def fill_mixed(self, jobs: int, common: str, rare: str, every: int) -> None:
        """Put so many jobs of one task into the empty queue, of which one in `every` is of another instead."""
        self.clear()
        self.connection.execute(
            """
            select count(*) from graphile_worker.add_jobs(array(
                select row(
                    case when n %% %(every)s = 0 then %(rare)s else %(common)s end,
                    null, null, null, null, null, null, null
                )::graphile_worker.job_spec
                from generate_series(1, %(jobs)s) as n
            ))
            """,
            {"jobs": jobs, "common": common, "rare": rare, "every": every},
        )
        self.connection.execute(f"vacuum analyze {JOBS}")

    def worker(
        self,
        *,
        processes: int = PROCESSES,
        slots: int = SLOTS,
        hosts: int = 1,
        environment: dict[str, str] | None = None,
    ) -> AbstractContextManager[list[subprocess.Popen[bytes]]]:
        """Run a worker of so many processes, with so many slots each; or several that share these processes."""
        command = [sys.executable, "-m", "pgtasks", "worker", "benchmarks.tasks", "--log-level", "warning"]
        command += ["--processes", str(processes // hosts), "--concurrency", str(slots)]
        return started([command] * hosts, self.log, {"PGTASKS_DATABASE_URL": self.conninfo, **(environment or {})})

    def work_off(self) -> None:
        """Run a worker until there is nothing to do any more, and look at nothing meanwhile."""
        command = [sys.executable, "-m", "pgtasks", "worker", "benchmarks.tasks", "--once", "--log-level", "warning"]
        command += ["--processes", str(PROCESSES), "--concurrency", str(SLOTS)]
        with started([command], self.log, {"PGTASKS_DATABASE_URL": self.conninfo}) as workers:
            workers[0].wait()
        if workers[0].returncode != 0:
            raise MeasurementError(f"the worker ended with exit code {workers[0].returncode}")

    def throughput(self, *, processes: int = PROCESSES, slots: int = SLOTS, hosts: int = 1) -> float:
        """Jobs a second that workers do, of those that are there."""
        return throughput(self.table, self.worker(processes=processes, slots=slots, hosts=hosts), processes)


@contextmanager
def queue_on(server: Server, database: str = "bench_pgtasks") -> Iterator[Queue]:
    """Make a database for pgtasks, with an app of this process that adds to it."""
    with (
        server.database(database) as conninfo,
        psycopg.connect(conninfo, autocommit=True) as connection,
    ):
        migrate(connection)
        app = App(database_url=conninfo)
        try:
            yield Queue(conninfo, connection, server.directory / "pgtasks.log")
        finally:
            app.close()
