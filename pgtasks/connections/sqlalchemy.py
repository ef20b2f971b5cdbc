"""SQLAlchemy's sessions and connections, of the dialect `postgresql+psycopg`.

SQLAlchemy sends COMMIT only if it knows of a transaction, and what happens below it, it does not see. So one is begun
in its own terms, as any statement does by "autobegin" (https://docs.sqlalchemy.org/20/core/connections.html). The
events of its engine are not called for our statements.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgtasks.connections.refusing import OTHER_DRIVER, described, refusal
from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


def of_session(session: Any, *, notify: bool) -> psycopg.Connection[Any]:
    """Return the connection of a Session, or of a `scoped_session`."""
    with _explained(session):
        _check_dialect(session, session.get_bind().dialect, asynchronous=False)
        return _lent(session.connection(), notify=notify)


def of_connection(connection: Any, *, notify: bool) -> psycopg.Connection[Any]:
    """Return the connection that is below a Connection."""
    with _explained(connection):
        _check_dialect(connection, connection.dialect, asynchronous=False)
        return _lent(connection, notify=notify)


async def of_async_session(session: Any, *, notify: bool) -> psycopg.AsyncConnection[Any]:
    """Return the connection of an AsyncSession, or of an `async_scoped_session`."""
    with _explained(session):
        _check_dialect(session, session.get_bind().dialect, asynchronous=True)
        return await _lent_async(await session.connection(), notify=notify)


async def of_async_connection(connection: Any, *, notify: bool) -> psycopg.AsyncConnection[Any]:
    """Return the connection that is below an AsyncConnection."""
    with _explained(connection):
        _check_dialect(connection, connection.dialect, asynchronous=True)
        return await _lent_async(connection, notify=notify)


@contextmanager
def _explained(given: object) -> Iterator[None]:
    errors = sys.modules["sqlalchemy.exc"]
    try:
        yield
    except errors.UnboundExecutionError as error:
        raise refusal(
            given,
            "it has no database by default: give `session.connection(bind_arguments=…)`, the connection to the one "
            f"that the jobs go to ({error.args[0]})",
        ) from error
    except errors.InvalidRequestError as error:
        # It is closed, or its transaction has failed or ends just now: SQLAlchemy says which, and what to do.
        raise JobOptionError(f"the given {described(given)} takes no jobs now: {error.args[0]}") from error


def _check_dialect(given: object, dialect: Any, *, asynchronous: bool) -> None:
    """Raise `JobOptionError` unless the dialect gives psycopg connections of this kind. Nothing is connected for it."""
    name = f"{dialect.name}+{dialect.driver}"
    if dialect.driver not in ("psycopg", "psycopg_async"):
        if dialect.name != "postgresql":
            raise refusal(given, f"it is on {name}, and jobs are added to PostgreSQL: leave it out")
        raise refusal(
            given, f"it is on {name}: {OTHER_DRIVER.format(way=', by a URL that begins with postgresql+psycopg://')}"
        )
    if dialect.is_async and not asynchronous:
        raise refusal(
            given,
            "it belongs to an asyncio engine: give the AsyncSession or AsyncConnection that it is part of, to the "
            "method with `_async`",
        )


def _check_phases(connection: Any, *, notify: bool) -> None:
    # PostgreSQL would refuse to prepare it at the end, and SQLAlchemy raises something else then.
    if notify and isinstance(connection.get_transaction(), sys.modules["sqlalchemy.engine"].TwoPhaseTransaction):
        raise JobOptionError(
            "PostgreSQL allows no notification in a transaction of two phases: pass notify=False, and workers find the "
            "job when they next look by themselves"
        )


def _lent(connection: Any, *, notify: bool) -> psycopg.Connection[Any]:
    lent = connection.connection  # first, since this raises if the connection is closed or was invalidated
    if not connection.in_transaction():
        connection.begin()
    _check_phases(connection, notify=notify)
    raw: psycopg.Connection[Any] = lent.driver_connection
    return raw


async def _lent_async(connection: Any, *, notify: bool) -> psycopg.AsyncConnection[Any]:
    lent = await connection.get_raw_connection()
    if not connection.in_transaction():
        await connection.begin()
    _check_phases(connection.sync_connection, notify=notify)
    raw: psycopg.AsyncConnection[Any] = lent.driver_connection
    return raw
