"""Connections: one pool for blocking code, one for each event loop, opened when first used.

A pool belongs to the process that opened it. After a fork the child finds its parent's pools unusable and opens its
own; it never closes what is not its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from pgtasks.database.errors import explain
from pgtasks.database.operation import Operation, run, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

T = TypeVar("T")

_CONNECT_TIMEOUT = 10.0
"""Seconds to wait for a connection, unless the conninfo has a `connect_timeout`."""
_MAX_IDLE = 60.0
"""Seconds after which a connection that nobody used is closed."""


class Database:
    """The database of one application, by its conninfo.

    Args:
        conninfo: libpq connection string or URL; an empty one leaves all to libpq's own environment variables.
        max_connections: how many connections a pool may hold.
        application_name: shown in `pg_stat_activity`, unless the conninfo names one.
    """

    def __init__(self, conninfo: str, *, max_connections: int = 10, application_name: str = "pgtasks") -> None:
        self.conninfo = _complete(conninfo, application_name)
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pool: ConnectionPool | None = None
        self._async_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncConnectionPool]
        self._async_pools = weakref.WeakKeyDictionary()

    @property
    def is_open(self) -> bool:
        """Whether this process has opened any pool."""
        return self._pid == os.getpid() and (self._pool is not None or len(self._async_pools) > 0)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend an autocommit connection from the pool for blocking code.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pool = self._blocking_pool()
        try:
            connection = pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise explain(self._reason(error), self.conninfo) from error
        try:
            yield connection
        finally:
            pool.putconn(connection)

    @asynccontextmanager
    async def async_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit connection from the running event loop's pool.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pool = await self._async_pool()
        try:
            connection = await pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise explain(await asyncio.to_thread(self._reason, error), self.conninfo) from error
        try:
            yield connection
        finally:
            await pool.putconn(connection)

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

    def close(self) -> None:
        """Close the pool for blocking code; those of event loops are closed by `aclose` in their loop."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.close()

    async def aclose(self) -> None:
        """Close the running event loop's pool."""
        pool = self._async_pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()

    def _blocking_pool(self) -> ConnectionPool:
        self._leave_parents_pools()
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.conninfo,
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=self._max_connections,
                    max_idle=_MAX_IDLE,
                    timeout=_CONNECT_TIMEOUT,
                    reconnect_timeout=_CONNECT_TIMEOUT / 2,
                    name="pgtasks",
                    open=True,
                )
                # Its threads would keep the interpreter waiting at exit.
                atexit.register(self.close)
            return self._pool

    async def _async_pool(self) -> AsyncConnectionPool:
        self._leave_parents_pools()
        loop = asyncio.get_running_loop()
        pool = self._async_pools.get(loop)
        if pool is None:
            pool = self._async_pools[loop] = AsyncConnectionPool(
                self.conninfo,
                kwargs={"autocommit": True},
                min_size=0,
                max_size=self._max_connections,
                max_idle=_MAX_IDLE,
                timeout=_CONNECT_TIMEOUT,
                reconnect_timeout=_CONNECT_TIMEOUT / 2,
                name="pgtasks-async",
                open=False,
            )
            await pool.open()
        return pool

    def _leave_parents_pools(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._pool = None
            self._async_pools = weakref.WeakKeyDictionary()

    def _reason(self, error: Exception) -> Exception:
        # A pool reports only that it ran out of time; one more try on our own says why.
        if isinstance(error, PoolTimeout):
            try:
                psycopg.connect(self.conninfo, connect_timeout=2).close()
            except psycopg.OperationalError as cause:
                return cause
        return error


def _complete(conninfo: str, application_name: str) -> str:
    given = conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {"application_name": application_name, "client_encoding": "utf8"}
    if "application_name" in given or os.environ.get("PGAPPNAME"):
        del defaults["application_name"]
    return make_conninfo(conninfo, **defaults)
