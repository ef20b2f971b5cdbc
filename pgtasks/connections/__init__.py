"""What callers give as `connection=`, and the psycopg connection that is beneath it.

A job is added in whatever transaction is open on the caller's connection, and that may be held by psycopg itself, by
SQLAlchemy or by Django. Each has an adapter, a module of this package, that returns psycopg's connection and sees to it
that the owner knows of the transaction that begins there. None ever commits, rolls back or closes anything.

The libraries are not imported here, and nobody needs them: an object is recognised by the names of its classes. None
costs nothing, and a psycopg connection what it costs to look whether it can be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.connections import django, sqlalchemy
from pgtasks.connections.refusing import refuse
from pgtasks.connections.types import AsyncConnection, BlockingConnection
from pgtasks.connections.usable import check_usable, check_usable_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["AsyncConnection", "BlockingConnection", "psycopg_connection", "psycopg_connection_async"]

_BLOCKING: dict[str, Callable[..., psycopg.Connection[Any]]] = {**sqlalchemy.BLOCKING, **django.BLOCKING}
_ASYNC: dict[str, Callable[..., Awaitable[psycopg.AsyncConnection[Any]]]] = {**sqlalchemy.ASYNC}
"""Adapters by the class they are for: its package, and its name there."""


def psycopg_connection(given: BlockingConnection, *, notify: bool = False) -> psycopg.Connection[Any]:
    """Return the psycopg connection of what a caller of blocking code has given.

    Args:
        given: what it is.
        notify: whether a notification is to be sent there, too.

    Raises:
        JobOptionError: it is no connection of this kind, or cannot be used now. Nothing was sent to the database.
    """
    if isinstance(given, psycopg.Connection):
        raw = given
    elif (adapter := _find(_BLOCKING, given)) is not None:
        raw = adapter(given, notify=notify)
    else:
        raise refuse(given, of_asyncio=False)
    check_usable(raw, given)
    return raw


async def psycopg_connection_async(given: AsyncConnection, *, notify: bool = False) -> psycopg.AsyncConnection[Any]:
    """Return the psycopg connection of what a caller of asyncio code has given; raise as `psycopg_connection` does."""
    if isinstance(given, psycopg.AsyncConnection):
        raw = given
    elif (adapter := _find(_ASYNC, given)) is not None:
        raw = await adapter(given, notify=notify)
    else:
        raise refuse(given, of_asyncio=True)
    await check_usable_async(raw, given)
    return raw


def _find(adapters: dict[str, Callable[..., Any]], given: object) -> Callable[..., Any] | None:
    for kind in type(given).__mro__:
        if (found := adapters.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")) is not None:
            return found
    return None
