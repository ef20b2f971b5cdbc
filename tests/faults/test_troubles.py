"""Jobs that do what no job should, among hundreds that behave."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.faults.hosts import processes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.arena import Arena


DEADLY = ("segfault", "exit", "kill", "close files")
FORKS = ("fork and return", "fork and raise", "fork and exit")


def test_jobs_that_end_their_process_are_charged_and_the_others_run(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    arena.book(times(20, 200))
    deadly = {arena.trouble(how, max_attempts=most) for how in DEADLY for most in (1, times(1, 3))}
    arena.add(times(200, 3000))
    arena.start()
    outcome = arena.finish()
    assert deadly <= outcome.left.keys()
    assert outcome.interruptions == {}
    for job in deadly:
        # One may have been about to begin when another ended the process, and is charged without a run.
        assert len(outcome.story.of_job(job)) <= outcome.left[job].max_attempts


def test_a_job_that_takes_all_memory_fails_and_the_others_run(arena: Arena, times: Callable[[int, int], int]) -> None:
    greedy = {arena.trouble("exhaust memory", max_attempts=1) for _ in range(times(3, 10))}
    arena.add(times(200, 2000))
    arena.start(before=("prlimit", f"--as={2 << 30}"))
    outcome = arena.finish()
    assert greedy <= outcome.left.keys()


def test_jobs_that_fork_and_forget_it_are_done_once_by_their_own_process(
    arena: Arena, times: Callable[[int, int], int]
) -> None:
    forks = {arena.trouble(how, max_attempts=1) for how in FORKS for _ in range(times(2, 20))}
    arena.fork_and_book(times(3, 30))
    arena.add(times(200, 2000))
    host = arena.start()
    host.wait_for("worker_ready")
    zygote = host.zygote()
    outcome = arena.finish()
    assert forks & outcome.left.keys() == set()
    assert outcome.story.faults == []
    left = processes_of(zygote)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert list(left.values()) == []
