"""The listener hears what is said, does not mind nonsense, and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgtasks.queue.listen import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import psycopg

LONG = 30.0


class Heard:
    """What a listener has reported, in order."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.migrations: list[tuple[int, bool]] = []
        self._changed = asyncio.Event()

    def on_jobs(self, count: int) -> None:
        self.jobs.append(count)
        self._changed.set()

    def on_migration(self, number: int, breaking: bool) -> None:
        self.migrations.append((number, breaking))
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG):
            while not condition():
                await self._changed.wait()
                self._changed.clear()


def listening(database: str, scenario: Callable[[Heard], Awaitable[None]]) -> None:
    async def run() -> None:
        heard = Heard()
        listener = Listener(
            database, pauses=lambda: lambda: 0.01, on_jobs=heard.on_jobs, on_migration=heard.on_migration
        )
        task = asyncio.create_task(listener.run())
        try:
            await heard.wait_for(lambda: heard.jobs == [0])
            await scenario(heard)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_it_reports_how_many_jobs_were_added(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        connection.execute("select graphile_worker.add_job('t')")
        connection.execute("""
            select graphile_worker.add_jobs(array_fill(
                row('t', null, null, null, null, null, null, null)::graphile_worker.job_spec, array[3]
            ))
        """)
        await heard.wait_for(lambda: len(heard.jobs) == 3)
        assert heard.jobs == [0, 1, 3]

    listening(database, scenario)


def test_it_reports_migrations(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        connection.execute('notify "worker:migrate", \'{"migrationNumber": 21, "breaking": true}\'')
        await heard.wait_for(lambda: bool(heard.migrations))
        assert heard.migrations == [(21, True)]

    listening(database, scenario)


def test_nonsense_on_the_channels_does_no_harm(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        for payload in ("", "nonsense", "[]", "{}", '{"count": null}', '{"count": -1}', '{"migrationNumber": 1}'):
            connection.execute(
                "select pg_notify('jobs:insert', %s), pg_notify('worker:migrate', %s)", (payload, payload)
            )
        connection.execute("select pg_notify('jobs:insert', '{\"count\": 42}')")
        await heard.wait_for(lambda: heard.jobs[-1] == 42)
        assert all(count == 1 for count in heard.jobs[1:-1])
        assert heard.migrations == []

    listening(database, scenario)


def test_it_comes_back_and_asks_for_a_look_at_what_it_missed(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'")
        await heard.wait_for(lambda: heard.jobs == [0, 0])
        connection.execute("select graphile_worker.add_job('t')")
        await heard.wait_for(lambda: len(heard.jobs) == 3)
        assert heard.jobs == [0, 0, 1]

    listening(database, scenario)
