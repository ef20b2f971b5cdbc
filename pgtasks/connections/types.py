"""The types of what can be given as `connection=`, for type checkers.

Those of SQLAlchemy and Django are protocols, since a name that cannot be imported is `Any` to a type checker, which
would then let everything pass where the library is not installed. They say what tells the classes apart, and no more:
a Session gives a connection at once, an AsyncSession something to await.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import psycopg

if TYPE_CHECKING:
    from collections.abc import Coroutine


class SQLAlchemyConnection(Protocol):
    """`sqlalchemy.Connection`."""

    @property
    def connection(self) -> Any:
        """What the pool has lent."""

    def invalidate(self) -> None:
        """Let the pool forget the connection."""

    def begin_twophase(self) -> Any:
        """Begin a transaction of two phases."""


class SQLAlchemySession(Protocol):
    """`sqlalchemy.orm.Session` and `scoped_session`."""

    def connection(self) -> SQLAlchemyConnection:
        """Return the connection, in the session's transaction."""

    def get_bind(self) -> Any:
        """Return the engine."""


class SQLAlchemyAsyncConnection(Protocol):
    """`sqlalchemy.ext.asyncio.AsyncConnection`."""

    def get_raw_connection(self) -> Coroutine[Any, Any, Any]:
        """Return what the pool has lent."""

    def invalidate(self) -> Coroutine[Any, Any, None]:
        """Let the pool forget the connection."""


class SQLAlchemyAsyncSession(Protocol):
    """`sqlalchemy.ext.asyncio.AsyncSession` and `async_scoped_session`."""

    def connection(self) -> Coroutine[Any, Any, SQLAlchemyAsyncConnection]:
        """Return the connection, in the session's transaction."""

    def get_bind(self) -> Any:
        """Return the engine."""


class DjangoConnection(Protocol):
    """`django.db.connection`, and what `django.db.connections` holds."""

    @property
    def connection(self) -> Any:
        """The driver's connection, or None before it is first used."""

    @property
    def alias(self) -> Any:
        """The name in `DATABASES`."""

    def ensure_connection(self) -> None:
        """Connect."""


BlockingConnection = psycopg.Connection[Any] | SQLAlchemySession | SQLAlchemyConnection | DjangoConnection
"""What blocking code can give as `connection=`."""

AsyncConnection = psycopg.AsyncConnection[Any] | SQLAlchemyAsyncSession | SQLAlchemyAsyncConnection
"""What asyncio code can give as `connection=`."""
