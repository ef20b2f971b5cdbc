"""What is counted: kinds of blocks, and which cell of a block is which metric."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip
"""The upper bounds of all histograms, in seconds; one more bucket holds what is beyond."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter that a cell holds."""

    name: str
    """Without `_total`."""
    help: str
    cell: int
    labels: Mapping[str, str] = field(default_factory=dict)
    """Beside those of the block."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: a cell for each bucket, and after them one for the sum."""

    name: str
    help: str
    cell: int
    """The first."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of block."""

    name: str
    """The first part of its key; the others are the values of its labels."""
    labels: tuple[str, ...]
    counters: tuple[Counter, ...]
    histograms: tuple[Histogram, ...] = ()

    @property
    def size(self) -> int:
        """How many cells it has."""
        ends = [counter.cell + 1 for counter in self.counters]
        return max(ends + [histogram.cell + HISTOGRAM_CELLS for histogram in self.histograms])


HISTOGRAM_CELLS: Final = len(BUCKETS) + 2

OUTCOMES: Final = ("success", "cancel", "retrying", "failed", "snoozed", "returned", "superseded", "lost")
"""How runs end, in the order of the first cells of a task's block."""
RETRIES, CLAIMED, TIMEOUTS, WAIT = range(len(OUTCOMES), len(OUTCOMES) + 4)
LAG: Final = WAIT + HISTOGRAM_CELLS
RUN: Final = LAG + HISTOGRAM_CELLS

TASK: Final = Kind(
    "task",
    ("task",),
    (
        *(
            Counter("pgtasks_jobs", "Runs of jobs that have ended, by what became of the job.", cell, {"outcome": name})
            for cell, name in enumerate(OUTCOMES)
        ),
        Counter("pgtasks_job_retries", "Runs that have ended and were not their jobs' first attempts.", RETRIES),
        Counter("pgtasks_jobs_claimed", "Jobs that worker processes have taken.", CLAIMED),
        Counter("pgtasks_job_timeouts", "Jobs that were asked to stop over their time limits.", TIMEOUTS),
    ),
    (
        Histogram("pgtasks_job_wait_seconds", "From when a job was due until it was started.", WAIT),
        Histogram("pgtasks_job_lag_seconds", "From when a job was due until a worker process took it.", LAG),
        Histogram("pgtasks_job_run_seconds", "How long handlers ran, however that ended.", RUN),
    ),
)

CLAIMS, DATABASE_ERRORS = range(2)
PROCESS: Final = Kind(
    "process",
    (),
    (
        Counter("pgtasks_claims", "Claims that have brought jobs.", CLAIMS),
        Counter("pgtasks_database_errors", "How often a process found the database away.", DATABASE_ERRORS),
    ),
)

HOOK: Final = Kind(
    "hook", ("plugin", "hook"), (Counter("pgtasks_hook_errors", "Failures of hooks of plugins, by plugin.", 0),)
)

# What the supervisor counts by itself.

STARTED_PROCESSES, LOST_PROCESSES, LOST_JOBS, CHARGED, UNCHARGED = range(5)
HOST: Final = Kind(
    "host",
    (),
    (
        Counter("pgtasks_processes_started", "Worker processes that were started.", STARTED_PROCESSES),
        Counter("pgtasks_processes_lost", "Worker processes that have died over their jobs.", LOST_PROCESSES),
        Counter("pgtasks_jobs_lost", "Jobs that ran in worker processes that have died.", LOST_JOBS),
        Counter(
            "pgtasks_jobs_recovered", "Jobs taken back from ended worker processes.", CHARGED, {"attempt": "charged"}
        ),
        Counter(
            "pgtasks_jobs_recovered", "Jobs taken back from ended worker processes.", UNCHARGED, {"attempt": "returned"}
        ),
    ),
)

EXIT: Final = Kind(
    "exit",
    ("code",),
    (Counter("pgtasks_processes_exited", "Worker processes that have ended, by exit code or, negative, signal.", 0),),
)

KINDS: Final = {kind.name: kind for kind in (TASK, PROCESS, HOOK, HOST, EXIT)}

VERSION: Final = zlib.crc32(repr(KINDS).encode())
"""Of all this: processes of an older release's, which a reload has left, count something else."""
