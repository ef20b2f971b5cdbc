"""Fixtures: databases that have the plugin's table, an App with the plugin, and workers that load it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import pgtasks_pause
from pgtasks import App, Registry
from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from tests.conftest import SCHEMA, pytest_generate_tests, server, servers  # noqa: F401 - fixtures and a hook
from tests.worker.conftest import db, start_worker  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

PACKAGE = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_postgres: run on every PostgreSQL at hand (15, 16, 18), not only on 18")
    config.addinivalue_line("markers", "every_schema: run also under a schema whose name needs quoting")


@pytest.fixture(scope="session")
def schema(request: pytest.FixtureRequest) -> str:
    name: str = getattr(request, "param", SCHEMA)
    return name


@pytest.fixture
def database(server: Server, schema: str) -> Iterator[str]:  # noqa: F811
    """The connection string of a new database that has the schema and what the plugin keeps there."""

    def install(conn: psycopg.Connection[Any]) -> None:
        migrate(conn, schema)
        migrate_plugins(conn, schema, plugin_steps(schema, [("pause", pgtasks_pause.register_migrations())]))

    name = server.create_database(server.template(f"pause {schema}", install))
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def app(database: str, schema: str) -> Iterator[App]:
    """An App that has the plugin, as a command has it."""
    made = App(registry=Registry(), plugins=[pgtasks_pause], database_url=database, schema=schema)
    yield made
    made.close()


@pytest.fixture(scope="session")
def with_plugin() -> dict[str, str]:
    """The environment of a worker that loads the plugin."""
    path = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {"PGTASKS_PLUGINS": "pgtasks_pause", "PYTHONPATH": path}
