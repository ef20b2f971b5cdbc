"""Workers that are told to stop, once, twice or thrice, at any instant."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.arena import Arena
    from tests.faults.hosts import Host


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_signals_at_any_instant_lose_no_job_and_leave_nothing_locked(
    arena: Arena, signals: int, times: Callable[[int, int], int]
) -> None:
    arena.book(times(20, 200))
    for _ in range(times(3, 34)):
        arena.keep_busy(100, seconds=0.02)
        host = arena.start()
        instant_of_chance(arena, host)
        arena.touch()
        began = time.monotonic()
        for _ in range(signals):
            host.signal(arena.rng.choice((signal.SIGTERM, signal.SIGINT)))
            time.sleep(arena.rng.choice((0.0, 0.001, 0.02)))
        code = host.process.wait(LONG)
        arena.measure(f"signalled {signals} times: the worker has ended", time.monotonic() - began)
        # Cut off, if anything ran when it came.
        assert code in ((0,) if signals == 1 else (0, 9)), host.text
        host.wait_until_gone()
        if signals > 1:
            arena.ledger.fault("abort", host.process_ids())  # with those that were just being started
        assert arena.locked() == [], host.text
    arena.start()
    assert arena.finish().interruptions == {}


def instant_of_chance(arena: Arena, host: Host) -> None:
    """Wait for some instant of a worker's life: while it starts, when it makes its first claim, while it works."""
    moment = arena.rng.choice(("process_started", "worker_ready", "runs", "runs", "runs"))
    if moment == "runs":
        arena.some_runs()
    else:
        host.wait_for(moment)
        time.sleep(arena.rng.uniform(0, 0.02))
