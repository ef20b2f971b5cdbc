"""Fixtures for all tests: real PostgreSQL servers, and a fresh database for each test that wants one."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest

from tests.interop.releases import describe
from tests.pgbouncer import PgBouncer, find_pgbouncer
from tests.servers import NEWEST, Servers, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.servers import Server

SCHEMA = "graphile_worker"
ODD_SCHEMA = 'My "odd" schema'


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it runs in the background with SIGINT ignored, and all commands of the tests would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "every_postgres: run on every PostgreSQL at hand (15, 16, 18), not only on 18")
    config.addinivalue_line(
        "markers", "one_postgres_each: like every_postgres, but each case on one of them in turn, unless --all"
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

    So does one under the odd schema: how a name is quoted is no matter of versions.
    """
    marks = {mark.name for mark in item.iter_markers()}
    if "long" in marks and "FAULTS" not in os.environ:
        return False
    cases = item.callspec.params if hasattr(item, "callspec") else {}
    odd = "every_postgres" in marks and cases.get("schema") == ODD_SCHEMA
    return cases["server"] == _turn(item) if "one_postgres_each" in marks or odd else True


def _turn(item: pytest.Function) -> int:
    """The PostgreSQL whose turn a case is: the next value of any parameter is the turn of the next one.

    So each value meets each PostgreSQL, if there are other parameters, and a case is on the same one in every run.
    """
    number = zlib.crc32(item.originalname.encode()) + (item.callspec.params.get("schema") == ODD_SCHEMA)
    for mark in item.iter_markers("parametrize"):
        names, values = mark.args[:2]
        names = names.replace(" ", "").split(",") if isinstance(names, str) else names
        mine = [item.callspec.params[name] for name in names]
        number += next((at for at, value in enumerate(values) if _same(mine, value)), 0)
    return sorted(versions())[number % len(versions())]


def _same(values: Sequence[object], given: Any) -> bool:
    if isinstance(given, type(pytest.param())):
        given = given.values
    elif len(values) == 1:
        given = [given]
    return all(mine is its for mine, its in zip(values, given, strict=True))


def pytest_report_header() -> str:
    return describe()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "server" in metafunc.fixturenames and marks & {"every_postgres", "one_postgres_each"}:
        metafunc.parametrize("server", versions(), indirect=True, ids=lambda version: f"pg{version}", scope="session")
    if "schema" in metafunc.fixturenames and "every_schema" in marks:
        metafunc.parametrize("schema", [SCHEMA, ODD_SCHEMA], indirect=True, ids=["plain", "odd"], scope="session")


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether tests by chance, which find the more the longer they run, may take their time: with --all."""
    return bool(request.config.getoption("--all"))


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


@pytest.fixture(scope="session")
def pgbouncer_program() -> str:
    """The program, or the test is skipped."""
    found = find_pgbouncer()
    if found is None:
        pytest.skip("needs PgBouncer: it is not installed, and only root can install Debian's package")
    return found


@pytest.fixture
def start_pgbouncer(pgbouncer_program: str, database: str) -> Iterator[Callable[..., PgBouncer]]:
    """Start a PgBouncer in front of `database`: `start_pgbouncer(mode, pool_size)`."""
    running: list[PgBouncer] = []

    def start(mode: Literal["transaction", "session"], pool_size: int = 20) -> PgBouncer:
        pgbouncer = PgBouncer(pgbouncer_program, database, mode=mode, pool_size=pool_size)
        running.append(pgbouncer)
        return pgbouncer.__enter__()

    yield start
    for pgbouncer in running:
        pgbouncer.__exit__(None, None, None)


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A file system of a few megabytes, for the server's account."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = Path(tempfile.mkdtemp(prefix="disk-", dir=server.cluster.directory.parent))
    owner = server.cluster.directory.stat()
    options = f"size=4m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
