"""Connections: one pool for blocking code, one for each event loop, opened when first used.

A pool belongs to the process that opened it. After a fork the child opens its own; it never closes its parent's, whose
sockets it shares.

A pool connects in the background, and reports whatever goes wrong there as a time-out many seconds later. So the first
connection of each is tried directly: a refused password or a missing server is the answer at once.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import threading
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from pgtasks.database.connecting import (
    AsyncPooledConnection,
    CancellablePool,
    PooledConnection,
    complete_conninfo,
    suit_pooler,
    suit_pooler_async,
)
from pgtasks.database.errors import explain, needs_other_server
from pgtasks.database.loans import current_loans
from pgtasks.database.operation import Operation, run, run_async
from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from psycopg.abc import Query

    from pgtasks.errors import PgtasksError

T = TypeVar("T")

_WAIT_TIMEOUT = 10.0
"""Seconds to wait for a connection from a pool."""
_MAX_IDLE = 60.0
"""Seconds after which a connection that nobody used is closed."""


class Database:
    """The database of one application, by its conninfo.

    Args:
        conninfo: libpq connection string or URL; an empty one leaves all to libpq's own environment variables.
        max_connections: how many connections a pool may hold.
        application_name: shown in `pg_stat_activity`, unless the user has named one in any of libpq's ways.
    """

    def __init__(self, conninfo: str, *, max_connections: int = 10, application_name: str = "pgtasks") -> None:
        self.conninfo = complete_conninfo(conninfo, application_name)
        self._application_name = application_name
        self.connections_made = 0
        """How many connections its pools have made so far."""
        self.on_close: list[Callable[[], None]] = []
        """What else is to be closed with it."""
        self.session_statements: Sequence[Query] = ()
        """What each connection of its pools begins with."""
        self._options: dict[str, Any] = {
            "kwargs": {"autocommit": True},
            "min_size": 0,
            "max_size": max_connections,
            "max_idle": _MAX_IDLE,
            "timeout": _WAIT_TIMEOUT,
            "reconnect_timeout": _WAIT_TIMEOUT / 2,
            "open": False,
        }
        # By process, so that a forked child keeps its parent's pools alive and unused.
        self._blocking: dict[int, ConnectionPool[PooledConnection]] = {}
        self._loops: dict[tuple[int, asyncio.AbstractEventLoop], _LoopPool] = {}
        self._opening = threading.Lock()
        os.register_at_fork(after_in_child=_Renewal(self))
        # The pool's threads would keep the interpreter waiting at its exit.
        weakref.finalize(self, _close_own, self._blocking)

    @property
    def is_shared(self) -> bool:
        """Whether other connections see what is done on its own: not so in the one transaction of a test."""
        return True

    def make_room(self, connections: int) -> None:
        """Let each pool that is opened from now on hold so many connections, if it may not hold more."""
        self._options["max_size"] = max(self._options["max_size"], connections)

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend an autocommit connection from the pool for blocking code.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        return _Loan(self)

    @asynccontextmanager
    async def async_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit connection from the running event loop's pool.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pool = await self._loop_pool()
        try:
            connection = await pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise self._explain(await self._reason_async(error)) from error
        try:
            yield connection
        except psycopg.Error as error:
            if needs_other_server(error):
                await pool.drain()
            raise
        finally:
            await pool.putconn(connection)

    def connect(self, conninfo: str | None = None) -> psycopg.Connection[Any]:
        """Open a connection that belongs to no pool, to the database or to another address of it.

        Raises:
            DatabaseUnavailableError: it could not be opened.
        """
        where = self.conninfo if conninfo is None else complete_conninfo(conninfo, self._application_name)
        try:
            connection = PooledConnection.connect(where, autocommit=True)
        except psycopg.OperationalError as error:
            raise explain(error, where) from error
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def run(self, operation: Operation[T], connection: psycopg.Connection[Any] | None = None) -> T:
        """Run `operation` on the given connection, in its transaction, or on one of the pool."""
        if connection is not None:
            return run(connection, operation)
        with self.connection() as pooled:
            return run(pooled, operation)

    async def run_async(self, operation: Operation[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        """Run `operation` on the given connection, in its transaction, or on one of the loop's pool."""
        if connection is not None:
            return await run_async(connection, operation)
        async with self.async_connection() as pooled:
            return await run_async(pooled, operation)

    def borrow(self) -> tuple[ConnectionPool[PooledConnection], PooledConnection]:
        """Take a connection from the pool for blocking code, which is to be given back to it.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pool = self._blocking_pool()
        try:
            return pool, pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise self._explain(self._reason(error)) from error

    def close(self) -> None:
        """Close the pool for blocking code; those of event loops are closed by `aclose` in their loop."""
        for close in self.on_close:
            close()
        _close_own(self._blocking)
        self._forget_closed_loops()

    def close_all(self) -> None:
        """Close the pools of this process: those of event loops, too, but for loops that are running just now."""
        self.close()
        for (pid, loop), pool in list(self._loops.items()):
            if pid == os.getpid() and not (loop.is_closed() or loop.is_running()):
                loop.run_until_complete(pool.guard.aclose())

    async def aclose(self) -> None:
        """Close the running event loop's pool. The end of `asyncio.run` does so too."""
        pool = self._loops.get((os.getpid(), asyncio.get_running_loop()))
        if pool is not None:
            await pool.guard.aclose()

    async def drain_async(self) -> None:
        """Close the running event loop's connections that are idle, and the others when they are given back."""
        pool = self._loops.get((os.getpid(), asyncio.get_running_loop()))
        if pool is not None:
            await pool.pool.drain()

    def renew_lock(self) -> None:
        """Forget who held the lock when this process was forked: that thread is not in the child."""
        self._opening = threading.Lock()

    def _blocking_pool(self) -> ConnectionPool[PooledConnection]:
        pool = self._blocking.get(os.getpid())
        if pool is None:
            with self._opening:
                pool = self._blocking.get(os.getpid())
                if pool is None:
                    self._try_to_connect()
                    pool = ConnectionPool(
                        self.conninfo,
                        connection_class=PooledConnection,
                        configure=self._prepare,
                        check=_check,
                        name="pgtasks",
                        **self._options,
                    )
                    pool.open()
                    self._blocking[os.getpid()] = pool
        return pool

    async def _loop_pool(self) -> CancellablePool:
        key = (os.getpid(), asyncio.get_running_loop())
        found = self._loops.get(key)
        if found is None:
            self._forget_closed_loops()
            await self._try_to_connect_async()
            made: weakref.WeakSet[AsyncPooledConnection] = weakref.WeakSet()
            pool = CancellablePool(
                self.conninfo,
                connection_class=AsyncPooledConnection,
                configure=functools.partial(self._prepare_async, made),
                check=_check_async,
                name="pgtasks-async",
                **self._options,
            )
            if (found := self._loops.get(key)) is None:
                found = self._loops[key] = _LoopPool(pool, made, self._loops, key)
                await pool.open()
                await anext(found.guard)
        return found.pool

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        self.connections_made += 1
        suit_pooler(connection)
        for statement in self.session_statements:
            connection.execute(statement)

    async def _prepare_async(
        self, made: weakref.WeakSet[AsyncPooledConnection], connection: AsyncPooledConnection
    ) -> None:
        made.add(connection)
        self.connections_made += 1
        await suit_pooler_async(connection)
        for statement in self.session_statements:
            await connection.execute(statement)

    def _forget_closed_loops(self) -> None:
        """End the connections of event loops that were closed and not shut down, so that nobody else does."""
        for key in list(self._loops):
            if key[0] == os.getpid() and key[1].is_closed() and (left := self._loops.pop(key, None)) is not None:
                for connection in left.made:
                    connection.pgconn.finish()

    def _try_to_connect(self) -> None:
        try:
            psycopg.connect(self.conninfo, autocommit=True).close()
        except psycopg.OperationalError as error:
            raise explain(error, self.conninfo) from error

    async def _try_to_connect_async(self) -> None:
        try:
            await (await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)).close()
        except psycopg.OperationalError as error:
            raise explain(error, self.conninfo) from error

    def _explain(self, error: Exception) -> PgtasksError:
        if isinstance(error, PoolTimeout):
            return DatabaseUnavailableError(
                f"no connection came free within {_WAIT_TIMEOUT:g} s, of {self._options['max_size']} that the pool may "
                "hold: use the connection that the code has already (`defer(…, connection=…)`), give connections back "
                "sooner, or raise pool_max_size"
            )
        return explain(error, self.conninfo)

    async def _reason_async(self, error: Exception) -> Exception:
        if isinstance(error, PoolTimeout):
            try:
                await (await psycopg.AsyncConnection.connect(self.conninfo, connect_timeout=2)).close()
            except psycopg.OperationalError as cause:
                return cause
        return error

    def _reason(self, error: Exception) -> Exception:
        """What is behind a pool's time-out: the server's own word, if it does not let us in."""
        if isinstance(error, PoolTimeout):
            try:
                psycopg.connect(self.conninfo, connect_timeout=2).close()
            except psycopg.OperationalError as cause:
                return cause
        return error


