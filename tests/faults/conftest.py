"""The arena of each test, and the summary of what was measured."""

from __future__ import annotations

import os
import random
import statistics
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.queue.migrate import migrate
from tests.faults.arena import LONG_FORM, TABLES, Arena

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pgtasks.embedded.cluster import Cluster
    from tests.servers import Servers

SEED = os.environ.setdefault("FAULTS_SEED", str(random.randrange(10**6)))  # for all test processes


@pytest.fixture
def times() -> Callable[[int, int], int]:
    """How often to do something: in the short form, and in the long one."""
    return lambda short, long: long if LONG_FORM else short


@pytest.fixture
def make_arena(
    request: pytest.FixtureRequest, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[Callable[[str], Arena]]:
    """Make the test's arena on a database."""
    made: list[Arena] = []

    def make(conninfo: str) -> Arena:
        seed = f"{SEED} {request.node.name}"
        print(f"FAULTS_SEED={SEED}")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(TABLES)
        arena = Arena(conninfo, tmp_path, random.Random(seed), record_property)
        made.append(arena)
        return arena

    yield make
    for arena in made:
        arena.close()


@pytest.fixture
def arena(database: str, make_arena: Callable[[str], Arena]) -> Arena:
    """An arena on the server that all tests share."""
    return make_arena(database)


@pytest.fixture
def make_cluster(servers: Servers) -> Iterator[Callable[..., Cluster]]:
    """Make a server of the test's own, with pgtasks installed. What it has said it has done, it has done."""
    running: list[Cluster] = []

    def make(max_connections: str = "200") -> Cluster:
        cluster = servers.cluster(synchronous_commit="on", max_connections=max_connections)
        cluster.start()
        running.append(cluster)
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            migrate(connection, "graphile_worker")
        return cluster

    yield make
    for cluster in running:
        cluster.stop("immediate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.timeout(3600 if LONG_FORM else 300))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured: dict[str, list[float]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        if "/faults/" in report.nodeid and report.when == "call":
            for name, value in report.user_properties:
                measured.setdefault(name, []).append(float(value))
    if measured:
        terminalreporter.section(f"measured, seconds (seed {SEED})")
    for name, values in sorted(measured.items()):
        median, worst = statistics.median(values), max(values)
        terminalreporter.write_line(f"{median:8.3f} median {worst:8.3f} worst of {len(values):3d}  {name}")
