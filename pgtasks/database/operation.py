"""One SQL statement with its parameters and its decoder, and the two ways to run it.

The queue's methods say *what* to ask the database, as an `Operation`; whether a blocking or an asyncio connection asks
is the caller's choice. So no method exists twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, LiteralString, TypeVar

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.rows import tuple_row

from pgtasks.database.adapt import register_loaders

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def run(connection: Connection[Any], operation: Operation[T]) -> T:
    """Run `operation` on a blocking connection, within whatever transaction is open there."""
    with RawCursor(connection, row_factory=tuple_row) as cursor:
        register_loaders(cursor)
        cursor.execute(operation.query, operation.parameters)
        return operation.decode(cursor.fetchall())


async def run_async(connection: AsyncConnection[Any], operation: Operation[T]) -> T:
    """Run `operation` on an asyncio connection, within whatever transaction is open there."""
    async with AsyncRawCursor(connection, row_factory=tuple_row) as cursor:
        register_loaders(cursor)
        await cursor.execute(operation.query, operation.parameters)
        return operation.decode(await cursor.fetchall())
