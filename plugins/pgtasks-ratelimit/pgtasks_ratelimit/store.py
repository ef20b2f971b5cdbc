"""The database's side: leases, and limits that were set at run time."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from pgtasks_ratelimit.rules import Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.plugins import Application

LIFETIME: Final = 2.0
"""Seconds after which leased tokens count as used, whatever has become of the process."""

_EXCHANGE: Final = """
    select bucket, granted, starts_in, wait, limit_tokens, limit_period, limit_burst, limit_running
    from {schema}._pgtasks_ratelimit_exchange(
      %s::text, %s::bigint, %s::float8, %s::text[], %s::text[], %s::int[], %s::float8[], %s::int[], %s::int[],
      %s::bigint[], %s::int[], %s::float8[], %s::int[], %s::int[], %s::float8[]
    )
"""
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return a time in seconds that goes on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Request:
    """What a process reports and wants of one bucket."""

    key: str
    limit: Limit
    """What the process knows of it; the database may know better."""
    lease: int
    """The lease that the process knows of."""
    used: int
    """How many of its tokens were used."""
    used_at: float
    """When the last of them was, by `now`."""
    busy: int
    """How many of the process's jobs that count for it run."""
    wanted: int
    ahead: float = 0.0
    """If there is no token, how many seconds before it comes in one may be had."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a `Request`."""

    key: str
    granted: int
    starts_in: float
    """Seconds until what was granted may be used."""
    wait: float
    """Seconds until the next token comes in."""
    limit: Limit
    """As it is now."""


class Store:
    """What one process asks the database, as `holder`."""

    def __init__(self, app: Application, holder: str) -> None:
        schema = sql.Identifier(app.schema)
        self._app = app
        self._holder = holder
        self._exchange = sql.SQL(_EXCHANGE).format(schema=schema)
        self._limits = sql.SQL(
            "select name, tokens, period, burst, max_running from {schema}._pgtasks_ratelimit_limits"
        ).format(schema=schema)
        self._mine = sql.SQL("select id from {schema}.jobs where id = any(%s::bigint[]) and locked_by = %s").format(
            schema=schema
        )
        self.statements = 0
        """How many were sent."""

    async def exchange(self, requests: Sequence[Request]) -> tuple[int, list[Grant]]:
        """Report and take; returns the number of the new leases, and what was granted."""
        lease = random.getrandbits(62)
        sent = now()
        parameters = (
            self._holder,
            lease,
            LIFETIME,
            [one.key for one in requests],
            [one.limit.name for one in requests],
            [one.limit.tokens for one in requests],
            [one.limit.period for one in requests],
            [one.limit.burst for one in requests],
            [one.limit.max_running for one in requests],
            [one.lease for one in requests],
            [one.used for one in requests],
            [sent - one.used_at if one.used else 0.0 for one in requests],
            [one.busy for one in requests],
            [one.wanted for one in requests],
            [one.ahead for one in requests],
        )
        rows = await self._fetch(self._exchange, parameters)
        names = {one.key: one.limit.name for one in requests}
        return lease, [Grant(row[0], row[1], row[2], row[3], Limit(names[row[0]], *row[4:])) for row in rows]

    async def limits(self) -> list[Limit]:
        """Return the limits that were set at run time."""
        return [Limit(*row) for row in await self._fetch(self._limits, ())]

    async def held(self, ids: Sequence[int]) -> set[int]:
        """Return which of some jobs are still this process's."""
        return {row[0] for row in await self._fetch(self._mine, (list(ids), self._holder))}

    async def _fetch(self, query: sql.Composed, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self.statements += 1
        async with self._app.async_connection() as connection:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall()
