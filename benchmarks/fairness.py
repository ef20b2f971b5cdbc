"""Short jobs among long ones, with one host and with two: whether the short ones wait while a slot is free."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import psycopg

from benchmarks.loads import LAG, receiving
from benchmarks.results import TROUBLE, MeasurementError, Result, from_values, percentile
from benchmarks.workers import PROCESSES, SLOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.suite import Suite

GROUP = "short jobs among long ones"
HOSTS = (1, 2)
ALL_SLOTS = PROCESSES * SLOTS
SHORT, LONG = 0.001, 1.0  # seconds that a job takes, see `benchmarks.tasks`
RATIO = 100
"""Short jobs for each long one in the backlog."""
ROUNDS_OF_LONG = 4
"""How many long jobs there are in the backlog for each slot."""
TICK = 0.01  # seconds
SHORT_A_TICK = 5
LONG_A_SECOND = ALL_SLOTS // 2
"""So that they keep half of all slots busy."""
WARM_UP = 2.0  # seconds, until that is so
SECONDS = 12.0
"""How long short jobs are looked at."""
PERCENTILES = {"p50": 0.50, "p99": 0.99}
ADD = """
    select count(*) from graphile_worker.add_jobs(array(
        select row(
            case when n <= %(long)s then 'long' else 'short' end,
            case when n > %(long)s then json_build_object('added', %(added)s::text) end,
            null, null, null, null, null, null
        )::graphile_worker.job_spec
        from generate_series(1, %(long)s + %(short)s) as n
    ))
"""


def measure(suite: Suite) -> None:
    """Let short jobs come while half of the slots hold long ones; then work off a backlog of both."""
    for hosts in HOSTS:
        where = f"1 host with {PROCESSES} processes" if hosts == 1 else f"{hosts} hosts with 1 process each"
        try:
            waited = waits(suite, hosts)
        except TROUBLE as error:
            suite.fail(f"{GROUP}, {where}", error)
        else:
            group = f"{GROUP}: how long a short one waits"
            for name, share in PERCENTILES.items():
                suite.report(Result(group, f"{where}, {name}", percentile(waited, share) * 1000, "ms"))
            suite.report(Result(group, f"{where}, longest", max(waited) * 1000, "ms"))
        finally:
            suite.queue.clear()
        _backlog(suite, hosts, where)


def waits(suite: Suite, hosts: int) -> list[float]:
    """How long short jobs waited from before adding to their first line, in seconds."""
    queue = suite.queue
    queue.clear()
    window = SECONDS * min(1.0, max(0.1, suite.scale))
    with receiving() as probes, ExitStack() as stack:
        with queue.table.gate(PROCESSES):  # so that no host is alone at first
            stack.enter_context(queue.worker(hosts=hosts, environment={"BENCH_PORT": str(probes.port)}))
        stack.enter_context(_mixture(queue.conninfo))
        probes.collect(1)
        probes.during(WARM_UP)
        waited = probes.during(window)
    if not waited:
        raise MeasurementError("no short job was started")
    return waited


def _backlog(suite: Suite, hosts: int, where: str) -> None:
    """How long it takes to work off a backlog of both, and how long that would take if slots were never free."""
    waves = ROUNDS_OF_LONG if suite.scale >= 1 else 1
    long = ALL_SLOTS * waves
    short = long * RATIO
    ideal = (long * LONG + short * SHORT) / ALL_SLOTS

    def run() -> float:
        suite.queue.fill_mixed(long + short, "sleep_1ms", "long", RATIO + 1)
        return (long + short) / suite.queue.throughput(hosts=hosts)

    group = f"{GROUP}: a backlog of {long:,} of {LONG:g} s and {short:,} of 1 ms"
    try:
        values = [run() for _ in range(suite.rounds)]
    except TROUBLE as error:
        suite.fail(f"{group} | {where}", error)
        return
    suite.report(from_values(values, group=group, title=where, unit="s", references={"the ideal": ideal}))


@contextmanager
def _mixture(conninfo: str) -> Iterator[None]:
    """Add short and long jobs until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=_add, args=(conninfo, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _add(conninfo: str, stop: threading.Event) -> None:
    owed = 0.0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + TICK, time.monotonic() - LAG)
            owed += LONG_A_SECOND * TICK
            connection.execute(ADD, {"long": int(owed), "short": SHORT_A_TICK, "added": str(time.monotonic_ns())})
            owed -= int(owed)
