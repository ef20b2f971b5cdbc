"""An application, the jobs that others see of it, and SQLAlchemy's engines on its database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import create_async_engine

from pgtasks import App, Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    import psycopg
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pgtasks import Task

DIALECT = "postgresql+psycopg://"


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database)
    yield app
    app.close()


@pytest.fixture
def send(app: App) -> Task[Any, ..., Any]:
    @app.task
    def send(payload: int) -> None: ...

    return send


@pytest.fixture
def committed(connection: psycopg.Connection) -> Callable[[], list[Any]]:
    """What others see: the payloads of the jobs, and the rows of table `note`."""
    connection.execute("create table note (n int)")

    def look() -> list[Any]:
        jobs = connection.execute("select payload from graphile_worker._private_jobs order by id").fetchall()
        notes = connection.execute("select n from note order by n").fetchall()
        return [*(job for (job,) in jobs), *(f"note {note}" for (note,) in notes)]

    return look


@pytest.fixture
def engine(database: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(DIALECT, connect_args=conninfo_to_dict(database))
    yield engine
    engine.dispose()


@pytest.fixture
def async_engine(database: str, app: App) -> Callable[[], AbstractAsyncContextManager[AsyncEngine]]:
    """Open an engine in the running event loop."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncEngine]:
        engine = create_async_engine(DIALECT, connect_args=conninfo_to_dict(database))
        yield engine
        await engine.dispose()
        await app.aclose()

    return opened
