"""How many jobs a second clients add: one at a time, many at once, and in SQL alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Way:
    """A way of adding, as the producer names it."""

    name: str
    title: str
    group: str
    role: Role = Role.OURS
    share: int = 1
    """Of how many jobs that are added in other ways one is added in this one."""


WAYS = (
    Way("sql", "add_jobs in SQL alone, 10,000 a call", "adding many at once", Role.LIMIT),
    Way("many", "pgtasks, defer_many, 10,000 a call", "adding many at once"),
    Way("iterator", "pgtasks, defer_many of an iterator, one call", "adding many at once"),
    Way("sql_payload", "add_jobs in SQL alone, 10,000 a call", "adding many with a payload", Role.LIMIT),
    Way("many_payload", "pgtasks, defer_many, 10,000 a call", "adding many with a payload"),
    Way("single", "pgtasks, defer", "adding one at a time", share=SINGLE_SHARE),
)


def measure(suite: Suite) -> None:
    """Peers with one client, then pgtasks with one and more."""
    for peer in suite.peers:
        _measure_peer(suite, peer, "adding one at a time, 1 client", "adding many at once, 1 client")
    for clients in CLIENTS:
        _measure_ways(suite, clients)


def _measure_ways(suite: Suite, clients: int) -> None:
    """All ways in turn, round by round, so that what they are compared with was measured in the same minutes."""
    rates: dict[Way, list[float]] = {way: [] for way in WAYS}
    for _ in range(suite.rounds):
        for way, measured in rates.items():
            jobs = max(min(200, suite.jobs), suite.jobs // way.share)
            try:
                measured.append(add(suite, way.name, clients, jobs))
            except MeasurementError as error:
                suite.fail(f"{way.group} | {way.title}", error)
    plural = "1 client" if clients == 1 else f"{clients} clients"
    for way, measured in rates.items():
        if measured:
            group = f"{way.group}, {plural}"
            suite.report(from_values(measured, group=group, title=way.title, unit="jobs/s", role=way.role))


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
