"""psycopg's connections: those that can take a job now, and what is said of the others."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgtasks.connections import usable
from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks import App, Task

    Committed = Callable[[], list[Any]]

MANY = list(range(100, 135))


def test_jobs_are_added_in_a_pipeline(send: Task[Any, ..., Any], database: str, committed: Committed) -> None:
    with psycopg.connect(database) as own:
        with own.pipeline():
            own.execute("insert into note values (1)")
            send.defer(1, connection=own)
            own.execute("insert into note values (2)")
            send.defer_many(MANY, connection=own)
        assert committed() == []
        own.commit()
        assert committed() == [1, *MANY, "note 1", "note 2"]
        with suppress(psycopg.errors.PipelineAborted), own.pipeline():
            own.execute("select 1/0")
            with pytest.raises(psycopg.errors.DivisionByZero):
                send.defer(2, connection=own)
            with pytest.raises(
                JobOptionError, match=r"pipeline of the given psycopg\.Connection has failed: leave the"
            ):
                send.defer(2, connection=own)


def test_one_connection_serves_threads_and_tasks_one_after_another(
    send: Task[Any, ..., Any], app: App, database: str, committed: Committed
) -> None:
    async def add() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            await asyncio.gather(*(send.defer_async(number, connection=own) for number in range(20)))
        await app.aclose()

    with psycopg.connect(database) as own, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: send.defer(number, connection=own), range(20)))
    asyncio.run(add())
    assert sorted(committed()) == sorted([*range(20), *range(20)])


def test_what_is_in_the_middle_of_a_statement_is_not_waited_for_for_ever(
    send: Task[Any, ..., Any], app: App, database: str, committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usable, "BUSY_SECONDS", 0.01)
    busy = pytest.raises(
        JobOptionError, match=r"given psycopg\.\w+ is in the middle of another statement: end the COPY"
    )

    async def add() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            async with own.cursor().copy("copy note from stdin") as copy:
                with busy:
                    await send.defer_async(1, connection=own)
                await copy.write_row([2])
            await send.defer_async(2, connection=own)
        await app.aclose()

    with psycopg.connect(database) as own:
        with own.cursor().copy("copy note from stdin") as copy:
            with busy:
                send.defer(1, connection=own)
            copy.write_row([1])
        rows = own.cursor().stream("select generate_series(1, 3)")
        next(rows)
        with busy:
            send.defer(1, connection=own)
        assert len(list(rows)) == 2
        send.defer(1, connection=own)
    asyncio.run(add())
    assert committed() == [1, 2, "note 1", "note 2"]


def test_what_cannot_take_a_job_is_named_with_what_to_do(
    send: Task[Any, ..., Any], app: App, database: str, committed: Committed
) -> None:
    def refused(given: Any, match: str) -> None:
        with pytest.raises(JobOptionError, match=match):
            send.defer(1, connection=given)
        with pytest.raises(JobOptionError, match=match):
            send.defer_many([1], connection=given)
        with pytest.raises(JobOptionError, match=match):
            app.jobs.get(1, connection=given)

    async def refused_async(given: Any, match: str) -> None:
        with pytest.raises(JobOptionError, match=match):
            await send.defer_async(1, connection=given)
        with pytest.raises(JobOptionError, match=match):
            await app.jobs_async.get(1, connection=given)

    async def refuse_async() -> None:
        other = await psycopg.AsyncConnection.connect(database)
        refused(other, r"cannot be a psycopg\.AsyncConnection here: it is for asyncio code: await the method with `_a")
        await refused_async(own, r"cannot be a psycopg\.Connection here: it is for blocking code: call the method with")
        await refused_async(other.cursor(), r"psycopg\.AsyncCursor here: .* `cursor\.connection`")
        pool = AsyncConnectionPool(database, open=False)
        await refused_async(
            pool, r"AsyncConnectionPool here: borrow one, `async with pool\.connection\(\) as connection"
        )
        with pytest.raises(psycopg.errors.DivisionByZero):
            await other.execute("select 1/0")
        await refused_async(other, r"transaction of the given psycopg\.AsyncConnection has failed, .*: roll it back")
        await other.close()
        await refused_async(other, r"connection of the given psycopg\.AsyncConnection is closed: open another one")
        found: dict[str, Any] = conninfo_to_dict(database)
        third = await asyncpg.connect(
            host=found["host"], port=found["port"], user=found["user"], database=found["dbname"]
        )
        await refused_async(
            third, r"asyncpg\.Connection here: pgtasks speaks psycopg 3 only: .* SQL function add_job on"
        )
        await third.close()
        await refused_async(database, "cannot be a str here: it is an address: give an open connection")
        await refused_async(
            object(), r"cannot be an object here: give a psycopg\.AsyncConnection, an SQLAlchemy AsyncSe"
        )

    own = psycopg.connect(database)
    asyncio.run(refuse_async())
    refused(own.cursor(), r"psycopg\.Cursor here: give what it is on, `cursor\.connection`")
    refused(
        ConnectionPool(database, open=False), r"ConnectionPool here: borrow one, `with pool\.connection\(\) as conn"
    )
    with pytest.raises(psycopg.errors.DivisionByZero):
        own.execute("select 1/0")
    refused(own, r"transaction of the given psycopg\.Connection has failed, .*: roll it back")
    own.close()
    refused(own, r"connection of the given psycopg\.Connection is closed: open another one")
    other = psycopg2.connect(database)
    refused(other, r"psycopg2\.connection here: pgtasks speaks psycopg 3 only: use that, or call the SQL function")
    other.close()
    refused(database, "cannot be a str here: it is an address")
    refused(object(), r"cannot be an object here: give a psycopg\.Connection, an SQLAlchemy Session or Connection, or")
    assert committed() == []
