"""The completer by itself: how often it tries again what it cannot write."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pgtasks.job import SUCCESS, Completion
from pgtasks.queue.rows import job_from_row
from pgtasks.sql import Statements
from pgtasks.worker import completer as module
from pgtasks.worker.completer import Completer
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    import pytest


def ended(number: int, result: str | None = None) -> Completion:
    row = (number, "{}", 0, 0, 1, 25, None, 0, 0, None, 0, "worker", 0, None)
    return Completion(job_from_row(row, "work", None), SUCCESS, result_json=result)


def test_long_results_are_written_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 10)
    results = ["x" * 4, None, "x" * 6, "x", "x" * 11, "x" * 10, None]
    waiting = [ended(number, result) for number, result in enumerate(results)]
    batches = []
    while waiting:
        batch, waiting = module._split(waiting, 1000)
        batches.append([one.job.id for one in batch])
    assert batches == [[0, 1, 2], [3], [4], [5, 6]]


def test_a_busy_job_is_not_tried_again_with_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    timers: list[float] = []

    async def finish(batch: list[Completion], *, quickly: bool = True) -> tuple[dict[int, str], int]:
        batches.append([one.job.id for one in batch])
        wrote.set()
        return {one.job.id: "deleted" if one.job.id else "busy" for one in batch}, 1

    async def run() -> None:
        loop = asyncio.get_running_loop()
        link: Any = SimpleNamespace(statements=Statements("graphile_worker"), worker_id="worker")
        queues: Any = SimpleNamespace(goes_on=lambda _: False)
        completer = Completer(link, lambda _: None, queues)
        monkeypatch.setattr(completer, "_finish", finish)
        call_later = loop.call_later

        def later(delay: float, *_: object) -> asyncio.TimerHandle:
            timers.append(delay)
            return call_later(LONG, print)

        monkeypatch.setattr(loop, "call_later", later)
        writing = asyncio.create_task(completer.run())
        for number in range(20):
            wrote.clear()
            completer.add([ended(number)])
            await wrote.wait()
        assert completer.pending_ids == [0]
        writing.cancel()

    wrote = asyncio.Event()
    asyncio.run(run())
    assert batches == [[number] for number in range(20)]
    assert timers == [module._BUSY_SECONDS]
