"""How many jobs a second two processes do, and what the peers do with the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.conditions import usable_cores
from benchmarks.results import TROUBLE, Result, Role, from_values
from benchmarks.workers import PROCESSES, SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Peer
    from benchmarks.suite import Suite

NOOP = "throughput, no-op"
WORK = "throughput, with something to do"


def measure(suite: Suite) -> None:
    """The no-op in turns, a round of each at a time, so that none has the machine at its best alone; then the rest."""
    jobs = suite.jobs
    contestants = [_peer(suite, peer) for peer in suite.peers]
    contestants += [
        _Contestant(lambda: "pgtasks, plain function", lambda: _run(suite, "noop", jobs)),
        _Contestant(lambda: "pgtasks, async def", lambda: _run(suite, "noop_async", jobs)),
        _Contestant(lambda: "pgtasks, one in 20 fails", lambda: _run(suite, "noop", jobs, fail_every=20)),
        _Contestant(lambda: "pgtasks, in 100 named queues", lambda: _run(suite, "noop", jobs // 4, queues=100)),
        _Contestant(lambda: "pgtasks, in one named queue", lambda: _run(suite, "noop", jobs // 20, queues=1)),
    ]
    for _ in range(suite.rounds):
        for contestant in [one for one in contestants if not one.failed]:
            try:
                contestant.values.append(contestant.run())
            except TROUBLE as error:
                contestant.failed = True
                suite.fail(f"{NOOP} | {contestant.title()}", error)
    for one in contestants:
        if one.values and not one.failed:
            suite.report(
                from_values(one.values, group=NOOP, title=one.title(), unit="jobs/s", role=one.role, short=one.short())
            )
    _work(suite)


@dataclass(slots=True)
class _Contestant:
    """Who takes part in the rounds."""

    title: Callable[[], str]
    """Asked afterwards: a peer may find out how it is called only while it is measured."""
    run: Callable[[], float]
    role: Role = Role.OURS
    short: Callable[[], str] = str
    values: list[float] = field(default_factory=list)
    failed: bool = False


def _peer(suite: Suite, peer: Peer) -> _Contestant:
    def run() -> float:
        try:
            return peer.throughput(suite.jobs_for(peer))
        finally:
            peer.clear()

    return _Contestant(lambda: peer.described, run, peer.role, lambda: peer.label)


def _run(suite: Suite, task: str, jobs: int, queues: int = 0, fail_every: int = 0) -> float:
    suite.queue.fill(jobs, task, queues, fail_every)
    return suite.queue.throughput()


def _work(suite: Suite) -> None:
    """Jobs that have something to do, and what a job costs the database."""
    jobs = suite.jobs
    sleeping = {f"{PROCESSES * SLOTS} slots / 1 ms": PROCESSES * SLOTS / 0.001}
    cores = min(PROCESSES, usable_cores())
    computing = {f"{cores} cores / 1 ms": cores / 0.001}
    for task, title, ideal, few in (
        ("sleep_1ms", "pgtasks, 1 ms of sleep", sleeping, jobs // 2),
        ("compute_1ms", "pgtasks, 1 ms of computing", computing, jobs // 20),
    ):
        try:
            values = [_run(suite, task, max(few, 500)) for _ in range(suite.rounds)]
        except TROUBLE as error:
            suite.fail(f"{WORK} | {title}", error)
            continue
        suite.report(from_values(values, group=WORK, title=title, unit="jobs/s", references=ideal))
    costs(suite)


def costs(suite: Suite) -> None:
    """What a job costs the database: write-ahead log and transactions, for adding and for running."""
    queue, jobs = suite.queue, suite.jobs
    group = "cost of a job, no-op"
    queue.clear()
    queue.connection.execute("checkpoint")
    before = _log_position(suite)
    queue.add(jobs)
    suite.report(Result(group, "write-ahead log, adding", (_log_position(suite) - before) / jobs, "bytes", Role.OURS))
    before, began = _log_position(suite), _transactions(suite)
    queue.work_off()
    suite.report(Result(group, "write-ahead log, running", (_log_position(suite) - before) / jobs, "bytes", Role.OURS))
    done = _transactions(suite) - began
    suite.report(Result(group, "transactions for 1,000 jobs, running", done / jobs * 1000, "transactions", Role.OURS))


def _log_position(suite: Suite) -> int:
    return suite.number("select pg_current_wal_insert_lsn() - '0/0'")


def _transactions(suite: Suite) -> int:
    """How many there have been in sessions that have ended, as a worker's have when it has."""
    return suite.number("select xact_commit + xact_rollback from pg_stat_database where datname = 'bench_pgtasks'")
