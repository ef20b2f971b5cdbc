"""Connections: one pool for blocking code, one for each event loop, opened when first used.

A pool is a stack of idle connections and a number of slots. It has no threads and no tasks: whoever finds no idle
connection makes one, in the caller's own time, and so gets the server's own answer at once when there is none to be
had. `psycopg_pool` was tried and left. It connects in the background, so that a refused password becomes a timeout
after many seconds; its asyncio pool takes a cancellation that hits it while it connects for a failed attempt, and
`asyncio.run` then waits for it for ever; and its threads do not survive a fork.

A pool belongs to the process that opened it. After a fork the child opens its own; it never closes its parent's, whose
sockets it shares.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
import weakref
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from pgtasks.database.errors import explain
from pgtasks.database.operation import Operation, run, run_async
from pgtasks.errors import DatabaseUnavailableError
from pgtasks.settings import redact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

T = TypeVar("T")
C = TypeVar("C", psycopg.Connection[Any], psycopg.AsyncConnection[Any])

_CONNECT_TIMEOUT = 10
"""Seconds to wait for a server, unless the conninfo or `PGCONNECT_TIMEOUT` says otherwise."""
_WAIT_TIMEOUT = 10.0
"""Seconds to wait for a connection while all that may be opened are in use."""
_MAX_IDLE = 60.0
"""Seconds after which a connection that nobody used is not used any more."""


class Database:
    """The database of one application, by its conninfo.

    Args:
        conninfo: libpq connection string or URL; an empty one leaves all to libpq's own environment variables.
        max_connections: how many connections a pool may hold.
        application_name: shown in `pg_stat_activity`, unless the user has named one in any of libpq's ways.
    """

    def __init__(self, conninfo: str, *, max_connections: int = 10, application_name: str = "pgtasks") -> None:
        self.conninfo = _complete(conninfo, application_name)
        self._max_connections = max_connections
        # By process, so that a forked child keeps its parent's pools alive and unused. Entries are made and removed by
        # single operations on the dicts, and no lock has to survive a fork.
        self._blocking: dict[int, _BlockingPool] = {}
        self._loops: dict[asyncio.AbstractEventLoop, _LoopPool] = {}
        weakref.finalize(self, _close_all, self._blocking, self._loops)

    @property
    def is_open(self) -> bool:
        """Whether this process has opened any pool."""
        pools: list[_Pool[Any]] = [*self._blocking.values(), *self._loops.values()]
        return any(pool.is_ours for pool in pools)

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend an autocommit connection from the pool for blocking code.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pid = os.getpid()
        pool = self._blocking.get(pid) or self._blocking.setdefault(pid, _BlockingPool(self._max_connections))
        if not pool.slots.acquire(timeout=_WAIT_TIMEOUT):
            raise self._all_in_use()
        try:
            connection = pool.take() or self._connect()
            try:
                yield connection
            finally:
                pool.give(connection)
        finally:
            pool.slots.release()

    @asynccontextmanager
    async def async_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit connection from the running event loop's pool.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        pool = await self._loop_pool()
        try:
            async with asyncio.timeout(_WAIT_TIMEOUT if pool.slots.locked() else None):
                await pool.slots.acquire()
        except TimeoutError:
            raise self._all_in_use() from None
        try:
            connection = pool.take() or await self._connect_async()
            try:
                yield connection
            finally:
                pool.give(connection)
        finally:
            pool.slots.release()

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
        pool = self._blocking.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    async def aclose(self) -> None:
        """Close the running event loop's pool. The end of `asyncio.run` does so too."""
        pool = self._loops.get(asyncio.get_running_loop())
        if pool is not None and pool.guard is not None:
            await pool.guard.aclose()

    async def _loop_pool(self) -> _LoopPool:
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None or not pool.is_ours:
            self._close_dead_loops()
            pool = self._loops[loop] = _LoopPool(self._max_connections)
            pool.guard = _close_with_loop(self._loops, loop, pool)
            await anext(pool.guard)
        return pool

    def _close_dead_loops(self) -> None:
        for loop, pool in tuple(self._loops.items()):
            if loop.is_closed() and pool.is_ours:
                self._loops.pop(loop, None)
                pool.close()

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(self.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            raise explain(error, self.conninfo) from error

    async def _connect_async(self) -> psycopg.AsyncConnection[Any]:
        try:
            return await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            raise explain(error, self.conninfo) from error

    def _all_in_use(self) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(
            f"all {self._max_connections} connections to {redact(self.conninfo)} that may be open here have been in "
            f"use for {_WAIT_TIMEOUT:g} s: raise `pool_max_size`, or hold them for less long"
        )


class _Pool(Generic[C]):
    """The idle connections of a process or of an event loop; the one that was used last is used next."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: deque[tuple[float, C]] = deque()
        self._closed = False

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not the one that it was forked from."""
        return self._pid == os.getpid()

    def take(self) -> C | None:
        """Return an idle connection whose server is still there, or None."""
        with self._lock:
            self._drop_expired()
            while self._idle:
                _, connection = self._idle.pop()
                if _is_alive(connection):
                    return connection
                _finish(connection)
        return None

    def give(self, connection: C) -> None:
        """Take back a connection, unless it was left in a state that would surprise whoever gets it next."""
        with self._lock:
            if not self.is_ours:
                # Forked while it was lent: kept, so that it is not closed under the parent.
                self._idle.append((0.0, connection))
                return
            self._drop_expired()
            clean = connection.pgconn.transaction_status == TransactionStatus.IDLE and connection.autocommit
            if clean and not self._closed:
                self._idle.append((time.monotonic(), connection))
            else:
                _finish(connection)

    def close(self) -> None:
        """Close the connections, those in use as soon as they come back."""
        if not self.is_ours:
            return
        with self._lock:
            self._closed = True
            while self._idle:
                _finish(self._idle.pop()[1])

    def _drop_expired(self) -> None:
        oldest = time.monotonic() - _MAX_IDLE
        while self._idle and self._idle[0][0] < oldest:
            _finish(self._idle.popleft()[1])


class _BlockingPool(_Pool[psycopg.Connection[Any]]):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.slots = threading.Semaphore(size)


class _LoopPool(_Pool[psycopg.AsyncConnection[Any]]):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.slots = asyncio.Semaphore(size)
        self.guard: AsyncGenerator[None] | None = None


async def _close_with_loop(
    pools: dict[asyncio.AbstractEventLoop, _LoopPool], loop: asyncio.AbstractEventLoop, pool: _LoopPool
) -> AsyncGenerator[None]:
    # asyncio ends suspended generators when it shuts a loop down, which is the only word of it that can be had: a task
    # would be reported as never finished where somebody closes a loop without ceremony.
    try:
        yield
    finally:
        pools.pop(loop, None)
        pool.close()


def _close_all(blocking: dict[int, _BlockingPool], loops: dict[asyncio.AbstractEventLoop, _LoopPool]) -> None:
    pools: list[_Pool[Any]] = [*blocking.values(), *loops.values()]
    for pool in pools:
        pool.close()


def _is_alive(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server still holds an idle connection; costs a system call, not a round trip.

    A server that ends a session says so or closes it, and either can be read. A notice that somebody let it send is
    taken for the same, which costs a new connection.
    """
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _finish(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    connection.pgconn.finish()


def _complete(conninfo: str, application_name: str) -> str:
    given = conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {"fallback_application_name": application_name, "client_encoding": "utf8"}
    if "connect_timeout" not in given and not os.environ.get("PGCONNECT_TIMEOUT"):
        defaults["connect_timeout"] = _CONNECT_TIMEOUT
    return make_conninfo(conninfo, **defaults)
