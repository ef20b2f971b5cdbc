"""What callers give as `connection=`, and the psycopg connection that is beneath it.

A job is added in whatever transaction is open on the caller's connection, and that may be held by psycopg itself, by
SQLAlchemy or by Django. Each has an adapter, a module of this package, that returns psycopg's connection and sees to it
that the owner knows of the transaction that begins there. None ever commits, rolls back or closes anything.

Neither the libraries nor the adapters are imported before one is needed: an object is recognised by the names of its
classes. A psycopg connection costs what it costs to look whether it can be used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from pgtasks.connections.types import AsyncConnection, BlockingConnection

__all__ = ["AsyncConnection", "BlockingConnection", "psycopg_connection", "psycopg_connection_async"]

_READY: Final = (TransactionStatus.IDLE, TransactionStatus.INTRANS)
_BLOCKING: Final = {
    "sqlalchemy.Session": "sqlalchemy:of_session",
    "sqlalchemy.scoped_session": "sqlalchemy:of_session",
    "sqlalchemy.Connection": "sqlalchemy:of_connection",
    "django.BaseDatabaseWrapper": "django:of_wrapper",
    "django.ConnectionProxy": "django:of_wrapper",
}
"""Adapters, each as its module and function, by the class that they are for: its package, and its name there."""
_ASYNC: Final = {
    "sqlalchemy.AsyncSession": "sqlalchemy:of_async_session",
    "sqlalchemy.async_scoped_session": "sqlalchemy:of_async_session",
    "sqlalchemy.AsyncConnection": "sqlalchemy:of_async_connection",
}


def psycopg_connection(given: BlockingConnection, *, notify: bool = False) -> psycopg.Connection[Any]:
    """Return the psycopg connection of what a caller of blocking code has given.

    Args:
        given: what it is.
        notify: whether a notification is to be sent there, too.

    Raises:
        JobOptionError: it is no connection of this kind, or cannot be used now. Nothing was sent to the database.
    """
    raw = given if isinstance(given, psycopg.Connection) else _adapted(_BLOCKING, given, notify=notify)
    if raw.pgconn.transaction_status not in _READY:
        _module("usable").wait_until_ready(raw, given)
    return raw


async def psycopg_connection_async(given: AsyncConnection, *, notify: bool = False) -> psycopg.AsyncConnection[Any]:
    """Return the psycopg connection of what a caller of asyncio code has given; raise as `psycopg_connection` does."""
    raw = given if isinstance(given, psycopg.AsyncConnection) else await _adapted(_ASYNC, given, notify=notify)
    if raw.pgconn.transaction_status not in _READY:
        await _module("usable").wait_until_ready_async(raw, given)
    return raw


def _adapted(adapters: dict[str, str], given: object, *, notify: bool) -> Any:
    for kind in type(given).__mro__:
        if (found := adapters.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")) is not None:
            module, _, adapter = found.partition(":")
            return getattr(_module(module), adapter)(given, notify=notify)
    raise _module("refusing").refuse(given, of_asyncio=adapters is _ASYNC)


def _module(name: str) -> Any:
    return import_module(f"pgtasks.connections.{name}")


def __getattr__(name: str) -> Any:
    if name in ("AsyncConnection", "BlockingConnection"):
        return getattr(_module("types"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
