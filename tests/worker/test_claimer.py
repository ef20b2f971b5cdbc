"""The claimer by itself, in moments between its statements that a running worker only passes through."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry
from pgtasks.job import RETURN, SUCCESS, Completion
from pgtasks.queue.claim import Claimed, Mark
from pgtasks.queue.rows import job_from_row
from pgtasks.worker.claimer import Claimer
from pgtasks.worker.planning import ForbiddenFlagsCache, Planner
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgtasks.job import Job


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def job(number: int, *, queue: str | None = None, attempts: int = 1, max_attempts: int = 25) -> Job:
    row = (number, "{}", 0, 0, attempts, max_attempts, None, 0, 0, None, 0, "worker", 0, None)
    return job_from_row(row, "work", queue)


class Bench:
    """A claimer whose process has so many free slots."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.given_back: list[Job] = []
        self.stuck = asyncio.Event()
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        unused: Any = None
        self.claimer = Claimer(
            unused,
            planner=Planner(None, ForbiddenFlagsCache(None, App(registry=Registry(), database_url=""), []), ["work"]),
            concurrency=2,
            free_slots=lambda: self.free,
            handed_over=lambda: 0,
            known_ids=list,
            on_change=nothing,
            on_answer=nothing,
            on_full=nothing,
            on_claimed=None,
            on_stuck=self.stuck.set,
            give_back=self.given_back.extend,
            register=unused,
            on_evicted=nothing,
        )


@in_a_loop
async def test_patience_is_also_lost_with_jobs_that_could_not_be_started_at_first() -> None:
    bench = Bench(free=2)
    bench.claimer.queue.extend(map(job, range(3)))
    bench.claimer._moved_at = -math.inf
    bench.claimer._lose_patience()  # with slots free, as while the database is slow to hear of jobs that have ended
    assert not bench.stuck.is_set()
    bench.free = 0
    await asyncio.wait_for(bench.stuck.wait(), LONG)


def test_what_is_withdrawn_from_the_queue_leaves_the_rest_in_order() -> None:
    async def test() -> None:
        claimer = Bench(free=0).claimer
        claimer.queue.extend(map(job, range(5)))
        assert [one.id for one in claimer.withdraw({(1, 0), (3, 0), (4, 1), (9, 0)})] == [1, 3]
        assert [one.id for one in claimer.queue] == [0, 2, 4]

    asyncio.run(test())


@in_a_loop
async def test_a_suspended_process_has_no_turn_of_a_queue_any_more() -> None:
    claimer = Bench(free=1).claimer
    ended = Completion(job(1, queue="q"), SUCCESS)
    assert claimer.goes_on(ended)
    claimer.suspend()
    assert not claimer.goes_on(ended)
    claimer.resume()
    claimer._exhausted = True  # a claim came before the queue was unlocked
    claimer.written([ended])
    assert not claimer._exhausted


@pytest.mark.parametrize(("free_now", "kept"), [(2, [1, 2, 3, 4]), (1, [1, 3, 4]), (0, [3, 4])])
@in_a_loop
async def test_what_is_on_its_last_attempt_waits_for_no_slot(
    monkeypatch: pytest.MonkeyPatch, free_now: int, kept: list[int]
) -> None:
    bench = Bench(free=2)
    jobs = [job(1, attempts=3, max_attempts=3), job(2, attempts=1, max_attempts=1), job(3), job(4)]

    async def answer(limit: int, free: int) -> tuple[list[Job], bool]:
        bench.free = free_now  # `advance` was quicker
        return jobs, True

    monkeypatch.setattr(bench.claimer, "_ask", answer)
    assert await bench.claimer._claim(limit=4, free=2)
    assert [one.id for one in bench.claimer.queue] == kept
    assert [one.id for one in bench.given_back] == [one.id for one in jobs if one.id not in kept]


@in_a_loop
async def test_what_may_be_locked_unknown_to_it_goes_back_also_without_a_free_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(free=0)
    bench.claimer._stuck = True  # nor is anything claimed ahead
    released = asyncio.Event()

    async def answer(limit: int, free: int) -> tuple[list[Job], bool]:
        assert (limit, free) == (0, 0)
        bench.claimer._answer_lost = False
        released.set()
        return [], True

    monkeypatch.setattr(bench.claimer, "_ask", answer)
    bench.claimer._answer_lost = True
    bench.claimer.look_again()
    running = asyncio.create_task(bench.claimer.run())
    await asyncio.wait_for(released.wait(), LONG)
    running.cancel()


@in_a_loop
async def test_what_was_given_back_is_not_passed_over_by_looks_near_the_marks() -> None:
    claimer = Bench(free=1).claimer
    now = time.monotonic()
    claimer._marks.looked(Claimed([], [Mark(0, 5, 1)], 1.0), now, full=True)
    claimer.written([Completion(job(1), SUCCESS)])
    assert claimer._marks.near(now) is not None
    claimer.written([Completion(job(2), RETURN)])
    assert claimer._marks.near(now) is None
