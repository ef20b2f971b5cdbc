"""Why something cannot be given as `connection=`, and what to give instead."""

from __future__ import annotations

import psycopg

from pgtasks.errors import JobOptionError, a_or_an

_INSTEAD = {
    "psycopg.Connection": "it is for blocking code: call the method without `_async`, or give an AsyncConnection",
    "psycopg.AsyncConnection": "it is for asyncio code: await the method with `_async`, or give a Connection",
    "psycopg.Cursor": "give what it is on, `cursor.connection`",
    "psycopg.AsyncCursor": "give what it is on, `cursor.connection`",
    "psycopg_pool.ConnectionPool": "borrow one, `with pool.connection() as connection:`, and give that",
    "psycopg_pool.AsyncConnectionPool": "borrow one, `async with pool.connection() as connection:`, and give that",
    "sqlalchemy.Session": "it is for blocking code: call the method without `_async`, or give an AsyncSession",
    "sqlalchemy.scoped_session": "it is for blocking code: call the method without `_async`, or give an "
    "async_scoped_session",
    "sqlalchemy.Connection": "it is for blocking code: call the method without `_async`, or give an AsyncConnection",
    "sqlalchemy.AsyncSession": "it is for asyncio code: await the method with `_async`, or give a Session",
    "sqlalchemy.async_scoped_session": "it is for asyncio code: await the method with `_async`, or give a "
    "scoped_session",
    "sqlalchemy.AsyncConnection": "it is for asyncio code: await the method with `_async`, or give a Connection",
    "sqlalchemy.Engine": "give the connection or session that writes your data: `with engine.begin() as connection:`",
    "sqlalchemy.AsyncEngine": "give the connection or session that writes your data: "
    "`async with engine.begin() as connection:`",
    "sqlalchemy.sessionmaker": "it makes sessions: call it, and give the session",
    "sqlalchemy.async_sessionmaker": "it makes sessions: call it, and give the session",
    "sqlalchemy.SessionTransaction": "give its `session`",
    "sqlalchemy.Pool": "give the connection or session that writes your data",
    "sqlalchemy.PoolProxiedConnection": "give its `driver_connection`",
    "sqlalchemy.AdaptedConnection": "give its `driver_connection`",
    "sqlalchemy.URL": "it is an address: give an open connection, or leave it out",
    "django.ConnectionProxy": "Django's connections are for blocking code: call the method without `_async`, through "
    "`sync_to_async`",
    "django.BaseDatabaseWrapper": "Django's connections are for blocking code: call the method without `_async`, "
    "through `sync_to_async`",
    "django.BaseConnectionHandler": "it holds several: give one of them, such as `connections['default']`",
    "str": "it is an address: give an open connection, such as `psycopg.connect(…)` returns, or leave it out",
}
_OTHER_DRIVERS = frozenset({"psycopg2", "asyncpg", "aiopg", "pg8000"})

OTHER_DRIVER = (
    "pgtasks speaks psycopg 3 only: use that{way}, or call the SQL function add_job on it, which takes part in its "
    "transaction"
)
"""What to do about a connection of another PostgreSQL driver, to which no job can be added from here."""


def described(given: object) -> str:
    """Return by which name people know the class of what was given."""
    return _name(type(given))


def refuse(given: object, *, of_asyncio: bool) -> JobOptionError:
    """Return the error that says why this is no connection here, and what to give."""
    for kind in type(given).__mro__:
        if (instead := _INSTEAD.get(_name(kind))) is not None:
            return refusal(given, instead)
    if type(given).__module__.partition(".")[0] in _OTHER_DRIVERS:
        return refusal(given, OTHER_DRIVER.format(way=""))
    psycopgs = psycopg.AsyncConnection if of_asyncio else psycopg.Connection
    others = "AsyncSession or AsyncConnection" if of_asyncio else "Session or Connection, or a connection of Django's"
    return refusal(given, f"give a psycopg.{psycopgs.__name__}, an SQLAlchemy {others}, or leave it out")


def refusal(given: object, instead: str) -> JobOptionError:
    """Return an error about what was given. Its value is not shown, which may hold a password."""
    return JobOptionError(f"connection cannot be {a_or_an(described(given))} here: {instead}")


def _name(kind: type) -> str:
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}.{kind.__qualname__}"
