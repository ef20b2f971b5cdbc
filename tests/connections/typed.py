# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers have to say of `connection=`; nothing is run. A wrong call without a complaint is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks import task

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session


@task
def send(payload: int) -> None: ...


def right(
    raw: psycopg.Connection[Any],
    connection: Connection,
    session: Session,
    scoped: scoped_session[Session],
) -> None:
    send.defer(1, connection=None)
    send.defer(1, connection=raw)
    send.defer(1, connection=connection)
    send.defer(1, connection=session)
    send.defer_many([1], connection=scoped)


async def right_async(
    raw: psycopg.AsyncConnection[Any],
    connection: AsyncConnection,
    session: AsyncSession,
    scoped: async_scoped_session[AsyncSession],
) -> None:
    await send.defer_async(1, connection=None)
    await send.defer_async(1, connection=raw)
    await send.defer_async(1, connection=connection)
    await send.defer_async(1, connection=session)
    await send.defer_many_async([1], connection=scoped)


async def wrong(
    session: Session,
    connection: Connection,
    async_session: AsyncSession,
    async_scoped: async_scoped_session[AsyncSession],
    async_connection: AsyncConnection,
    engine: Engine,
    async_engine: AsyncEngine,
    raw: psycopg.Connection[Any],
    async_raw: psycopg.AsyncConnection[Any],
) -> None:
    send.defer(1, connection=async_session)  # type: ignore[arg-type]
    send.defer(1, connection=async_scoped)  # type: ignore[arg-type]
    send.defer(1, connection=async_connection)  # type: ignore[arg-type]
    send.defer(1, connection=async_raw)  # type: ignore[arg-type]
    send.defer(1, connection=engine)  # type: ignore[arg-type]
    send.defer(1, connection=raw.cursor())  # type: ignore[arg-type]
    send.defer(1, connection="postgresql:///")  # type: ignore[arg-type]
    await send.defer_async(1, connection=session)  # type: ignore[arg-type]
    await send.defer_async(1, connection=connection)  # type: ignore[arg-type]
    await send.defer_async(1, connection=raw)  # type: ignore[arg-type]
    await send.defer_async(1, connection=async_engine)  # type: ignore[arg-type]
