"""Whether speed holds: jobs come at a steady rate for some minutes, and each minute is looked at by itself."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from benchmarks.counting import LOOK
from benchmarks.loads import LAG, receiving
from benchmarks.processes import all_run
from benchmarks.results import MeasurementError, Result, Role, percentile
from benchmarks.workers import JOBS, PROCESSES

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from benchmarks.loads import Probes
    from benchmarks.suite import Suite

GROUP = "soak"
SHARE = 0.5
"""Of the jobs that two processes do a second while nothing is added, how many are added."""
INTERVAL = 0.01  # seconds between two batches
MINUTE = 60.0  # seconds
BEFORE = 2.0  # seconds before the first minute, for connections and the like
FINISHING = 60.0  # seconds for what is left at the end
ADD = """
    select count(*) from graphile_worker.add_jobs(array(
        select row(
            case when n < %(jobs)s then 'noop' else 'timed' end,
            case when n < %(jobs)s then null else json_build_object('added', %(added)s::text) end,
            null, null, null, null, null, null
        )::graphile_worker.job_spec
        from generate_series(1, %(jobs)s) as n
    ))
"""
"""The last of a batch tells how long it waited."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What was seen in one minute."""

    end: float
    """Seconds from the beginning of the first."""
    rate: float
    """Jobs that were added a second."""
    waited: list[float]
    """Seconds from before adding to the handler's first line, of the last job of each batch."""
    left: int
    """Jobs that were not done at its end."""
    table: float
    """Megabytes of the table of jobs at its end, without its indexes."""
    indexes: float
    """Megabytes of its indexes."""


@dataclass
class Feed:
    """Adds jobs at a steady rate."""

    conninfo: str
    batch: int
    added: int = 0
    error: psycopg.Error | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add until the block ends."""
        thread = threading.Thread(target=self._add)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def check(self) -> None:
        """Raise what has ended it early."""
        if self.error is not None:
            raise self.error

    def _add(self) -> None:
        try:
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                due = time.monotonic()
                while not self._stop.wait(max(0.0, due - time.monotonic())):
                    # Who fell behind does not make up for it with a burst; the rate that came of it is reported.
                    due = max(due + INTERVAL, time.monotonic() - LAG)
                    connection.execute(ADD, {"jobs": self.batch, "added": str(time.monotonic_ns())})
                    self.added += self.batch
        except psycopg.Error as error:
            self.error = error


def measure(suite: Suite) -> None:
    """Find out what two processes do, then add half of that for some minutes."""
    suite.queue.fill(suite.jobs)
    most = suite.queue.throughput()
    suite.queue.clear()
    try:
        soak(suite, most)
    finally:
        suite.queue.clear()


def soak(suite: Suite, most: float) -> None:
    """Report what each minute was like, when it is over, and how many jobs were not done at the very end."""
    queue = suite.queue
    feed = Feed(queue.conninfo, max(1, round(most * SHARE * INTERVAL)))
    count = max(1, round(suite.minutes))
    seconds = suite.minutes * MINUTE / count
    with receiving() as probes, ExitStack() as stack:
        with queue.table.gate(PROCESSES):
            workers = stack.enter_context(queue.worker(environment={"BENCH_PORT": str(probes.port)}))
        with feed.running():
            probes.collect(1)
            probes.during(BEFORE)
            began = time.monotonic()
            for number in range(count):
                minute = _minute(suite, feed, probes, workers, began, began + (number + 1) * seconds)
                _report(suite, minute, most, Role.OURS if number else Role.BASELINE)
        limit = time.monotonic() + FINISHING
        while (left := queue.table.left()) and all_run(workers) and time.monotonic() < limit:
            time.sleep(LOOK)
    suite.report(Result(f"{GROUP}: jobs not done at the end", "after adding has ended", left, "jobs"))


def _minute(
    suite: Suite,
    feed: Feed,
    probes: Probes,
    workers: list[subprocess.Popen[bytes]],
    began: float,
    end: float,
) -> Minute:
    added, since = feed.added, time.monotonic()
    waited = probes.during(end - since)
    feed.check()
    if not all_run(workers):
        raise MeasurementError("the worker ended")
    if not waited:
        raise MeasurementError(f"no job was started for {end - since:.0f} s")
    now = time.monotonic()
    row = suite.queue.connection.execute(
        f"select pg_table_size('{JOBS}') / 1e6, pg_indexes_size('{JOBS}') / 1e6"
    ).fetchone()
    assert row is not None
    left = suite.queue.table.left()
    return Minute(now - began, (feed.added - added) / (now - since), waited, left, float(row[0]), float(row[1]))


def _report(suite: Suite, minute: Minute, most: float, role: Role) -> None:
    for name, unit, value in (
        ("jobs added", "jobs/s", minute.rate),
        ("wait p50", "ms", percentile(minute.waited, 0.50) * 1000),
        ("wait p99", "ms", percentile(minute.waited, 0.99) * 1000),
        ("table", "MB", minute.table),
        ("its indexes", "MB", minute.indexes),
        ("jobs not done at that time", "jobs", minute.left),
    ):
        references = {"what two processes do": most} if name == "jobs added" else {}
        at: dict[str, float | str] = {"measure": name, "end": minute.end}
        title = f"until {minute.end:.0f} s"
        suite.report(Result(f"{GROUP}: {name}", title, value, unit, role, references=references, at=at))
