"""What a run of measurements has at hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.results import MeasurementError, Result, Role, rounds_of

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
    results: list[Result] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def report(self, result: Result) -> None:
        """Keep a figure, and say it at once."""
        self.results.append(result)
        self.console.print(f"  {result.group} | {result.title}: {result.value:,.2f} {result.unit}", highlight=False)

    def fail(self, what: str, error: Exception) -> None:
        """Keep what could not be measured, and why."""
        self.failures.append(f"{what}: {error}")
        self.console.print(f"  {what}: {error}", style="yellow", markup=False, highlight=False)

    def rounds_of(
        self, run: Callable[[], float], group: str, title: str, *, unit: str = "jobs/s", role: Role = Role.OURS
    ) -> None:
        """Measure several rounds, and report the median."""
        try:
            self.report(rounds_of(run, self.rounds, group=group, title=title, unit=unit, role=role))
        except MeasurementError as error:
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
    run: Callable[[Suite], None]


def run(families: Iterable[Family], suite: Suite) -> None:
    """Take all measurements of some families. One that fails does not keep the others from being taken."""
    for family in families:
        suite.console.print(f"[bold]{family.name}[/]: {family.about}")
        began = time.monotonic()
        try:
            family.run(suite)
        except MeasurementError as error:
            suite.fail(family.name, error)
        suite.console.print(f"  [dim]{time.monotonic() - began:.0f} s[/]")
