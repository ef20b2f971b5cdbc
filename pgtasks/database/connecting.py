"""How connections are made: what they say of themselves, how they notice a dead server, what a pooler changes."""

from __future__ import annotations

import asyncio
import os
from typing import Any, ClassVar, Final, cast

from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool

CONNECT_TIMEOUT: Final = 10
"""Seconds to wait for a server, unless the conninfo or `PGCONNECT_TIMEOUT` says otherwise."""

_KEEPALIVES: Final = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""A server that has gone without a word is noticed within a minute, also by blocking code that waits for its answer.
The system's own limits are hours. Connections through a local socket have none and need none."""

_BACKEND_PID: Final = "select pg_backend_pid()"


def complete_conninfo(conninfo: str, application_name: str) -> str:
    """Return a conninfo with what we add to it where the user has said nothing.

    Where it names several hosts, the one that takes writes is looked for: after a failover it is another one.

    >>> complete_conninfo("host=db1,db2 connect_timeout=3 keepalives=0", "x")
    'connect_timeout=3 host=db1,db2 keepalives=0 fallback_application_name=x client_encoding=utf8 \
target_session_attrs=read-write'
    """
    given = conninfo_to_dict(conninfo)
    defaults: dict[str, Any] = {"fallback_application_name": application_name, "client_encoding": "utf8"}
    if "connect_timeout" not in given and not os.environ.get("PGCONNECT_TIMEOUT"):
        defaults["connect_timeout"] = CONNECT_TIMEOUT
    # What stands in a service file is not seen here, and must not be overruled.
    if "service" not in given and not os.environ.get("PGSERVICE"):
        if "keepalives" not in given:
            defaults |= {name: value for name, value in _KEEPALIVES.items() if name not in given}
        if "target_session_attrs" not in given and not os.environ.get("PGTARGETSESSIONATTRS") and _several(given):
            defaults["target_session_attrs"] = "read-write"
    return make_conninfo(conninfo, **defaults)


def suit_pooler(connection: Connection[Any]) -> None:
    """Prepare no statements on a connection that goes through a pooler such as PgBouncer.

    In transaction mode each transaction may meet another session of the server, which does not know what was prepared
    in the last one. A pooler gives away that it is there: the session's process is not the one it was announced as.
    """
    if is_pooled_blocking(connection):
        connection.prepare_threshold = None


async def suit_pooler_async(connection: AsyncConnection[Any]) -> None:
    """Do what `suit_pooler` does, for an asyncio connection."""
    if await is_pooled(connection):
        connection.prepare_threshold = None


def is_pooled_blocking(connection: Connection[Any]) -> bool:
    """Ask whether a connection of blocking code goes through a pooler."""
    return _is_pooled(connection, connection.execute(_BACKEND_PID).fetchone())


async def is_pooled(connection: AsyncConnection[Any]) -> bool:
    """Ask whether a connection goes through a pooler."""
    row = await (await connection.execute(_BACKEND_PID)).fetchone()
    return _is_pooled(connection, row)


class PooledConnection(Connection[Any]):
    """A connection of one of our pools."""

    pgtasks_pool: ClassVar = True
    """By which its records in the log are known for ours."""


class AsyncPooledConnection(AsyncConnection[Any]):
    """An asyncio connection of one of our pools."""

    pgtasks_pool: ClassVar = True


class CancellablePool(AsyncConnectionPool[AsyncPooledConnection]):
    """psycopg's pool, whose workers end when their event loop does.

    A worker takes a cancellation that hits it while it connects for a failed attempt, and waits for its next task. At
    the end of `asyncio.run`, which cancels each task once and then waits for all of them, that would be for ever.
    """

    @classmethod
    async def worker(cls, q: Any) -> None:
        """Execute the pool's background tasks."""
        await super().worker(cast("Any", _UntilCancelled(q)))


class _UntilCancelled:
    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue

    async def get(self) -> Any:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return await self._queue.get()


def _is_pooled(connection: Connection[Any] | AsyncConnection[Any], row: Any) -> bool:
    return row is not None and row[0] != connection.info.backend_pid


def _several(given: dict[str, Any]) -> bool:
    hosts = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or os.environ.get("PGHOSTADDR") or ""
    return "," in str(hosts)
