"""A loop of psycopg and nothing else: claim, call, delete. What a framework in Python could reach."""

from __future__ import annotations

import sys
import threading

import psycopg

from benchmarks.peers.sql_alone import BATCH, CLAIM, SchemaLimit
from benchmarks.processes import started, throughput
from benchmarks.server import ROOT
from benchmarks.workers import JOBS

PROCESSES = 2
CHOICES = (1, 4, 24)
"""Threads in a process; the best number depends on the machine, and is found out."""
TRIALS = 2
"""Rounds of each number, the better one of which counts, as a disturbed round tells nothing."""
DELETE = f"delete from {JOBS} where id = any(%s)"


class BareLoop(SchemaLimit):
    """No registry, no retries, no signals, no logs."""

    name = "bare"
    title = "bare psycopg loop"
    about = f"{PROCESSES} processes that claim {BATCH}, call, delete"

    def __init__(self) -> None:
        super().__init__()
        self._threads = 0

    def throughput(self, jobs: int) -> float:
        """Jobs a second with the number of threads that did best in trial rounds."""
        if not self._threads:
            trials = {threads: max(self._round(jobs, threads) for _ in range(TRIALS)) for threads in CHOICES}
            self._threads = max(trials, key=trials.__getitem__)
            self.version = f"({self._threads} threads each)"
        return self._round(jobs, self._threads)

    def _round(self, jobs: int, threads: int) -> float:
        self.queue.fill(jobs)
        command = [sys.executable, "-m", "benchmarks.peers.bare", self.queue.conninfo, str(threads)]
        workers = started([command] * PROCESSES, self.queue.log, directory=ROOT)
        return throughput(self.queue.table, workers, PROCESSES)


def noop(payload: object) -> None:
    """What is called for each job."""


def loop(conninfo: str) -> None:
    """Claim, call and delete until nothing is left."""
    with psycopg.connect(conninfo, autocommit=True, prepare_threshold=1) as connection:
        while rows := connection.execute(CLAIM).fetchall():
            for _, payload in rows:
                noop(payload)
            connection.execute(DELETE, ([number for number, _ in rows],))


def main(conninfo: str, threads: int) -> None:
    """Run so many loops, then wait to be stopped."""
    loops = [threading.Thread(target=loop, args=(conninfo,)) for _ in range(threads)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
