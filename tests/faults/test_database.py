"""Servers that crash, are away, end sessions, and have no connection left."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import psycopg

from tests.faults.arena import LONG_FORM
from tests.faults.hosts import QUICK
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pgtasks.embedded.cluster import Cluster
    from tests.faults.arena import Arena
    from tests.pgbouncer import PgBouncer


OUTAGE = "database_unavailable"
WORKERS = "from pg_stat_activity where application_name like 'pgtasks%' and pid <> pg_backend_pid()"


def test_a_server_that_crashes_again_and_again_loses_and_repeats_no_job(
    make_cluster: Callable[..., Cluster], make_arena: Callable[[str], Arena], times: Callable[[int, int], int]
) -> None:
    cluster = make_cluster()
    arena = make_arena(cluster.conninfo())
    arena.book(times(30, 300))
    host = arena.start()
    host.wait_for("worker_ready")
    for _ in range(times(3, 5)):
        arena.keep_busy(100)
        arena.some_runs()
        cluster.restart("immediate")
        arena.time_of_run(time.monotonic(), "server crashed: jobs run again after it is back")
    outcome = arena.finish()
    assert outcome.story.faults == []
    assert outcome.interruptions == {}
    assert {record["status"] for record in host.records("process_exited")} == {"exit code 0"}


def test_a_server_that_is_away_for_some_time_is_waited_for(
    make_cluster: Callable[..., Cluster], make_arena: Callable[[str], Arena], times: Callable[[int, int], int]
) -> None:
    cluster = make_cluster()
    arena = make_arena(cluster.conninfo())
    arena.add(100)
    # What runs meanwhile is asked to stop, since others could have taken over.
    host = arena.start(env=QUICK)
    host.wait_for("worker_ready")
    for number in range(times(1, 2)):
        arena.keep_busy(100, seconds=0.1)
        arena.some_runs()
        host.disturb("cut")
        cluster.stop("fast")
        host.wait_for("heartbeats_lost", count=2 * number + 2)
        if LONG_FORM:
            time.sleep(60)
        cluster.start()
        began = time.monotonic()
        arena.time_of_run(began, "server was away: jobs run again after it is back")
        host.wait_for("heartbeats_restored", count=2 * number + 2)
    outcome = arena.finish()
    assert outcome.interruptions == {}


def test_sessions_that_are_ended_all_the_time_lose_and_repeat_no_job(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    arena.book(times(30, 300))
    arena.add(times(400, 4000))
    host = arena.start()
    host.wait_for("worker_ready")
    until = arena.ledger.ended() + times(250, 3000)
    while arena.ledger.ended() < until or not host.records(OUTAGE):
        arena.rows(f"select pg_terminate_backend(pid) {WORKERS} order by random() limit 1")
        arena.keep_busy(100)
        arena.wait_for_runs(10)
    outcome = arena.finish()
    assert outcome.story.faults == []


def test_a_server_without_a_free_connection_is_waited_for(
    make_cluster: Callable[..., Cluster], make_arena: Callable[[str], Arena], times: Callable[[int, int], int]
) -> None:
    cluster = make_cluster(max_connections="20")
    arena = make_arena(cluster.conninfo())
    host = arena.start()
    host.wait_for("worker_ready")
    for _ in range(times(1, 2)):
        arena.keep_busy(100)
        arena.some_runs()
        refused = len(host.records("database_unavailable"))
        with all_connections(cluster.conninfo()):
            host.wait_for("database_unavailable", count=refused + 1)
        began = time.monotonic()
        arena.time_of_run(began, "no connections left: jobs run again after there are some")
    outcome = arena.finish()
    assert outcome.story.faults == []


@contextlib.contextmanager
def all_connections(conninfo: str) -> Iterator[None]:
    """Take every connection that a server has, those of the workers too."""
    taken: list[psycopg.Connection] = []
    none_left, over = threading.Event(), threading.Event()

    def take() -> None:
        while not over.is_set():
            try:
                taken.append(psycopg.connect(conninfo, autocommit=True))
                taken[0].execute(f"select pg_terminate_backend(pid) {WORKERS}".encode())
            except psycopg.OperationalError:
                none_left.set()
                time.sleep(0.001)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        assert none_left.wait(LONG)
        yield
    finally:
        over.set()
        thread.join()
        for connection in taken:
            connection.close()


def test_processes_that_are_killed_behind_a_pooler_in_transaction_mode(
    arena: Arena, start_pgbouncer: Callable[..., PgBouncer], times: Callable[[int, int], int]
) -> None:
    pgbouncer = start_pgbouncer("transaction", 5)
    arena.book(times(20, 300))
    arena.add(times(300, 4000))
    host = arena.start("--processes", "8", "--poll-interval", "0.2", conninfo=pgbouncer.conninfo)
    host.wait_for("worker_ready")
    for _ in range(times(2, 10)):
        arena.keep_busy(200)
        arena.some_runs()
        victim = arena.rng.choice(list(living := host.living()))
        began = time.monotonic()
        host.kill_process(victim)
        host.wait_for("jobs_recovered", worker=living[victim])
        arena.measure("process killed behind a pooler: its jobs are recovered", time.monotonic() - began)
    outcome = arena.finish()
    assert len(outcome.story.faults) == times(2, 10)
    assert outcome.interruptions == {}


def test_a_full_disk_is_waited_for(
    arena: Arena, connection: psycopg.Connection, small_disk: Path, times: Callable[[int, int], int]
) -> None:
    connection.execute(f"create tablespace small location '{small_disk}'".encode())
    try:
        connection.execute("alter table graphile_worker._private_jobs set tablespace small")
        host = arena.start()
        host.wait_for("worker_ready")
        filler = small_disk / "filler"
        arena.book(times(100, 1000))
        arena.keep_busy(600, seconds=0.05)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        arena.wait(lambda: fill_pages(connection) and host.records(OUTAGE), "the full disk")
        filler.unlink()
        arena.time_of_run(time.monotonic(), "disk was full: jobs run again after there is room")
        connection.execute("delete from graphile_worker._private_jobs where run_at = 'infinity'")
        outcome = arena.finish()
        assert outcome.story.faults == []
        assert outcome.interruptions == {}
    finally:
        connection.execute("alter table graphile_worker._private_jobs set tablespace pg_default")
        connection.execute("drop tablespace small")


def fill_pages(connection: psycopg.Connection) -> bool:
    """Use up what is free on the pages that the table of jobs has already, with jobs that are not due."""
    for size in (1800, 1):
        with contextlib.suppress(psycopg.errors.DiskFull):
            while True:
                connection.execute(
                    "select graphile_worker.add_job('plain', json_build_object('x', %s::text), run_at := 'infinity')",
                    ("x" * size,),
                )
    return True
