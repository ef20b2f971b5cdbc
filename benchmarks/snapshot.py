"""How fast jobs are done while a transaction stays open, so that nothing of them can be cleared away."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg

from benchmarks.counting import until
from benchmarks.processes import all_run
from benchmarks.results import TROUBLE, Result, Role
from benchmarks.workers import PROCESSES

if TYPE_CHECKING:
    from benchmarks.suite import Suite

JOBS = 1_000_000
PARTS = 10
GROUP = "jobs one after another"
FREE, HELD = "no other transaction", "a snapshot held open"
WHOLE = "all"
LONGEST = 600.0  # seconds that a part may take


def measure(suite: Suite) -> None:
    """Take the time of each tenth of the jobs, without such a transaction and with one."""
    jobs = suite.sized(JOBS)
    free: list[float] = []
    for held in (False, True):
        try:
            times = work_off(suite, jobs, held=held)
        except TROUBLE as error:
            suite.fail(f"{GROUP}, {HELD if held else FREE}", error)
            continue
        finally:
            suite.queue.clear()
        rates = _rates(jobs, times)
        _report(suite, jobs, times, rates, HELD if held else FREE, free)
        free = free or rates


def work_off(suite: Suite, jobs: int, *, held: bool) -> list[float]:
    """Return when each tenth of so many jobs was done, in seconds from when workers could begin."""
    suite.queue.fill(jobs)
    table = suite.queue.table
    counter = table.counter()
    part = jobs // PARTS
    with ExitStack() as stack:
        if held:
            old = stack.enter_context(psycopg.connect(suite.queue.conninfo))
            old.execute("set transaction isolation level repeatable read")
            old.execute("select")  # takes the snapshot
        with table.gate(PROCESSES):
            workers = stack.enter_context(suite.queue.worker())
        began = time.perf_counter()
        times = []
        for number in [*range(counter.first + part, counter.first + (PARTS - 1) * part + 1, part), counter.last]:
            until(lambda: not counter.is_pending(number), lambda: all_run(workers), LONGEST)  # noqa: B023 - called at once
            times.append(time.perf_counter() - began)
        until(lambda: counter.left() == 0, lambda: all_run(workers))
    return times


def _rates(jobs: int, times: list[float]) -> list[float]:
    """Jobs a second in each tenth."""
    seconds = [end - begin for begin, end in zip([0.0, *times], times, strict=False)]
    return [jobs / PARTS / max(taken, 1e-9) for taken in seconds]


def _report(suite: Suite, jobs: int, times: list[float], rates: list[float], kind: str, free: list[float]) -> None:
    group = f"{jobs:,} {GROUP}, {kind}"
    at: dict[str, float | str] = {"kind": kind, "jobs": jobs}
    suite.report(Result(group, "the first tenth", rates[0], "jobs/s", Role.BASELINE, at=at))
    beside = f"the same with {FREE}"
    last = {beside: free[-1]} if free else {}
    suite.report(Result(group, "the last tenth", rates[-1], "jobs/s", references=last, at=at))
    # As many jobs in each tenth: their rate over all is the harmonic mean.
    whole = {beside: statistics.harmonic_mean(free)} if free else {}
    series = list(zip(times, rates, strict=True))
    suite.report(Result(group, WHOLE, jobs / times[-1], "jobs/s", references=whole, at=at, series=series))
