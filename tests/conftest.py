"""Fixtures for all tests: real PostgreSQL servers, and a fresh database for each test that wants one."""

from __future__ import annotations

import os
import signal
import zlib
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.interop.releases import describe
from tests.servers import NEWEST, Servers, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

SCHEMA = "graphile_worker"
ODD_SCHEMA = 'My "odd" schema'


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background with SIGINT ignored, and all commands of the tests would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "every_postgres: run on every PostgreSQL at hand (15, 16, 18), not only on 18")
    config.addinivalue_line(
        "markers", "one_postgres_each: like every_postgres, but each case on one of them, unless --all"
    )
    config.addinivalue_line("markers", "long: takes its time; runs with --all, or where FAULTS is set")
    config.addinivalue_line("markers", "every_schema: run also under a schema whose name needs quoting")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run all tests: long ones too, and every case everywhere")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        left_out = [item for item in items if isinstance(item, pytest.Function) and not _is_chosen(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_chosen(item: pytest.Function) -> bool:
    """Whether a test runs without --all: a short one, and a case that runs on one PostgreSQL only on that one.

    Which one depends on the case's name alone.
    """
    if item.get_closest_marker("long") is not None and "FAULTS" not in os.environ:
        return False
    if item.get_closest_marker("one_postgres_each") is None:
        return True
    version = item.callspec.params["server"]
    case = item.nodeid.replace(f"pg{version}", "")
    return version == sorted(versions())[zlib.crc32(case.encode()) % len(versions())]


def pytest_report_header() -> str:
    return describe()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "server" in metafunc.fixturenames and marks & {"every_postgres", "one_postgres_each"}:
        metafunc.parametrize("server", versions(), indirect=True, ids=lambda version: f"pg{version}", scope="session")
    if "schema" in metafunc.fixturenames and "every_schema" in marks:
        metafunc.parametrize("schema", [SCHEMA, ODD_SCHEMA], indirect=True, ids=["plain", "odd"], scope="session")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process; `servers.cluster()` makes one for a test that stops or breaks it."""
    running = Servers()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """A running server, shared by all tests of this process: PostgreSQL 18, or each in turn with `every_postgres`."""
    return servers.get(getattr(request, "param", NEWEST))


@pytest.fixture(scope="session")
def schema(request: pytest.FixtureRequest) -> str:
    """The name of the schema that `database` has: the usual one, or also an odd one with `every_schema`."""
    name: str = getattr(request, "param", SCHEMA)
    return name


@pytest.fixture
def empty_database(server: Server) -> Iterator[str]:
    """The connection string of a new database with nothing in it; dropped afterwards, whoever is still connected."""
    name = server.create_database()
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def database(server: Server, schema: str) -> Iterator[str]:
    """The connection string of a new database in which pgtasks is installed under `schema`."""
    from pgtasks.queue.migrate import migrate

    template = server.template(schema, lambda conn: migrate(conn, schema))
    name = server.create_database(template)
    yield server.conninfo(name)
    server.drop_database(name)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """A connection to `database`, in autocommit mode."""
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn
