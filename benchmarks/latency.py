"""How long a job waits: from before its adding begins to the handler's first line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.loads import Load, receiving
from benchmarks.processes import started
from benchmarks.results import TROUBLE, Result, Role, percentile
from benchmarks.workers import SLOTS

if TYPE_CHECKING:
    from benchmarks.suite import Suite

WARM_UP = 20
PLACES = {"idle": False, "half of the slots busy": True}
"""What is done meanwhile, and whether there is such a load."""
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def measure(suite: Suite) -> None:
    """With nothing else to do, and with half of all slots busy."""
    jobs = max(100, min(2_000, suite.jobs // 50))
    for where, loaded in PLACES.items():
        for peer in suite.peers:
            try:
                waited = peer.latency(jobs, loaded=loaded)
            except TROUBLE as error:
                suite.fail(f"latency, {where} | {peer.label}", error)
                continue
            finally:
                peer.clear()
            if waited:
                _report(suite, waited, where, peer.label, Role.PEER)
        try:
            _report(suite, ours(suite, jobs, loaded=loaded), where, "pgtasks", Role.OURS)
        except TROUBLE as error:
            suite.fail(f"latency, {where} | pgtasks", error)


def ours(suite: Suite, jobs: int, *, loaded: bool) -> list[float]:
    """How long each of so many jobs waited, in seconds."""
    queue = suite.queue
    queue.clear()
    with receiving() as probes:
        slots = Load.slots if loaded else SLOTS
        environment = {"BENCH_PORT": str(probes.port), "PGTASKS_DATABASE_URL": queue.conninfo}

        def add(count: int) -> None:
            command = [sys.executable, "-m", "benchmarks.producer", "probe", str(count)]
            with started([command], queue.log, environment) as producers:
                producers[0].wait()

        with queue.worker(slots=slots, environment=environment), Load(queue.conninfo).running(on=loaded):
            probes.warm_up(lambda: add(WARM_UP))
            add(jobs)
            return probes.collect(jobs)


def _report(suite: Suite, waited: list[float], where: str, title: str, role: Role) -> None:
    for name, share in PERCENTILES.items():
        suite.report(Result(f"latency {name}, {where}", title, percentile(waited, share) * 1000, "ms", role))
