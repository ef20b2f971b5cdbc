"""The listener hears what is said, does not mind nonsense, and comes back."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import psycopg

from pgtasks.queue import listen
from pgtasks.queue.listen import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tests.servers import Server

LONG = 30.0


class Heard:
    """What a listener has reported, in order."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.breaking = 0
        self._changed = asyncio.Event()

    def on_jobs(self, count: int) -> None:
        self.jobs.append(count)
        self._changed.set()

    def on_breaking(self) -> None:
        self.breaking += 1
        self._changed.set()

    def listener(self, database: str, notify_in: str | None = None) -> Listener:
        """Return one that listens in `database` and tries with notifications in another, or the same."""

        async def notify(channel: str, payload: str) -> bool:
            try:
                async with await psycopg.AsyncConnection.connect(notify_in or database, autocommit=True) as other:
                    await other.execute("select pg_notify(%s, %s)", (channel, payload))
            except psycopg.OperationalError:
                return False
            return True

        return Listener(
            database,
            notify=notify,
            separate=notify_in is not None,
            pauses=lambda: lambda: 0.01,
            on_jobs=self.on_jobs,
            on_breaking=self.on_breaking,
        )

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG):
            while not condition():
                await self._changed.wait()
                self._changed.clear()


def listening(database: str, scenario: Callable[[Heard], Awaitable[None]]) -> None:
    async def run() -> None:
        heard = Heard()
        listener = heard.listener(database)
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


def test_it_reports_a_breaking_migration(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        assert heard.breaking == 1  # one may have been missed before
        connection.execute('notify "worker:migrate", \'{"migrationNumber": 20, "breaking": false}\'')
        connection.execute('notify "worker:migrate", \'{"migrationNumber": 21, "breaking": true}\'')
        connection.execute("select pg_notify('jobs:insert', '{\"count\": 42}')")
        await heard.wait_for(lambda: heard.jobs[-1] == 42)
        assert heard.breaking == 2

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
        assert heard.breaking == 1

    listening(database, scenario)


def test_it_comes_back_and_asks_for_a_look_at_what_it_missed(database: str, connection: psycopg.Connection) -> None:
    async def scenario(heard: Heard) -> None:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%'")
        await heard.wait_for(lambda: heard.jobs == [0, 0])
        connection.execute("select graphile_worker.add_job('t')")
        await heard.wait_for(lambda: len(heard.jobs) == 3)
        assert heard.jobs == [0, 0, 1]

    listening(database, scenario)


def test_a_silent_connection_is_noticed_by_the_next_try(
    database: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The session goes on, but hears nothing any more: as if the server had gone without a word."""
    monkeypatch.setattr(listen, "_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(listen, "_CHECK_TIMEOUT", 1.0)
    sessions: list[psycopg.AsyncConnection] = []
    connect = psycopg.AsyncConnection.connect

    async def noted(*args: object, **options: object) -> psycopg.AsyncConnection:
        session = await connect(*args, **options)  # type: ignore[arg-type]
        if options.get("prepare_threshold", 5) is None:  # as the listener's own has it
            sessions.append(session)
        return session

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", noted)

    async def scenario(heard: Heard) -> None:
        # `unlisten` in that very session, between two reads of the listener's.
        await sessions[0].execute("unlisten *")
        await heard.wait_for(lambda: heard.jobs == [0, 0])
        connection.execute("select graphile_worker.add_job('t')")
        await heard.wait_for(lambda: heard.jobs == [0, 0, 1])

    listening(database, scenario)
    assert [record.getMessage().partition(" ")[0] for record in caplog.records if "listen" in record.getMessage()] == [
        "listen_lost"
    ]


def test_listening_in_another_database_is_found_out_and_said_once(
    database: str, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listen, "_CHECK_TIMEOUT", 0.2)
    monkeypatch.setattr(listen, "_DEAF_PAUSES", (0.01, 0.01))

    async def run() -> None:
        heard = Heard()
        listener = heard.listener(database, notify_in=server.conninfo())
        tries, enough = itertools.count(1), asyncio.Event()
        hears_itself = listener._hears_itself

        async def counted(session: psycopg.AsyncConnection) -> bool | None:
            if next(tries) == 4:
                enough.set()
            return await hears_itself(session)

        monkeypatch.setattr(listener, "_hears_itself", counted)
        task = asyncio.create_task(listener.run())
        async with asyncio.timeout(LONG):
            await enough.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert heard.jobs == []
        assert not listener.listening

    asyncio.run(run())
    told = [record.getMessage() for record in caplog.records if "listen" in record.getMessage()]
    assert len(told) == 1
    assert "listen_impossible" in told[0]
    assert "listen_url" in told[0]
