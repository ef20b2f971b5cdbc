"""Which processes are woken, how often, and that what they are told reaches them."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from pgtasks.worker.link import Backoff
from pgtasks.worker.member import Member, wake
from pgtasks.worker.protocol import ToWorker
from pgtasks.worker.slots import ProcessView, SlotTable
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


class Process:
    """A worker process that does nothing by itself, with the supervisor's view of it."""

    def __init__(self, table: SlotTable, index: int) -> None:
        ours, self.control = socket.socketpair()
        ours.setblocking(False)
        self.control.setblocking(False)
        self.slots = table.of_process(index)
        self.slots.tick()
        self.member = Member(index, f"w{index}", ours, self.slots, None, Backoff())  # type: ignore[arg-type]  # not used here

    def heard(self) -> bytes:
        """What it was told since it last looked."""
        try:
            return self.control.recv(4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.control.close()
        self.member.control.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    table = SlotTable.create(3, 1)
    made = [Process(table, index) for index in range(3)]
    yield made
    for process in made:
        process.close()
    table.close()


def test_a_process_is_woken_once_until_it_has_begun_another_claim(processes: list[Process]) -> None:
    process = processes[0]
    for _ in range(1000):
        process.member.wake()
    assert process.heard() == ToWorker.WAKE
    process.member.wake()
    assert process.heard() == b""
    process.slots.publish(ProcessView(started_claims=1))
    for _ in range(2):
        process.member.wake()
    assert process.heard() == ToWorker.WAKE


def test_a_message_to_a_process_that_hears_nothing_arrives_when_there_is_room(processes: list[Process]) -> None:
    process = processes[0]

    async def tell_and_listen() -> bytes:
        try:
            while True:
                process.member.control.send(ToWorker.STACKS)
        except BlockingIOError:
            process.member.tell(ToWorker.DRAIN)
        heard = b""
        async with asyncio.timeout(LONG):
            while ToWorker.DRAIN not in heard:
                heard = process.heard()
                await asyncio.sleep(0)
        process.member.close()
        return heard

    assert asyncio.run(tell_and_listen()) == ToWorker.DRAIN


def test_a_process_whose_event_loop_is_blocked_takes_no_wake_from_one_that_can_claim(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, moving, other = processes
    later = time.monotonic() + 5
    monkeypatch.setattr(time, "monotonic", lambda: later)
    for process, free in ((blocked, 9), (moving, 3), (other, 2)):
        process.slots.publish(ProcessView(free=free))
        if process is not blocked:
            process.slots.tick()
    members = [process.member for process in processes]
    wake(members, 1)
    assert [process.heard() for process in processes] == [b"", ToWorker.WAKE, b""]
    # If the others have no room, it may be the first to have some.
    for process in (moving, other):
        process.slots.publish(ProcessView(started_claims=1, free=0))
    wake(members, 1)
    assert [process.heard() for process in processes] == [ToWorker.WAKE, ToWorker.WAKE, b""]
