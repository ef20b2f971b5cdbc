"""One SQL statement with its parameters and its decoder, and the two ways to run it.

The queue's methods say *what* to ask the database, as an `Operation`; whether a blocking or an asyncio connection asks
is the caller's choice. So no method exists twice.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, LiteralString, TypeVar

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.rows import tuple_row

from pgtasks.database.adapt import ADAPTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg.adapt import AdaptersMap

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """A statement that is ready to run."""

    name: str
    """Name of the statement's file, for logs and timeouts."""
    query: LiteralString
    """The statement, rendered for a schema, with `$1` placeholders."""
    parameters: Sequence[Any]
    decode: Callable[[list[Row]], T]
    """Makes the result of all the rows."""
    adapters: AdaptersMap = ADAPTERS
    """How the rows are read."""


def run(connection: Connection[Any], operation: Operation[T]) -> T:
    """Run `operation` on a blocking connection, within whatever transaction is open there."""
    with _Cursor(connection, row_factory=tuple_row) as cursor:
        cursor.read_with = operation.adapters
        cursor.execute(operation.query, operation.parameters, binary=True)
        return operation.decode(cursor.fetchall())


def run_within(connection: Connection[Any], operation: Operation[T], seconds: float | None) -> T:
    """Run `operation` in a transaction of its own, in which a statement may take so many seconds.

    The limit is the transaction's, since a pooler may give the session to somebody else afterwards.
    """
    with transaction_with(connection, statement_timeout=f"{0 if seconds is None else seconds * 1000:.0f}ms"):
        return run(connection, operation)


@contextmanager
def transaction_with(connection: Connection[Any], **settings: str) -> Iterator[None]:
    """Open a transaction in which some of the server's settings are others, such as `statement_timeout`."""
    with connection.transaction(), RawCursor(connection) as cursor:
        cursor.execute(
            "select pg_catalog.set_config(setting.name, setting.value, true) "
            "from unnest($1::text[], $2::text[]) as setting (name, value)",
            (list(settings), list(settings.values())),
        )
        yield


async def run_async(connection: AsyncConnection[Any], operation: Operation[T]) -> T:
    """Run `operation` on an asyncio connection, within whatever transaction is open there."""
    async with _AsyncCursor(connection, row_factory=tuple_row) as cursor:
        cursor.read_with = operation.adapters
        await cursor.execute(operation.query, operation.parameters, binary=True)
        return operation.decode(await cursor.fetchall())


class _Cursor(RawCursor[Row]):
    read_with = ADAPTERS

    @property
    def adapters(self) -> AdaptersMap:
        return self.read_with


class _AsyncCursor(AsyncRawCursor[Row]):
    read_with = ADAPTERS

    @property
    def adapters(self) -> AdaptersMap:
        return self.read_with
