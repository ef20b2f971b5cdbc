"""A worker's link to the database: who it is there, and how it comes back when the database was away."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, TypeVar

import psycopg

from pgtasks.database.errors import is_connection_lost, is_outage, is_undone, reason_of
from pgtasks.logs import get_logger
from pgtasks.worker.timeouts import timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from pgtasks.database import Database, Operation
    from pgtasks.sql import Statements

T = TypeVar("T")
log = get_logger("pgtasks.worker")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two tries; they double from the one to the other."""
_LONGEST_PAUSE_IF_UNDONE = 1.0
"""Likewise at most, while the database is there and a conflict or somebody undoes the statement."""
_FORGET_SECONDS = 30.0
"""How long after its last failure a statement keeps the database from being taken for restored."""
_NO_TURN = contextlib.nullcontext()
_ANY = ""
"""Stands for all statements."""
_QUIET_SECONDS = 60.0
"""How long not to log again that a statement was undone, or refused."""
_HOUSEKEEPING = frozenset(
    {
        "breaking_step",
        "register_tasks",
        "report_progress",
        "restore_names",
        "sweep_cancellations",
        "sweep_results",
        "sweep_stale_locks",
        "unknown_tasks",
    }
)
"""What may wait for long for somebody's lock on a whole table, while nobody waits for it."""


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
    """The database as one worker uses it.

    Args:
        database: the connections.
        statements: what is asked on them.
        worker_id: who asks.
        on_outage: called with the error when the database turns out to be away.

    Two statements run at a time, apart from heartbeats, which wait for nothing, and housekeeping, which has one turn of
    its own.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        worker_id: str,
        on_outage: Callable[..., None] | None = None,
    ) -> None:
        self.database = database
        self._on_outage = on_outage
        self._turns = asyncio.Semaphore(2)
        self._housekeeping = asyncio.Semaphore(1)
        self.statements = statements
        self.worker_id = worker_id
        self._away = False
        self._failed_at: dict[str, float] = {}
        self._answered_at = time.monotonic()
        self._told_at: dict[str, float] = {}

    @property
    def away(self) -> bool:
        """Whether the database could not be used when that was last tried."""
        return self._away

    def seconds_since_answer(self) -> float:
        """Return how long ago it last answered."""
        return time.monotonic() - self._answered_at

    async def attempt(self, operation: Operation[T], within: float | None = None) -> T:
        """Run `operation` once, within the time that this statement may take, or within so many seconds.

        Raises:
            TimeoutError: it took longer.
        """
        began = time.monotonic()
        limit = asyncio.timeout(timeout_of(operation.name) if within is None else within)
        try:
            async with limit, self._turn_of(operation.name):
                result = await self.database.run_async(operation)
        except TimeoutError as error:
            if not limit.expired():
                raise
            failure = self._too_slow(operation.name, began)
            if not _leaves_database(failure):
                await self.database.drain_async()  # no connection that is open need lead anywhere
            raise failure from error
        except Exception as error:
            if is_undone(error):
                self._was_undone(operation.name, error)
            elif is_outage(error):
                self._note_failure(operation.name, error)
            raise
        self._note_answer(operation.name)
        return result

    async def insist(self, operation: Operation[T], unless: Callable[[Exception], bool] | None = None) -> tuple[T, int]:
        """Run `operation`, for ever if need be while the database is away; returns its result and the tries it took.

        Only for operations that may be run again when it is not known whether they were done. An error for which
        `unless` is true is raised.
        """
        away, undone = Backoff(), Backoff(longest=_LONGEST_PAUSE_IF_UNDONE)
        tries = 1
        while True:
            try:
                return await self.attempt(operation), tries
            except Exception as error:
                if not is_outage(error) or (unless is not None and unless(error)):
                    raise
                backoff = undone if _leaves_database(error) else away
            await asyncio.sleep(backoff.next_pause())
            tries += 1

    @contextlib.contextmanager
    def forgiving(self, statement: str, **about: str) -> Iterator[None]:
        """Go on after an error of the database, and log it: what is done here is tried again later in any case."""
        try:
            yield
        except Exception as error:
            if not self.forgives(error, statement, **about):
                raise

    def forgives(self, error: Exception, statement: str, **about: str) -> bool:
        """Whether `error` is one of the database's, not of this program; logs it if the database has refused this."""
        if is_outage(error):
            return True  # which was logged where it was met
        if not isinstance(error, psycopg.Error):
            return False
        if self._is_news(" ".join((statement, *about.values()))):
            log.error("statement_refused", statement=statement, error=reason_of(error), **about)
        return True

    def _turn_of(self, statement: str) -> AbstractAsyncContextManager[None]:
        if statement == "heartbeat":
            return _NO_TURN
        return self._housekeeping if statement in _HOUSEKEEPING else self._turns

    def _note_failure(self, statement: str, error: BaseException) -> None:
        """Note that the database cannot be used, and log it if that is news."""
        # Where there is no session to ask on, any answer tells that there is one again. Otherwise other statements may
        # succeed all the while, as looks do on a disk that is full.
        self._failed_at[_ANY if _concerns_session(error) else statement] = time.monotonic()
        if not self._away:
            self._away = True
            log.warning("database_unavailable", error=reason_of(error))
            if self._on_outage is not None:
                self._on_outage(error=reason_of(error))

    def _note_answer(self, statement: str) -> None:
        """Note that the database can be used, and log it if that is news."""
        self._answered_at = time.monotonic()
        if self._away:
            forgotten = self._answered_at - _FORGET_SECONDS  # a statement that is tried rarely, or never again
            self._failed_at = {
                name: at for name, at in self._failed_at.items() if name not in (_ANY, statement) and at > forgotten
            }
            if not self._failed_at:
                self._away = False
                log.info("database_restored")

    def _too_slow(self, statement: str, began: float) -> TimeoutError:
        """Return the error of a statement that has reached its limit, and log it if only this one is so slow."""
        words = f"{statement} was given up after {time.monotonic() - began:.0f} s without an answer"
        if self._answered_at < began:
            silence = TimeoutError(words)
            self._note_failure(statement, silence)
            return silence
        error = _UndoneError(words)
        self._was_undone(statement, error)
        return error

    def _was_undone(self, statement: str, error: BaseException) -> None:
        if self._is_news(statement):
            log.warning("statement_undone", statement=statement, error=reason_of(error))

    def _is_news(self, statement: str) -> bool:
        now = time.monotonic()
        if now - self._told_at.get(statement, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._told_at[statement] = now
        return True


def took_too_long(error: BaseException) -> bool:
    """Whether a statement was cut off, by its own limit or by one of the server's, so that a smaller one may do."""
    return isinstance(error, _UndoneError | psycopg.errors.QueryCanceled)


class _UndoneError(TimeoutError):
    """A statement took longer than it may, while others did not."""


def _concerns_session(error: BaseException) -> bool:
    """Whether `error` has to do with the connection, and not with what was asked on it."""
    return not isinstance(error, psycopg.Error) or is_connection_lost(error)


def _leaves_database(error: BaseException) -> bool:
    """Whether `error` concerns one statement, and was logged as such."""
    return is_undone(error) or isinstance(error, _UndoneError)
