"""A worker's link to the database: who it is there, and how it comes back when the database was away."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from pgtasks.database.errors import is_outage, reason_of
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from pgtasks.database import Database, Operation
    from pgtasks.sql import Statements

T = TypeVar("T")
log = get_logger("pgtasks.worker")

_STATEMENT_TIMEOUT = 30.0
"""Seconds after which a statement of the worker's own is given up, and tried again where it can be."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two tries; they double from the one to the other."""


class Backoff:
    """Growing pauses between tries, with jitter, so that a returning database is not met by all at once."""

    def __init__(self, shortest: float = _SHORTEST_PAUSE, longest: float = _LONGEST_PAUSE) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def next_pause(self) -> float:
        """Return how many seconds to wait before the next try."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._next = min(self._longest, self._next * 2)
        return pause

    def reset(self) -> None:
        """Start again from the shortest pause, after a success."""
        self._next = self._shortest


class DatabaseLink:
    """The database as one worker uses it."""

    def __init__(self, database: Database, statements: Statements, worker_id: str) -> None:
        self.database = database
        self.statements = statements
        self.worker_id = worker_id
        self._away = False

    async def attempt(self, operation: Operation[T]) -> T:
        """Run `operation` once, within the time that a statement may take."""
        async with asyncio.timeout(_STATEMENT_TIMEOUT):
            result = await self.database.run_async(operation)
        self.is_back()
        return result

    async def insist(self, operation: Operation[T]) -> tuple[T, int]:
        """Run `operation`, for ever if need be while the database is away; returns its result and the tries it took.

        Only for operations that may be run again when it is not known whether they were done.
        """
        backoff = Backoff()
        tries = 1
        while True:
            try:
                return await self.attempt(operation), tries
            except Exception as error:
                if not is_outage(error):
                    raise
                self.is_away(error)
            await asyncio.sleep(backoff.next_pause())
            tries += 1

    def is_away(self, error: BaseException) -> None:
        """Note that the database cannot be used, and log it if that is news."""
        if not self._away:
            self._away = True
            log.warning("database_unavailable", error=reason_of(error))

    def is_back(self) -> None:
        """Note that the database can be used, and log it if that is news."""
        if self._away:
            self._away = False
            log.info("database_restored")
