"""Networks between workers and the database that delay, break, or fall silent without a word."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.arena import LONG_FORM
from tests.faults.hosts import QUICK
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.arena import Arena


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    """A proxy before the test's database."""
    proxy = Proxy(database)
    yield proxy
    proxy.close()


def test_connections_that_are_slow_and_break_lose_and_repeat_no_job(
    arena: Arena, proxy: Proxy, times: Callable[[int, int], int]
) -> None:
    arena.add(times(50, 500))
    host = arena.start(conninfo=proxy.conninfo)
    host.wait_for("worker_ready")
    for _ in range(times(5, 20)):
        arena.keep_busy(100)
        proxy.delay(arena.rng.choice((0.0, 0.001, 0.03)))
        arena.some_runs()
        proxy.cut()
    proxy.delay(0)
    outcome = arena.finish()
    assert outcome.story.faults == []
    assert outcome.interruptions == {}


def test_a_host_that_is_cut_off_in_silence_is_replaced_by_another_and_comes_back(
    arena: Arena, proxy: Proxy, times: Callable[[int, int], int]
) -> None:
    other = arena.start(env=QUICK)
    host = arena.start(conninfo=proxy.conninfo, env=QUICK)
    for one in (other, host):
        one.wait_for("worker_ready")
    for _ in range(times(1, 2)):
        arena.keep_busy(100, seconds=0.2)
        arena.some_runs()
        workers = host.living()
        arena.wait(lambda held=workers: any(map(arena.held_by, held.values())), "jobs there")  # type: ignore[misc]
        began = time.monotonic()
        host.disturb("cut")
        proxy.fall_silent()
        for worker in workers.values():
            arena.wait(lambda worker=worker: not arena.held_by(worker), "its jobs to be given to the other")  # type: ignore[misc]
        arena.measure("host cut off: its jobs are given to others", time.monotonic() - began)
        host.wait_for("heartbeats_lost")
        proxy.speak()
        if not LONG_FORM:
            proxy.cut()  # or it takes the worker's own time limit to find out
        for pid in workers:
            host.wait_for("process_exited", pid=pid)
        arena.wait(lambda old=workers: len(host.living().keys() - old) == 2, "new processes")  # type: ignore[misc]
        arena.measure("host cut off: it has new processes", time.monotonic() - began)
    arena.finish()


@pytest.mark.long  # waits for the worker's own time limits
def test_a_lone_host_that_is_cut_off_in_silence_finds_out_by_itself(arena: Arena, proxy: Proxy) -> None:
    host = arena.start(conninfo=proxy.conninfo)
    host.wait_for("worker_ready")
    arena.keep_busy(200, seconds=0.05)
    arena.some_runs()
    began = time.monotonic()
    host.disturb("cut")
    proxy.fall_silent()
    arena.wait(lambda: host.records("database_unavailable"), "the host to notice")
    proxy.speak()
    arena.time_of_run(time.monotonic(), "silence is over: jobs run again", pids=host.living())
    arena.measure("cut off in silence for good: jobs run again", time.monotonic() - began)
    arena.finish()
