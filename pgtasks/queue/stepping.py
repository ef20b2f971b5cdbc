"""How a step is taken: in a transaction of its own, under the lock of all who migrate, and with plain errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pgtasks.errors import DatabaseUnavailableError, PgtasksError
from pgtasks.queue.installed import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_SERVER = 130000
"""`server_version_num` of the oldest PostgreSQL that will do."""


def check_connection(conn: psycopg.Connection[Any]) -> None:
    """Raise a `PgtasksError` if a connection is in a transaction, gives no texts, or is to a server that is too old."""
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise PgtasksError(
            "The schema is migrated and checked in transactions of its own: "
            "pass a connection that is not inside one (or commit first)."
        )
    if conn.info.encoding == "ascii":
        raise PgtasksError(
            "With the client_encoding SQL_ASCII, psycopg gives bytes for texts: pass a connection with "
            "client_encoding=utf8."
        )
    refuse_old_server(conn)


def refuse_old_server(conn: psycopg.Connection[Any]) -> None:
    """Raise a `PgtasksError` if the server is too old for pgtasks."""
    if conn.info.server_version < OLDEST_SERVER:
        version = conn.info.parameter_status("server_version")
        raise PgtasksError(f"PostgreSQL {version} is too old: pgtasks needs 13 or later.")


@contextmanager
def plain_errors(conn: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    """Turn what the server says about privileges, standbys and lost connections into one line each."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise PgtasksError(
            f"Role {conn.info.user!r} lacks a privilege on schema {schema!r} of database {conn.info.dbname!r}: "
            f"{error.diag.message_primary}. Use the role that owns the schema; "
            "to create one, it needs CREATE on the database."
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise PgtasksError(
            f"Schema {schema!r} cannot be migrated here: {error.diag.message_primary}. "
            "Is the server a standby, or default_transaction_read_only set?"
        ) from error
    except psycopg.OperationalError as error:
        if not conn.broken:
            raise
        raise DatabaseUnavailableError(
            f"The connection was lost while schema {schema!r} was migrated: {str(error).strip().splitlines()[0]}. "
            "Run it again; it goes on where it stopped."
        ) from error


@contextmanager
def transaction(conn: psycopg.Connection[Any], mode: str = "read write") -> Iterator[None]:
    """Run a transaction whose isolation does not depend on the caller's settings.

    With REPEATABLE READ the snapshot would date from before the wait for the lock.
    """
    with conn.transaction():
        run_script(conn, f"set transaction isolation level read committed, {mode}")
        yield


def run_script(conn: psycopg.Connection[Any], query: str) -> None:
    """Run any number of statements."""
    # Without parameters, so that it may hold several statements; not by the caller's cursor class.
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), prepare=False)


def lock(conn: psycopg.Connection[Any], schema: str) -> None:
    """Take the lock of all who migrate this schema, until the transaction ends."""
    fetch(conn, "select pg_advisory_xact_lock(hashtextextended('pgtasks migrate ' || $1::text, 0))", schema)


def quoted(schema: str) -> str:
    """Return the schema's name as an identifier."""
    return sql.Identifier(schema).as_string()
