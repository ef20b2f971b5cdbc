"""What a run of measurements has at hand."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.report import number
from benchmarks.results import TROUBLE, Result, Role, rounds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from benchmarks.peers.base import Peer
    from benchmarks.server import Server
    from benchmarks.workers import Queue

SLOW = 500
"""The least number of jobs in a round of a slow peer."""


@dataclass
class Suite:
    """Where and how to measure, and what came out."""

    server: Server
    queue: Queue
    console: Console
    jobs: int
    """Jobs in a round of a throughput measurement."""
    rounds: int
    scale: float
    """How large backlogs are, as a share of their full size."""
    peers: list[Peer]
    """Those that could be installed, and run."""
    minutes: float = 3.0
    """How long the soak goes on."""
    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    keep: Callable[[], None] = lambda: None
    """Called after each figure and each failure, to write down what there is."""
    broken: list[str] = field(default_factory=list)
    """Families that ended early."""

    def report(self, result: Result) -> None:
        """Keep a figure, and say it at once."""
        self.results.append(result)
        self.console.print(f"  {result.group} | {result.title}: {number(result.value)} {result.unit}", highlight=False)
        self.keep()

    def fail(self, what: str, error: Exception) -> None:
        """Keep what could not be measured, and why."""
        text = f"{what}: {str(error).strip() or type(error).__name__}"
        self.failures.append(text)
        self.console.print(f"  {text}", style="yellow", markup=False, highlight=False)
        self.keep()

    def rounds_of(
        self, run: Callable[[], float], group: str, title: str, *, unit: str = "jobs/s", role: Role = Role.OURS
    ) -> None:
        """Measure several rounds, and report the median."""
        try:
            self.report(rounds_of(run, self.rounds, group=group, title=title, unit=unit, role=role))
        except TROUBLE as error:
            self.fail(f"{group} | {title}", error)

    def number(self, query: str) -> int:
        """Ask the server, outside the databases that are measured."""
        with self.server.connect() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])

    def sized(self, rows: int) -> int:
        """How many rows stand for so many, at this run's scale."""
        return max(100, int(rows * self.scale))

    def jobs_for(self, peer: Peer) -> int:
        """How many jobs a round of a peer has: fewer for slow ones, which take no less time for them."""
        return max(min(self.jobs, SLOW), int(self.jobs * peer.share))


@dataclass(frozen=True, slots=True)
class Family:
    """Measurements that belong together."""

    name: str
    about: str
    minutes: float
    """About how long it takes, with default options and all peers, on two cores."""
    run: Callable[[Suite], None]


def run(families: Iterable[Family], suite: Suite) -> None:
    """Take all measurements of some families. One that fails does not keep the others from being taken."""
    for family in families:
        suite.console.print(f"[bold]{family.name}[/]: {family.about}")
        began = time.monotonic()
        try:
            family.run(suite)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others can be measured
            suite.broken.append(family.name)
            suite.fail(family.name, error)
            if not isinstance(error, TROUBLE):
                suite.console.print(traceback.format_exc(), style="dim", markup=False, highlight=False)
        suite.console.print(f"  [dim]{time.monotonic() - began:.0f} s[/]")
