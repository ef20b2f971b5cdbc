"""Hosts of ours and a Graphile Worker schedule one crontab, while they are killed and start again."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from pgtasks.cron import scheduler
from pgtasks.cron.clocks import Clock
from pgtasks.cron.crontab import parse_crontab
from tests.cron.simulation import Hooks, Link, World
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pgtasks.cron.entry import CronEntry
    from tests.interop.conftest import Shared, StartNode

CRONTAB = """
*/2 * * * * often ?fill=6d&max=3 {of: "both"}
7 * * * * hourly ?fill=6d&queue=q
30 2,14 * * * twice ?fill=6d
0 0 * * * daily ?fill=6d&id=other_name&priority=-1
"""
NOTE_WHO = """
create table adders (name text);
create function note_who() returns trigger language plpgsql as $$
begin
  insert into public.adders values (current_setting('application_name'));
  return null;
end $$;
create trigger note_who after insert on graphile_worker._private_jobs for each row execute function note_who();
"""
DAYS = 3
HOSTS = 3
LIVES = 5


class Hosts:
    """Schedulers of ours, with the clocks as they are, which can be cut off anywhere."""

    def __init__(self, world: World, entries: Sequence[CronEntry]) -> None:
        self._world = world
        self._entries = entries
        self._links: list[Link] = []
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for number in range(HOSTS):
            self._links.append(Link(self._world))
            host = scheduler.Scheduler(self._links[-1], f"host {number}", Hooks(), Clock())
            host.use(self._entries)
            self._running.append(asyncio.create_task(host.run()))

    async def kill(self) -> None:
        for task in self._running:
            task.cancel()
        ends = await asyncio.gather(*self._running, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
        for link in self._links:
            await link.close()
        self._running, self._links = [], []


def test_each_time_is_scheduled_exactly_once_by_three_hosts_and_a_graphile_worker(
    db: Shared, database: str, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some days that nobody was there for. Ours do as little at once as Graphile Worker does.
    monkeypatch.setattr(scheduler, "_TOGETHER", 1)
    world = World(database)
    db.connection.execute(NOTE_WHO)
    entries = parse_crontab(CRONTAB).entries()
    [(since, now)] = world.rows(f"select now() - interval '{DAYS} days', now()")
    for entry in entries:
        world.rows("insert into {gw}._private_known_crontabs values (%s, %s)", entry.id, since)
    in_all = sum(1 for entry in entries for _ in entry.schedule.between(since, now))
    goals = [*sorted(random.sample(range(10, in_all, 10), LIVES)), in_all]
    hosts = Hosts(world, entries)

    async def until(jobs: int) -> None:
        async with asyncio.timeout(LONG):
            while db.count() < jobs:  # noqa: ASYNC110 - others add them
                await asyncio.sleep(0.002)

    async def live(ours_first: bool, goal: int) -> None:
        """Let the one side run, soon both, until there are so many jobs, and kill them."""
        some = db.count() + (goal - db.count()) // 3
        if ours_first:
            await hosts.start()
            await until(some)
        node = start_node({"other": "note"}, crontab=CRONTAB)
        if not ours_first:
            await until(some)
            await hosts.start()
        await until(goal)
        node.kill()
        await hosts.kill()

    for number, goal in enumerate(goals):
        world.run(live(number % 2 == 1, goal))
    for entry in entries:
        times = [at for at, _ in world.times(entry.task)]
        latest = max(now, *times)  # it may have become due while the test ran
        assert times == list(entry.schedule.between(since, latest)), f"{entry.task}, killed at {goals}"
    assert world.rows("select count(distinct name) from adders") == [(2,)]
    world.close()