class _Loan:
    """One lending of a connection. Not a generator, which would take as long again as the pool does."""

    __slots__ = ("_connection", "_database", "_loans", "_pool")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> PooledConnection:
        self._pool, self._connection = self._database.borrow()
        self._loans = current_loans.get()
        if self._loans is not None:
            self._loans.add(self._connection)
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None and needs_other_server(error):
            self._pool.drain()  # this connection too, when it is given back
        if self._loans is not None:
            self._loans.end(self._connection)
        self._pool.putconn(self._connection)


class _LoopPool:
    """An event loop's pool, with a generator that closes it when the loop is shut down.

    asyncio ends suspended generators then, which is the only word of it that can be had.
    """

    def __init__(
        self,
        pool: CancellablePool,
        made: weakref.WeakSet[AsyncPooledConnection],
        pools: dict[tuple[int, asyncio.AbstractEventLoop], _LoopPool],
        key: tuple[int, asyncio.AbstractEventLoop],
    ) -> None:
        self.pool = pool
        self.made = made
        """Its connections that there are."""
        self.guard = self._close_at_the_end(pools, key)

    async def _close_at_the_end(
        self,
        pools: dict[tuple[int, asyncio.AbstractEventLoop], _LoopPool],
        key: tuple[int, asyncio.AbstractEventLoop],
    ) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            pools.pop(key, None)
            await self.pool.close()


class _Renewal:
    """Renews a database's lock in forked children, without keeping the database alive."""

    def __init__(self, database: Database) -> None:
        self._database = weakref.ref(database)

    def __call__(self) -> None:
        database = self._database()
        if database is not None:
            database.renew_lock()


def _close_own(pools: dict[int, ConnectionPool[PooledConnection]]) -> None:
    pool = pools.pop(os.getpid(), None)
    if pool is not None:
        pool.close()


def _check(connection: psycopg.Connection[Any]) -> None:
    """Raise if the server has left an idle connection; costs a system call, not a round trip."""
    _close_if_left(connection)


async def _check_async(connection: psycopg.AsyncConnection[Any]) -> None:
    _close_if_left(connection)


def _close_if_left(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    # A server that ends a session says so or closes it, and either can be read. A notice that somebody let it send is
    # taken for the same, which costs a new connection.
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        # Closed here, since the pool would keep one that libpq has not yet found to be broken.
        connection.pgconn.finish()
        raise psycopg.OperationalError("the server has ended the session")
