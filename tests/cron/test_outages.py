"""Whatever hosts and the database go through, each time of an entry is scheduled exactly once, and in order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cron.simulation import MINUTE, START, entry

if TYPE_CHECKING:
    from tests.cron.simulation import Host, World

WEEKS = 10 * 7 * 86400.0
MADE_UP = [
    entry("often", "*/7 * * * *", backfill=WEEKS),
    entry("hourly", "3 * * * *", backfill=WEEKS),
    entry("twice", "30 2,14 * * *", backfill=WEEKS),
    entry("daily", "@daily", backfill=WEEKS),
]
LIVE = entry("live", "*/5 * * * *")
HOSTS = 3
THINGS = ["step", "step", "step", "restart", "kill", "kill all", "cut off", "away", "back", "clock"]

# What happens, to which host, and how many minutes pass then.
events = st.lists(
    st.tuples(
        st.sampled_from(THINGS),
        st.integers(0, HOSTS - 1),
        st.one_of(st.integers(1, 3), st.integers(1, 70), st.integers(1, 1000)),
    ),
    max_size=40,
)


class Story:
    """Hosts that schedule the same entries, and what becomes of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hosts: list[Host | None] = [self.new_host() for _ in range(HOSTS)]
        self.step_all()

    def new_host(self) -> Host:
        return self.world.host(*MADE_UP, LIVE)

    def step(self, number: int) -> None:
        host = self.hosts[number]
        if host is not None:
            while host.step() == 0.0:
                pass

    def step_all(self) -> None:
        for number in range(HOSTS):
            self.step(number)

    def happen(self, what: str, number: int, minutes: int) -> None:
        world = self.world
        if what == "restart":
            self.hosts[number] = self.new_host()
        elif what == "kill":
            self.hosts[number] = None
        elif what == "kill all":
            self.hosts = [None] * HOSTS
        elif what == "cut off" and (host := self.hosts[number]) is not None:
            host.link.lose_answers = True
            self.step(number)
            host.link.lose_answers = False
        elif what in ("away", "back"):
            world.away = what == "away"
        elif what == "clock":
            world.time.database_ahead += timedelta(seconds=minutes % 120 - 60)
        self.step(number)
        world.time.true += MINUTE * minutes

    def end(self) -> None:
        self.world.away = False
        self.hosts[0] = self.hosts[0] or self.new_host()
        self.world.time.true += MINUTE * 50  # beyond all that clocks were set back by
        self.step_all()

    def check(self) -> None:
        until = self.world.time.of_database()
        for one in MADE_UP:
            assert [at for at, _ in self.world.times(one.task)] == list(one.schedule.between(START, until)), one.id
        times = [at for at, _ in self.world.times(LIVE.task)]
        assert times == sorted(set(times))
        assert set(times) <= set(LIVE.schedule.between(START, until))


def test_each_time_is_scheduled_exactly_once_and_in_order_after_any_outages(world: World, long_form: bool) -> None:
    @settings(
        max_examples=300 if long_form else 25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(events)
    def holds(happened: list[tuple[str, int, int]]) -> None:
        world.forget()
        story = Story(world)
        for what, number, minutes in happened:
            story.happen(what, number, minutes)
        story.end()
        story.check()

    holds()


def test_what_is_not_made_up_for_is_scheduled_as_long_as_one_host_is_there(world: World) -> None:
    hosts = [world.host(LIVE) for _ in range(HOSTS)]
    for number in range(60 * 12):
        # One host after the other starts anew; the database is away now and then, for less than an hour.
        world.away = number % 90 > 50
        if number % 100 == 0:
            hosts[number // 100 % HOSTS] = world.host(LIVE)
        if number % 3 == 0 or not world.away:
            hosts[number % HOSTS].step()
        world.time.true += MINUTE
    world.away = False
    for host in hosts:
        host.step()
    until = world.time.of_database()
    assert [at for at, _ in world.times()] == list(LIVE.schedule.between(START, until))
