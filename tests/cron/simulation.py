"""Hosts that schedule cron entries on one real database, while what the clocks say is up to the test."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgtasks.cron.clocks import Clock
from pgtasks.cron.entry import CronEntry
from pgtasks.cron.schedule import Schedule
from pgtasks.cron.scheduler import Scheduler
from pgtasks.database.adapt import ADAPTERS
from pgtasks.database.operation import run_async
from pgtasks.sql import Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgtasks.cron.clocks import Skew
    from pgtasks.cron.ticks import CronTick
    from pgtasks.database import Operation

T = TypeVar("T")
START = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def entry(id: str, schedule: str, **options: Any) -> CronEntry:
    return CronEntry(
        **{"id": id, "task": f"do_{id}", "schedule": Schedule(schedule), "source": f"test {id}", **options}
    )


def at(minute: str) -> datetime:
    """A time of the day of START."""
    hour, minutes = minute.split(":")
    return START.replace(hour=int(hour), minute=int(minutes), second=0)


class Time(Clock):
    """The clocks as the test sets them; `of_database` is the true one."""

    def __init__(self) -> None:
        self.true = START
        self.database_ahead = timedelta()
        self.host_ahead = timedelta()

    def monotonic(self) -> float:
        return (self.true - START).total_seconds()

    def wall(self) -> datetime:
        return self.true + self.host_ahead

    def of_database(self) -> datetime:
        return self.true + self.database_ahead


class Link:
    """A host's connection, which the test can cut off."""

    def __init__(self, world: World) -> None:
        self.statements = Statements(world.schema)
        self._world = world
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self.asked: list[str] = []
        self.forgiven: list[Exception] = []
        self.lose_answers = False
        """Whether what is asked is done, and nothing is heard of it."""

    async def attempt(self, operation: Operation[T]) -> T:
        if self._world.away:
            raise psycopg.OperationalError("away")
        self.asked.append(operation.name)
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._world.conninfo, autocommit=True, application_name="ours"
            )
        result = await run_async(self._connection, operation)
        if self.lose_answers:
            raise psycopg.OperationalError("cut off")
        return result

    def forgives(self, error: Exception, statement: str) -> bool:
        self.forgiven.append(error)
        return isinstance(error, psycopg.Error)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class Hooks:
    """What plugins were told; `change` is what they make of ticks."""

    def __init__(self) -> None:
        self.change: Callable[[Sequence[CronTick]], Sequence[CronTick]] = lambda ticks: ticks
        self.backfilled: list[CronTick] = []
        self.scheduled: list[CronTick] = []
        self.skews: list[Skew] = []

    async def before_cron(self, ticks: Sequence[CronTick]) -> Sequence[CronTick]:
        return self.change(ticks)

    def backfilling(self, ticks: Sequence[CronTick]) -> None:
        self.backfilled += ticks

    def cron_scheduled(self, ticks: Sequence[CronTick]) -> None:
        self.scheduled += ticks

    def clock_skew(self, skew: Skew) -> None:
        self.skews.append(skew)


class Host:
    def __init__(self, world: World, name: str, entries: Sequence[CronEntry]) -> None:
        self.name = name
        self.link = Link(world)
        self.hooks = Hooks()
        self.scheduler = Scheduler(self.link, name, self.hooks, world.time)
        self.scheduler.use(entries)
        self._world = world

    def step(self) -> float | None:
        pause: float | None = self._world.run(self.scheduler.step())
        return pause


class World:
    """A database, the time, and hosts."""

    def __init__(self, conninfo: str, schema: str = "graphile_worker") -> None:
        self.conninfo = conninfo
        self.schema = schema
        self.time = Time()
        self.away = False
        self._runner = asyncio.Runner()
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._connection.adapters.register_loader("timestamptz", ADAPTERS.get_loader(1184, psycopg.pq.Format.BINARY))  # type: ignore[arg-type]
        self._hosts: list[Host] = []

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def host(self, *entries: CronEntry, name: str | None = None) -> Host:
        self._hosts.append(Host(self, name or f"host {len(self._hosts)}", entries))
        return self._hosts[-1]

    def go_to(self, minute: str | datetime) -> None:
        self.time.true = at(minute) if isinstance(minute, str) else minute

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        text = query.replace("{gw}", psycopg.sql.Identifier(self.schema).as_string())
        cursor = self._connection.execute(text.encode(), parameters or None, binary=True)
        return cursor.fetchall() if cursor.description else []

    def ticks(self, task: str | None = None) -> list[str]:
        """Of which times there are jobs, in the order in which they were added; `+` follows what was backfilled."""
        return [f"{ts:%H:%M}{'+' if backfilled else ''}" for ts, backfilled in self.times(task)]

    def times(self, task: str | None = None) -> list[tuple[datetime, bool]]:
        rows = self.rows(
            "select jobs.payload::text from {gw}._private_jobs as jobs join {gw}._private_tasks as tasks "
            "on tasks.id = jobs.task_id where %s::text is null or tasks.identifier = %s order by jobs.id",
            task,
            task,
        )
        found = [json.loads(text)["_cron"] for (text,) in rows]
        return [(datetime.fromisoformat(cron["ts"]), cron["backfilled"]) for cron in found]

    def forget(self) -> None:
        """Begin again, with an empty database."""
        self.rows("truncate {gw}._private_jobs, {gw}._private_known_crontabs, {gw}._pgtasks_crontabs")
        self.close_hosts()
        self.time.__init__()  # type: ignore[misc]
        self.away = False

    def close_hosts(self) -> None:
        for host in self._hosts:
            self.run(host.link.close())
        self._hosts.clear()

    def close(self) -> None:
        self.close_hosts()
        self._connection.close()
        self._runner.close()
