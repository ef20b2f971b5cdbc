"""A client that adds jobs: `python -m benchmarks.producer WAY JOBS`.

It says `ready`, waits for a line on its standard input, adds, and says how many seconds that took.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.tasks import noop, timed, welcome
from pgtasks import App

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 10_000
INTERVAL = 0.005  # seconds between two probes
SQL = """
    select count(*) from graphile_worker.add_jobs(array(
        select row('noop', {payload}, null, null, null, null, null, null)::graphile_worker.job_spec
        from generate_series(1, %s) as number
    ))
"""


def single(jobs: int) -> None:
    """Add with `defer`, each job in a transaction of its own."""
    for _ in range(jobs):
        noop.defer()


def many(jobs: int) -> None:
    """Add with `defer_many`, a batch in a transaction."""
    for batch in batches(jobs):
        noop.defer_many([None] * batch)


def many_payload(jobs: int) -> None:
    """The same with payloads, which are made on the way."""
    for batch in batches(jobs):
        welcome.defer_many([payload(number) for number in range(batch)])


def iterator(jobs: int) -> None:
    """Add all with one call, which takes them from an iterator."""
    noop.defer_many((None for _ in range(jobs)), returning=False)


def payload(number: int) -> dict[str, Any]:
    """What a job might well be told."""
    return {"to": f"user{number}@example.com", "template": "welcome", "number": number}


def sql(jobs: int) -> None:
    """Let the database make up the same batches itself."""
    run_sql(SQL.format(payload="null"), jobs)


def sql_payload(jobs: int) -> None:
    """The same with payloads."""
    made = "json_build_object('to', 'user' || number || '@example.com', 'template', 'welcome', 'number', number)"
    run_sql(SQL.format(payload=made), jobs)


def run_sql(query: str, jobs: int) -> None:
    """Run a query that adds a batch, as often as needed."""
    with psycopg.connect(os.environ["PGTASKS_DATABASE_URL"], autocommit=True) as connection:
        for batch in batches(jobs):
            connection.execute(query.encode(), (batch,))


def probe(jobs: int) -> None:
    """Add jobs one by one, each with the time at which its adding began."""
    for _ in range(jobs):
        timed.defer({"added": str(time.monotonic_ns())})
        time.sleep(INTERVAL)


WAYS: dict[str, Callable[[int], None]] = {
    way.__name__: way for way in (single, many, many_payload, iterator, sql, sql_payload, probe)
}


def batches(jobs: int) -> list[int]:
    """The sizes of the calls that add so many jobs."""
    whole, rest = divmod(jobs, BATCH)
    return [BATCH] * whole + [rest] * bool(rest)


def main(way: str, jobs: int) -> None:
    """Add so many jobs, at a signal."""
    app = App(database_url=os.environ["PGTASKS_DATABASE_URL"])
    with app.connection() as connection:  # so that connecting is not measured
        connection.execute("select 1")
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    WAYS[way](jobs)
    print(time.perf_counter() - began, flush=True)
    app.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
