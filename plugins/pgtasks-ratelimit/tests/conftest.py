"""Fixtures: databases that have the plugin's tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from pgtasks_ratelimit.migrations import migrations
from tests.conftest import server, servers  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

SCHEMA = "graphile_worker"
FOLDER = Path(__file__).parent

# pytest imports tests by their paths, so that modules which they share are not found.
sys.path.insert(0, str(FOLDER))


@pytest.fixture(scope="session")
def schema(request: pytest.FixtureRequest) -> str:
    name: str = getattr(request, "param", SCHEMA)
    return name


@pytest.fixture
def database(server: Server, schema: str) -> Iterator[str]:  # noqa: F811
    """The connection string of a new database that has the schema and the plugin's tables."""

    def install(conn: psycopg.Connection[Any]) -> None:
        migrate(conn, schema)
        migrate_plugins(conn, schema, plugin_steps(schema, [("ratelimit", migrations())]))

    name = server.create_database(server.template(f"ratelimit {schema}", install))
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn
