"""Counts primes with one process, then with two and so on, and shows how long it takes."""

import os
import subprocess
import sys
import time

from pgtasks import current_app
from primes.tasks import Numbers, count_primes

JOBS = 40
"""Many more than there are processes, so that all of them are busy until shortly before the end."""
TABLE = """
    drop schema if exists primes cascade;
    create schema primes;
    create table primes.counts (start integer primary key, found integer, process integer, seconds float);
"""


def count(limit: int, processes: int) -> None:
    """Count the primes below a limit with so many worker processes."""
    size = -(-limit // JOBS)
    jobs = [Numbers(at, min(at + size, limit)) for at in range(0, limit, size)]
    with current_app().connection() as connection:
        connection.execute(TABLE)
    count_primes.defer_many(jobs, returning=False)
    # One job at a time in each process: two that compute would only take turns at its interpreter.
    worker = ["pgtasks", "worker", "primes.tasks", "--once", "--log-level", "error"]
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", *worker, "--processes", str(processes), "--concurrency", "1"], check=True)
    seconds = time.monotonic() - began
    with current_app().connection() as connection:
        query = "select sum(found), count(distinct process), sum(seconds) from primes.counts"
        [(found, used, work)] = connection.execute(query)
    by = "1 process" if used == 1 else f"{used} processes"
    print(f"{found} primes below {limit}: {work:.1f} s of computing by {by} in {seconds:.1f} s")


def main() -> None:
    """Do it with 1, 2, 4… processes, up to the number of CPUs."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    subprocess.run([sys.executable, "-m", "pgtasks", "migrate"], check=True)
    processes = 1
    while processes <= max(os.cpu_count() or 1, 2):
        count(limit, processes)
        processes *= 2


if __name__ == "__main__":
    main()
