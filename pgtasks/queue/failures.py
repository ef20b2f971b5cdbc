"""What an error means that a statement on the queue has raised."""

from __future__ import annotations

from typing import NoReturn

import psycopg
from psycopg import errors as pg

from pgtasks.database import explain
from pgtasks.database.errors import is_connection_lost, reason_of
from pgtasks.errors import DatabaseUnavailableError, JobOptionError, SchemaPendingError
from pgtasks.settings import redact


def raise_better(error: psycopg.Error, *, schema: str, conninfo: str, pooled: bool, doing: str) -> NoReturn:
    """Raise what says more than psycopg's error, or that error itself if there is nothing to add.

    Args:
        error: what psycopg has raised.
        schema: name of the queue's schema.
        conninfo: of the application's database.
        pooled: whether the connection is one of ours: what becomes of the caller's is the caller's business.
        doing: what was being done, such as `add_jobs`.
    """
    if isinstance(error, pg.InvalidSchemaName | pg.UndefinedFunction | pg.UndefinedTable):
        reason = error.diag.message_primary or ""
        lacks = "is not that of this release" if "_pgtasks_" in reason else "holds no queue"
        raise SchemaPendingError(
            f"the schema {schema!r} {lacks}: run `pgtasks migrate`, or start a worker ({reason})"
        ) from error
    if isinstance(error, pg.InsufficientPrivilege):
        raise explain(error, conninfo) from error
    if isinstance(error, pg.InvalidTransactionState):  # raised by our own function
        raise JobOptionError(str(error.diag.message_primary)) from error
    if not pooled and isinstance(error, pg.ReadOnlySqlTransaction):
        raise JobOptionError(
            f"the given connection's transaction cannot write ({error.diag.message_primary}): give one that can, "
            "to the primary server"
        ) from error
    if pooled and is_connection_lost(error):
        raise DatabaseUnavailableError(
            f"the connection to {redact(conninfo)} was lost during {doing}; "
            f"it is not known whether that was done ({reason_of(error)})"
        ) from error
    raise error
