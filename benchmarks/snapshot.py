"""How much slower jobs get while a transaction stays open, so that nothing of them can be cleared away."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg

from benchmarks.counting import until
from benchmarks.processes import all_run
from benchmarks.results import Result, Role
from benchmarks.workers import PROCESSES

if TYPE_CHECKING:
    from benchmarks.suite import Suite

JOBS = 1_000_000
PART = 0.1
"""The share of the jobs that is compared at either end."""


def measure(suite: Suite) -> None:
    """Compare the last tenth of the jobs with the first."""
    jobs = suite.sized(JOBS)
    suite.queue.fill(jobs)
    table = suite.queue.table
    counter = table.counter()
    part = int(jobs * PART)
    with ExitStack() as stack:
        old = stack.enter_context(psycopg.connect(suite.queue.conninfo))
        old.execute("set transaction isolation level repeatable read")
        old.execute("select")
        with table.gate(PROCESSES):
            workers = stack.enter_context(suite.queue.worker())
        times = []
        for number in (counter.first, counter.first + part, counter.last - part, counter.last):
            until(lambda: not counter.is_pending(number), lambda: all_run(workers), 600.0)  # noqa: B023 - called at once
            times.append(time.perf_counter())
    first, last = part / (times[1] - times[0]), part / (times[3] - times[2])
    group = f"{jobs:,} jobs while a snapshot is held open"
    suite.report(Result(group, f"the first {part:,}", first, "jobs/s", Role.BASELINE))
    suite.report(Result(group, f"the last {part:,}", last, "jobs/s"))
    suite.queue.clear()
