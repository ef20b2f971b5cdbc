"""How many jobs a second two processes do, and what the peers do with the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.conditions import usable_cores
from benchmarks.results import TROUBLE, Result, Role, from_values
from benchmarks.workers import PROCESSES, SLOTS

if TYPE_CHECKING:
    from benchmarks.peers import Peer
    from benchmarks.suite import Suite

NOOP = "throughput, no-op"
WORK = "throughput, with something to do"


def measure(suite: Suite) -> None:
    """Limits and peers first, so that ours can be compared with them."""
    for peer in suite.peers:
        theirs(suite, peer)
    ours(suite)


def theirs(suite: Suite, peer: Peer) -> None:
    """The no-op of a peer, which may find out how it is called only while it is measured."""
    jobs = suite.jobs_for(peer)
    try:
        values = [peer.throughput(jobs) for _ in range(suite.rounds)]
    except TROUBLE as error:
        suite.fail(f"{NOOP} | {peer.described}", error)
        return
    finally:
        peer.clear()
    suite.report(from_values(values, group=NOOP, title=peer.described, unit="jobs/s", role=peer.role, short=peer.label))


def ours(suite: Suite) -> None:
    """All kinds of jobs, with pgtasks."""
    queue, jobs = suite.queue, suite.jobs

    def run(task: str, jobs: int, queues: int = 0, fail_every: int = 0) -> float:
        queue.fill(jobs, task, queues, fail_every)
        return queue.throughput()

    suite.rounds_of(lambda: run("noop", jobs), NOOP, "pgtasks, plain function")
    suite.rounds_of(lambda: run("noop_async", jobs), NOOP, "pgtasks, async def")
    suite.rounds_of(lambda: run("noop", jobs, fail_every=20), NOOP, "pgtasks, one in 20 fails")
    suite.rounds_of(lambda: run("noop", jobs // 4, queues=100), NOOP, "pgtasks, in 100 named queues")
    suite.rounds_of(lambda: run("noop", jobs // 20, queues=1), NOOP, "pgtasks, in one named queue")
    sleeping = {f"{PROCESSES * SLOTS} slots / 1 ms": PROCESSES * SLOTS / 0.001}
    cores = min(PROCESSES, usable_cores())
    computing = {f"{cores} cores / 1 ms": cores / 0.001}
    for task, title, ideal, few in (
        ("sleep_1ms", "pgtasks, 1 ms of sleep", sleeping, jobs // 2),
        ("compute_1ms", "pgtasks, 1 ms of computing", computing, jobs // 20),
    ):
        try:
            values = [run(task, max(few, 500)) for _ in range(suite.rounds)]
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
