"""An application on the test's own database, and what looks at that database beside it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry
from tests.queue.diagnosis import Doctor
from tests.sql.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


@pytest.fixture
def app(database: str, schema: str) -> Iterator[App]:
    """An App with a registry of its own."""
    app = App(registry=Registry(), database_url=database, schema=schema)
    yield app
    app.close()


@pytest.fixture
def queue(connection: psycopg.Connection[Any], schema: str) -> Queue:
    """The same database as any client sees it."""
    return Queue(connection, schema)


@pytest.fixture
def other(queue: Queue) -> Iterator[Queue]:
    """The same in another session."""
    with queue.another() as session:
        yield session


class Admin:
    """`app.jobs` or `app.jobs_async`: their methods, called in the same way."""

    def __init__(self, methods: Any, runner: asyncio.Runner) -> None:
        self._methods = methods
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._methods, name)
        if not inspect.iscoroutinefunction(method):
            return method
        return lambda *args, **options: self._runner.run(method(*args, **options))


@pytest.fixture(params=["blocking", "asyncio"])
def admin(request: pytest.FixtureRequest, app: App) -> Iterator[Admin]:
    """Administration from blocking code, and from asyncio code."""
    with asyncio.Runner() as runner:
        yield Admin(app.jobs if request.param == "blocking" else app.jobs_async, runner)
        runner.run(app.aclose())


@pytest.fixture
def doctor(database: str, schema: str) -> Iterator[Doctor]:
    """The doctor, who looks at the test's own database."""
    doctor = Doctor(database, schema)
    yield doctor
    doctor.close()
