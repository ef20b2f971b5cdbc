"""What a worker takes: time to start, memory, and what it does while there is nothing to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loads import receiving
from benchmarks.processes import cpu_seconds, memory, tree
from benchmarks.results import MeasurementError, Result, from_values
from benchmarks.workers import PROCESSES

if TYPE_CHECKING:
    from benchmarks.suite import Suite

START = "start-up"
MEMORY = "memory"
IDLE = "idle cost"
SETTLE = 12.0  # seconds after which a worker is idle, and its sessions have reported what they had done before
FINISHING = 30.0  # seconds for its jobs
WINDOW = 30.0  # seconds that it is then looked at


def measure(suite: Suite) -> None:
    """Time to the first job, then one idle worker."""
    suite.rounds_of(lambda: time_to_first_job(suite), START, f"command to first job, {PROCESSES} processes", unit="s")
    if not Path("/proc/self/smaps_rollup").exists():
        raise MeasurementError("memory and idle cost need Linux's /proc")
    idle(suite)


def time_to_first_job(suite: Suite) -> float:
    """Seconds from starting the command to the first line of a job that waits."""
    queue = suite.queue
    queue.clear()
    with receiving() as probes:
        began = time.monotonic_ns()
        queue.connection.execute(
            "select graphile_worker.add_job('timed', json_build_object('added', %s::text))", (str(began),)
        )
        with queue.worker(environment={"BENCH_PORT": str(probes.port)}):
            return probes.collect(1)[0]


def idle(suite: Suite) -> None:
    """Look at a worker that has run some jobs and has no more."""
    queue = suite.queue
    queue.fill(1_000)
    window = WINDOW * min(1.0, max(0.1, suite.scale))
    with queue.worker() as workers:
        limit = time.monotonic() + FINISHING
        while queue.table.left() and time.monotonic() < limit:
            time.sleep(0.1)
        time.sleep(SETTLE)
        pids = tree(workers[0].pid)
        _report_memory(suite, pids)
        connections, transactions, cpu = _connections(suite), _transactions(suite), cpu_seconds(pids)
        time.sleep(window)
        done, used = _transactions(suite) - transactions, cpu_seconds(pids) - cpu
        suite.report(Result(IDLE, "transactions", done / window, "a second"))
        suite.report(Result(IDLE, "processor", used / window * 100, "% of a core"))
        suite.report(Result(IDLE, "connections", connections, "connections"))


def _report_memory(suite: Suite, pids: list[int]) -> None:
    parts = [memory(pid) for pid in pids]
    workers = parts[-PROCESSES:]
    suite.report(Result(MEMORY, f"all {len(pids)} processes", sum(parts), "MB (Pss)"))
    suite.report(from_values(workers, group=MEMORY, title="a worker process", unit="MB (Pss)"))


def _connections(suite: Suite) -> int:
    """All but the one that fills the queue."""
    return suite.number("select count(*) - 1 from pg_stat_activity where datname = 'bench_pgtasks'")


def _transactions(suite: Suite) -> int:
    """What the worker's sessions have reported: they do so at most once a second, or when idle for ten."""
    return suite.number("select xact_commit + xact_rollback from pg_stat_database where datname = 'bench_pgtasks'")
