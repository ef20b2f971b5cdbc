"""Connections of the pools: how they are made, kept and left."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, LiteralString

import psycopg
import pytest

from pgtasks.database import Database, Operation, run_async
from pgtasks.database.connecting import complete_conninfo
from pgtasks.errors import DatabaseUnavailableError
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = Operation("one", "select 1", (), lambda rows: int(rows[0][0]))


@pytest.fixture
def pools(empty_database: str) -> Iterator[Database]:
    database = Database(empty_database, max_connections=2)
    yield database
    database.close()


@pytest.mark.parametrize("turns", range(30))
def test_an_event_loop_ends_while_its_pool_connects(pools: Database, turns: int) -> None:
    """The pool took the cancellation for a failed attempt, and `asyncio.run` waited for it for ever."""

    async def leave_soon() -> None:
        async with pools.async_connection():
            second = asyncio.create_task(pools.run_async(ONE))
            for _ in range(turns):
                await asyncio.sleep(0)
            assert not second.cancelled()

    asyncio.run(leave_soon())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what was pending says so
def test_loops_that_were_closed_and_not_shut_down_leave_no_connections(pools: Database, empty_database: str) -> None:
    def count() -> int:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(pools.run_async(others))
        finally:
            loop.close()

    query: LiteralString = (
        "select count(*) from pg_stat_activity where application_name = 'pgtasks' and pid <> pg_backend_pid()"
    )
    others = Operation("others", query, (), lambda rows: int(rows[0][0]))
    count()
    wait_until(lambda: count() == 0)
    pools.close()
    with psycopg.connect(empty_database) as connection:
        wait_until(lambda: connection.execute(query).fetchone() == (0,))
    gc.collect()


def test_statements_are_prepared_on_a_direct_connection(pools: Database, empty_database: str) -> None:
    async def run() -> int:
        async with pools.async_connection() as connection:
            for _ in range(10):
                await run_async(connection, ONE)
            rows = await (await connection.execute("select count(*) from pg_prepared_statements")).fetchone()
            assert rows is not None
            return int(rows[0])

    assert asyncio.run(run()) > 0
    with pools.connection() as connection:
        assert connection.prepare_threshold is not None


def test_a_pool_that_is_lent_out_names_its_size_and_what_to_do(pools: Database) -> None:
    words = "of 2 that the pool may hold: .* raise pool_max_size"
    with pools.connection(), pools.connection():
        pools._blocking_pool().timeout = 0.01
        with pytest.raises(DatabaseUnavailableError, match=words), pools.connection():
            pass

    async def run() -> None:
        async with pools.async_connection(), pools.async_connection():
            (await pools._loop_pool()).timeout = 0.01
            with pytest.raises(DatabaseUnavailableError, match=words):
                await pools.run_async(ONE)

    asyncio.run(run())


def test_a_connection_to_a_server_that_was_made_read_only_is_not_used_again(
    pools: Database, empty_database: str
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute("create table t (i int)")
        with pools.connection() as connection:
            connection.execute("insert into t values (1)")
            first = connection.info.backend_pid
        name = admin.info.dbname
        admin.execute(f'alter database "{name}" set default_transaction_read_only = on'.encode())
        with pools.connection() as connection:
            assert connection.info.backend_pid == first
            connection.execute("insert into t values (2)")  # the session has the setting of its start
            connection.execute("set default_transaction_read_only = on")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), pools.connection() as connection:
            connection.execute("insert into t values (3)")
        with pools.connection() as connection:
            assert connection.info.backend_pid != first


def test_several_hosts_are_asked_which_one_takes_writes() -> None:
    assert "target_session_attrs=read-write" in complete_conninfo("host=a,b", "x")
    assert "target_session_attrs=read-write" in complete_conninfo("postgresql://a,b/shop", "x")
    assert "target_session_attrs=any" in complete_conninfo("host=a,b target_session_attrs=any", "x")
    assert "target_session_attrs" not in complete_conninfo("host=a", "x")


def test_a_server_that_has_gone_is_noticed_within_a_minute_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "keepalives_idle=30" in complete_conninfo("host=a", "x")
    assert "keepalives_idle=5" in complete_conninfo("host=a keepalives_idle=5", "x")
    assert "tcp_user_timeout" not in complete_conninfo("host=a keepalives=0", "x")
    monkeypatch.setenv("PGSERVICE", "shop")
    assert "keepalives" not in complete_conninfo("", "x")
