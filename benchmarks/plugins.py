"""What the first-party plugins cost: no-op jobs a second with none, with each, and with all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.processes import throughput
from benchmarks.results import TROUBLE, MeasurementError, from_values
from benchmarks.workers import PROCESSES, queue_on

if TYPE_CHECKING:
    from benchmarks.suite import Suite
    from benchmarks.workers import Queue

GROUP = "throughput with plugins, no-op"
FOLDER = Path(__file__).parent.parent / "plugins"


def measure(suite: Suite) -> None:
    """All in turns, each on a database of its own: plugins that have tables change what a job costs the database."""
    names = sorted(path.name.removeprefix("pgtasks-") for path in FOLDER.glob("pgtasks-*"))
    contestants = {"none": [], "an observer of every end": ["benchmarks.observer"]}
    contestants |= {name: [f"pgtasks_{name}"] for name in names} | {"all": [f"pgtasks_{name}" for name in names]}
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(suite.rounds):
        for name, plugins in contestants.items():
            try:
                with queue_on(suite.server, f"bench_plugins_{name.split()[0]}") as queue:
                    values[name].append(_run(queue, plugins, suite.jobs))
            except TROUBLE as error:
                suite.fail(f"{GROUP} | {name}", error)
    for name, rounds in values.items():
        if rounds:
            suite.report(from_values(rounds, group=GROUP, title=name, unit="jobs/s"))


def _run(queue: Queue, plugins: list[str], jobs: int) -> float:
    environment = {
        "PGTASKS_PLUGINS": ",".join(plugins),
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *map(str, FOLDER.glob("pgtasks-*"))]),
        "PGTASKS_PLUGIN_PROMETHEUS__PORT": "0",
    }
    everything = {**os.environ, **environment, "PGTASKS_DATABASE_URL": queue.conninfo}
    made = subprocess.run(
        [sys.executable, "-m", "pgtasks", "migrate"], env=everything, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise MeasurementError(made.stderr.strip())
    queue.fill(jobs)
    return throughput(queue.table, queue.worker(environment=environment), PROCESSES)
