"""How many jobs a second clients add: one at a time, many at once, and in SQL alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.results import TROUBLE, MeasurementError, Role, from_values
from benchmarks.server import ROOT

if TYPE_CHECKING:
    from benchmarks.peers import Peer
    from benchmarks.suite import Suite

CLIENTS = (1, 2, 4, 8)
SINGLE_SHARE = 20
"""Of how many jobs that are added in batches one is added singly."""
GO = b"go\n"


def measure(suite: Suite) -> None:
    """Peers with one client, then pgtasks with one and more."""
    single, batched = "adding one at a time, 1 client", "adding many at once, 1 client"
    for peer in suite.peers:
        _measure_peer(suite, peer, single, batched)
    few = max(200, suite.jobs // SINGLE_SHARE)
    for clients in CLIENTS:
        plural = "1 client" if clients == 1 else f"{clients} clients"
        one, many = f"adding one at a time, {plural}", f"adding many at once, {plural}"
        suite.rounds_of(
            lambda: add(suite, "sql", clients, suite.jobs),  # noqa: B023 - called at once
            many,
            "add_jobs in SQL alone, 10,000 a call",
            role=Role.LIMIT,
        )
        suite.rounds_of(lambda: add(suite, "many", clients, suite.jobs), many, "pgtasks, defer_many, 10,000 a call")  # noqa: B023
        suite.rounds_of(lambda: add(suite, "single", clients, few), one, "pgtasks, defer")  # noqa: B023


def add(suite: Suite, way: str, clients: int, jobs: int) -> float:
    """Jobs a second that so many clients add together."""
    suite.queue.clear()
    each = max(1, jobs // clients)
    environment = {**os.environ, "PGTASKS_DATABASE_URL": suite.queue.conninfo}
    command = [sys.executable, "-m", "benchmarks.producer", way, str(each)]
    producers = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(clients)
    ]
    try:
        for producer in producers:
            _line(producer)
        for producer in producers:
            assert producer.stdin is not None
            producer.stdin.write(GO)
            producer.stdin.flush()
        seconds = max(float(_line(producer)) for producer in producers)
    finally:
        for producer in producers:
            producer.communicate()
    return each * clients / seconds


def _line(producer: subprocess.Popen[bytes]) -> str:
    assert producer.stdout is not None
    line = producer.stdout.readline().decode().strip()
    if not line:
        raise MeasurementError("a client that adds jobs ended early")
    return line


def _measure_peer(suite: Suite, peer: Peer, single: str, batched: str) -> None:
    try:
        taken = [peer.adding(suite.jobs) for _ in range(suite.rounds)]
    except TROUBLE as error:
        suite.fail(f"adding | {peer.label}", error)
        return
    finally:
        peer.clear()
    for index, way in enumerate(taken[0]):
        suite.report(
            from_values(
                [ways[way] for ways in taken],
                group=single if index == 0 else batched,
                title=f"{peer.label}: {way}",
                unit="jobs/s",
                role=Role.PEER,
                short=f"{peer.label}: {way}",
            )
        )
