"""What the executor's threads do by themselves, without a database."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pgtasks import App, Registry
from pgtasks.job import SUCCESS, OutcomeKind
from pgtasks.queue.rows import job_from_row
from pgtasks.worker.executor import Executor
from pgtasks.worker.slots import SlotTable
from tests.waiting import wait_until
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.job import Completion, Job


class Bench:
    """One slot, and tasks that do what the test tells them."""

    def __init__(self) -> None:
        self.app = App(registry=Registry(), database_url="")
        self.slots = SlotTable.create(1, 1).of_process(0)
        self.ended: list[Completion] = []
        self.ran: list[tuple[str, int, list[int]]] = []
        """What ran, in which thread, and which jobs the slot showed meanwhile."""
        self.go_on = threading.Event()
        self.may_start = True

        @self.app.task
        def work() -> None:
            self._note("work")

        @self.app.task
        def wait() -> None:
            self._note("wait")
            self.go_on.wait(LONG)

        @self.app.task
        def fail() -> None:
            self._note("fail")
            raise RuntimeError

        @self.app.task
        def read(payload: object) -> None:
            self._note(f"read {payload}")

        @self.app.task
        async def coroutine(payload: object) -> None:
            self._note("coroutine")

        @self.app.task(timeout=LONG)
        def limited() -> None:
            self._note("limited")

    def _note(self, name: str) -> None:
        self.ran.append((name, threading.get_ident(), [claim.job_id for claim in self.slots.running()]))

    def run(self, test: Callable[[Executor], None]) -> None:
        async def running() -> None:
            executor = Executor(
                self.app,
                1,
                self.slots,
                self.ended.extend,
                lambda: None,
                lambda: self.may_start,
                self.app.use_loop(),
                lambda *_: None,
            )
            test(executor)
            await executor.wait_for_all(LONG)
            assert executor.free == 1
            assert executor.running == 0

        asyncio.run(running())


def claimed(task: str, number: int) -> Job:
    row = (number, "{}", 0, 0, 1, 25, None, 0, 0, None, 0, "worker", 0, None)
    return job_from_row(row, task, None)


def test_a_thread_runs_what_was_handed_over_in_its_slot_while_the_loop_is_blocked() -> None:
    bench = Bench()

    def test(executor: Executor) -> None:
        executor.start(claimed("wait", 1))
        for number in range(2, 50):
            executor.hand_over(claimed("work", number))
        assert sorted(executor.held_ids) == list(range(1, 50))
        bench.go_on.set()
        wait_until(lambda: len(bench.ran) == 49, LONG, "all jobs")  # blocks the loop
        assert sorted(executor.held_ids) == list(range(1, 50)), "none is forgotten before its end was collected"
        assert executor.running == 1

    bench.run(test)
    assert len({thread for _, thread, _ in bench.ran}) == 1
    assert [slot for _, _, slot in bench.ran] == [[number] for number in range(1, 50)]
    assert [(one.job.id, one.outcome) for one in bench.ended] == [(number, SUCCESS) for number in range(1, 50)]


def test_after_a_failure_a_thread_leaves_the_next_job_and_the_slot_remembers_it() -> None:
    bench = Bench()

    def test(executor: Executor) -> None:
        executor.start(claimed("fail", 1))
        executor.hand_over(claimed("work", 2))

    bench.run(test)
    assert [name for name, _, _ in bench.ran] == ["fail"]
    assert [one.outcome.kind for one in bench.ended] == [OutcomeKind.RETRY]
    assert [claim.job_id for claim in bench.slots.chargeable()] == [1]


@pytest.mark.parametrize("task", ["read", "coroutine"])
def test_a_payload_for_which_there_is_no_memory_costs_no_slot(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def decode(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pgtasks.codec.decode", decode)
    bench.run(lambda executor: executor.start(claimed(task, 1)))
    assert (bench.ran, [one.outcome.kind for one in bench.ended]) == ([], [OutcomeKind.RETRY])


def test_a_handler_that_takes_nothing_runs_whatever_the_payload_is() -> None:
    bench = Bench()
    bench.run(lambda executor: executor.start(replace(claimed("work", 1), payload_json="no JSON")))
    assert [one.outcome for one in bench.ended] == [SUCCESS]


def test_a_thread_starts_nothing_when_the_process_may_not() -> None:
    bench = Bench()

    def test(executor: Executor) -> None:
        executor.start(claimed("wait", 1))
        executor.hand_over(claimed("work", 2))
        bench.may_start = False
        bench.go_on.set()

    bench.run(test)
    assert [name for name, _, _ in bench.ran] == ["wait"]


def test_what_was_handed_over_can_be_taken_back_and_does_not_run() -> None:
    bench = Bench()

    def test(executor: Executor) -> None:
        executor.start(claimed("wait", 1))
        jobs = [claimed("work", 2), claimed("work", 3)]
        for job in jobs:
            executor.hand_over(job)
        assert executor.ready == 2
        assert executor.take_back() == jobs
        assert (executor.ready, executor.held_ids) == (0, [1])
        bench.go_on.set()

    bench.run(test)
    assert [name for name, _, _ in bench.ran] == ["wait"]


def test_only_plain_jobs_without_a_limit_are_for_threads() -> None:
    bench = Bench()

    def test(executor: Executor) -> None:
        names = ("work", "coroutine", "limited")
        assert [name for name in names if executor.takes(claimed(name, 1))] == ["work"]

    bench.run(test)
