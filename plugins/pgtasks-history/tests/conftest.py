"""Fixtures: databases that have the plugin's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import pgtasks_history
from pgtasks import App, Registry
from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from tests.conftest import server, servers  # noqa: F401 - fixtures
from tests.sql.queue import Queue
from tests.worker.conftest import db, start_worker  # noqa: F401 - likewise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

SCHEMA = "graphile_worker"


@pytest.fixture(params=[SCHEMA])
def schema(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def database(server: Server, schema: str) -> Iterator[str]:  # noqa: F811
    """The connection string of a new database that has the schema and the history."""

    def install(conn: psycopg.Connection[Any]) -> None:
        migrate(conn, schema)
        steps = plugin_steps(schema, [("history", pgtasks_history.register_migrations())])
        assert len(migrate_plugins(conn, schema, steps)) == 1

    name = server.create_database(server.template(f"history {schema}", install))
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def queue(database: str, schema: str) -> Iterator[Queue]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield Queue(connection, schema)


@pytest.fixture
def app(database: str, schema: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, schema=schema, autoload_plugins=False)
    yield app
    app.close()
