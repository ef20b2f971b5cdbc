"""`make bench`: throughput, adding and latency, as ratios to a bare psycopg loop and to SQL alone in the same run.

The server is an embedded PostgreSQL with its default durability, in a directory that is removed afterwards. Jobs count
when the database no longer has them, not when a handler was called. Each figure is the median of some rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.noop import noop
from pgtasks import App, current_app
from pgtasks.embedded import acquire
from pgtasks.queue.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
BARE_CLAIM = """
    delete from graphile_worker._private_jobs where id in (
        select id from graphile_worker._private_jobs
        where is_available and run_at <= now() and job_queue_id is null
        order by priority, run_at, id limit 500 for update skip locked
    ) returning id, payload
"""
"""Weaker than a worker's claim and finish, which are two statements and keep a job that a crash cuts off: a limit."""


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs in a round of a throughput measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # Not in a temporary directory, which may be in memory; and where an account of PostgreSQL's own may go.
    directory = ROOT / ".bench" / str(os.getpid())
    directory.parent.mkdir(exist_ok=True)
    try:
        with acquire(directory=directory) as lease, psycopg.connect(lease.conninfo, autocommit=True) as connection:
            migrate(connection)
            connection.execute("create table public.waits (job_id bigint, seconds double precision)")
            App(database_url=lease.conninfo)
            measure(connection, lease.conninfo, options.jobs, options.rounds)
            current_app().close()
    finally:
        shutil.rmtree(directory.parent, ignore_errors=True)


def measure(connection: psycopg.Connection[Any], conninfo: str, jobs: int, rounds: int) -> None:
    """Take all measurements and print them."""
    (version, durability) = connection.execute(
        "select current_setting('server_version'), current_setting('synchronous_commit')"
    ).fetchone() or ("", "")
    console = Console()
    console.print(
        f"PostgreSQL {version}, synchronous_commit={durability}, fsync on; Python {sys.version.split()[0]}; "
        f"{len(os.sched_getaffinity(0))} cores; {jobs:,} jobs a round, median of {rounds} rounds"
    )
    table = Table("measurement", "figure", "compared with", title="pgtasks benchmarks")

    def rate(run: Callable[[], float]) -> float:
        return statistics.median(run() for _ in range(rounds))

    bare = rate(lambda: bare_loop(connection, conninfo, jobs))
    table.add_row("limit: bare loop, 2 threads, claim and delete 500 in one statement", f"{bare:,.0f} jobs/s", "")
    for task in ("noop", "noop_async"):
        for concurrency in (10, 50):
            figure = rate(lambda: throughput(connection, conninfo, task, jobs, concurrency))  # noqa: B023 - run at once
            table.add_row(
                f"{task}, 2 processes, concurrency {concurrency}",
                f"{figure:,.0f} jobs/s",
                f"{figure / bare:.2f} of the bare loop",
            )
    alone = rate(lambda: add_in_sql(connection, jobs))
    table.add_row("limit: add_jobs in SQL alone", f"{alone:,.0f} jobs/s", "")
    many = rate(lambda: add_many(connection, jobs))
    table.add_row("defer_many, 10,000 a call", f"{many:,.0f} jobs/s", f"{many / alone:.2f} of SQL alone")
    single = rate(lambda: add_single(connection, 2_000))
    table.add_row("defer, one at a time", f"{single:,.0f} jobs/s", "")
    p50, p99 = latency(connection, conninfo, 1_000)
    table.add_row(
        "idle, from defer to the handler's first line", f"p50 {p50 * 1000:.2f} ms", f"p99 {p99 * 1000:.2f} ms"
    )
    console.print(table)


def bare_loop(connection: psycopg.Connection[Any], conninfo: str, jobs: int) -> float:
    """Claim, call and delete with nothing around: what the database itself can do."""
    fill(connection, jobs)

    def drain() -> None:
        with psycopg.connect(conninfo, autocommit=True) as own:
            while rows := own.execute(BARE_CLAIM).fetchall():
                for _row in rows:
                    noop()

    threads = [threading.Thread(target=drain) for _ in range(2)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return jobs / (time.perf_counter() - began)


def throughput(connection: psycopg.Connection[Any], conninfo: str, task: str, jobs: int, concurrency: int) -> float:
    """Jobs a second, from the first that is gone to the last."""
    fill(connection, jobs, task)
    with worker(conninfo, "--concurrency", str(concurrency)) as process:
        first: tuple[float, int] | None = None
        while True:
            left = count(connection)
            now = time.perf_counter()
            if first is None and left < jobs:
                first = (now, left)
            if left == 0:
                assert first is not None
                return first[1] / (now - first[0])
            if process.poll() is not None:
                raise SystemExit("the worker ended before its jobs did")
            time.sleep(0.01)


def add_in_sql(connection: psycopg.Connection[Any], jobs: int) -> float:
    """Jobs a second that one statement adds."""
    clear(connection)
    began = time.perf_counter()
    fill_with(connection, jobs, "noop")
    return jobs / (time.perf_counter() - began)


def add_many(connection: psycopg.Connection[Any], jobs: int) -> float:
    """Jobs a second by `defer_many`."""
    clear(connection)
    began = time.perf_counter()
    for _ in range(0, jobs, 10_000):
        noop.defer_many([None] * 10_000)
    return jobs / (time.perf_counter() - began)


def add_single(connection: psycopg.Connection[Any], jobs: int) -> float:
    """Jobs a second by `defer`, each in a transaction of its own."""
    clear(connection)
    began = time.perf_counter()
    for _ in range(jobs):
        noop.defer()
    return jobs / (time.perf_counter() - began)


def latency(connection: psycopg.Connection[Any], conninfo: str, jobs: int) -> tuple[float, float]:
    """Seconds from before `defer` to the handler's first line, one job at a time: median and 99th percentile."""
    clear(connection)
    connection.execute("truncate public.waits")
    with worker(conninfo):
        for number in range(jobs):
            current_app().add_job("timed", {"added": time.time()})
            while connection.execute("select count(*) from public.waits").fetchone() != (number + 1,):
                time.sleep(0.001)
    waits = sorted(row[0] for row in connection.execute("select seconds from public.waits order by job_id offset 50"))
    return statistics.median(waits), waits[int(len(waits) * 0.99)]


@contextmanager
def worker(conninfo: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of two processes."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pgtasks",
            "worker",
            "benchmarks.noop",
            "--processes",
            "2",
            "--log-level",
            "warning",
            *options,
        ],
        cwd=ROOT,
        env={**os.environ, "PGTASKS_DATABASE_URL": conninfo},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def fill(connection: psycopg.Connection[Any], jobs: int, task: str = "noop") -> None:
    """Put so many jobs into an otherwise empty queue."""
    clear(connection)
    fill_with(connection, jobs, task)
    connection.execute("vacuum analyze graphile_worker._private_jobs")


def fill_with(connection: psycopg.Connection[Any], jobs: int, task: str) -> None:
    """Add so many jobs with one statement."""
    connection.execute(
        """
        select count(*) from graphile_worker.add_jobs(array(
            select row(%s, null, null, null, null, null, null, null)::graphile_worker.job_spec
            from generate_series(1, %s)
        ))
        """,
        (task, jobs),
    )


def clear(connection: psycopg.Connection[Any]) -> None:
    """Empty the queue."""
    connection.execute("truncate graphile_worker._private_jobs")


def count(connection: psycopg.Connection[Any]) -> int:
    """How many jobs there are."""
    row = connection.execute("select count(*) from graphile_worker._private_jobs").fetchone()
    assert row is not None
    return int(row[0])


if __name__ == "__main__":
    main()
