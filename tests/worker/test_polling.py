"""How often a host looks for jobs: the same while notifications are heard, by need while they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks.worker.link import Backoff
from pgtasks.worker.member import Member
from pgtasks.worker.polling import Polling
from pgtasks.worker.slots import ProcessView, SlotTable

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVAL = 2.0


class Host:
    """Two processes, and whether notifications are heard."""

    def __init__(self, table: SlotTable) -> None:
        self.listening = False
        self.slots = [table.of_process(index) for index in range(2)]
        members = [
            Member(index, f"w{index}", None, slots, None, Backoff())  # type: ignore[arg-type]  # not used here
            for index, slots in enumerate(self.slots)
        ]
        self.polling = Polling(lambda: members, lambda: INTERVAL, lambda: self.listening)

    def pauses(self, count: int) -> list[float]:
        return [self.polling.next_pause() for _ in range(count)]


@pytest.fixture
def host() -> Iterator[Host]:
    table = SlotTable.create(2, 1)
    yield Host(table)
    table.close()


def test_while_notifications_are_heard_the_interval_is_always_the_same(host: Host) -> None:
    host.listening = True
    host.slots[1].publish(ProcessView(running=1))
    assert host.pauses(3) == [INTERVAL] * 3


def test_without_notifications_an_idle_host_looks_no_more_often(host: Host) -> None:
    assert host.pauses(3) == [INTERVAL] * 3


@pytest.mark.parametrize(
    "view", [ProcessView(running=1), ProcessView(queued=1), ProcessView(finishing=1), ProcessView(succeeded=1)]
)
def test_without_notifications_a_host_that_finds_jobs_looks_ten_times_as_often(host: Host, view: ProcessView) -> None:
    host.pauses(1)
    host.slots[1].publish(view)
    assert host.pauses(1) == [pytest.approx(INTERVAL / 10)]


def test_without_notifications_looks_get_rare_again_when_there_is_nothing(host: Host) -> None:
    host.slots[0].publish(ProcessView(failed=3))
    pauses = host.pauses(12)
    assert pauses[0] == pytest.approx(INTERVAL / 10)
    assert pauses == sorted(pauses)
    assert pauses[-1] == INTERVAL
