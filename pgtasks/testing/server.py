"""The PostgreSQL server that tests run on, and the databases that are made for them."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgtasks.database.connecting import complete_conninfo
from pgtasks.embedded import Cluster, find_binaries
from pgtasks.errors import DatabaseUnavailableError
from pgtasks.settings.sources import TEST_DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPTIONS: Final = {
    # The data need not outlive the tests.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "256MB",
}
# Ends with its standard input, that is with the test process, however that ends; then clears away behind it.
_WATCHDOG: Final = """
while read -r _; do :; done
if { read -r pid; read -r _; read -r _; read -r _; read -r sockets; } < "$1/data/postmaster.pid"; then
    kill -QUIT "$pid" && for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.1; done
    rmdir "$sockets"
fi 2> /dev/null
rm -rf "$1"
"""
_ROOM: Final = 4 * 2**30
"""Bytes that a disk in memory must have free: a database is some hundred files, which are quicker made there."""


class DatabaseServer:
    """A running server on which tests have databases of their own.

    Args:
        conninfo: a connection string for it, of a role that may create databases.

    Examples:
        ```python
        with database_server() as server, server.database() as conninfo:
            psycopg.connect(conninfo)
        ```
    """

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._prefix = f"pgtasks_test_{os.getpid()}_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {}

    def conninfo(self, name: str) -> str:
        """Return the connection string of the database `name`."""
        return make_conninfo(self._conninfo, dbname=name)

    @contextmanager
    def database(
        self, key: str | None = None, install: Callable[[psycopg.Connection[Any]], object] | None = None
    ) -> Iterator[str]:
        """Lend a new database, and drop it afterwards, whoever is still connected.

        Args:
            key: names what is installed: the first time in a template, of which all databases of that key are copies.
            install: installs it, on an autocommit connection.

        Returns:
            The database's connection string.
        """
        template = "template1" if key is None or install is None else self._template(key, install)
        name = f"{self._prefix}_{next(self._numbers)}"
        self._create(name, template)
        try:
            yield self.conninfo(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the templates."""
        while self._templates:
            self._drop(self._templates.popitem()[1])

    def _template(self, key: str, install: Callable[[psycopg.Connection[Any]], object]) -> str:
        if key not in self._templates:
            name = f"{self._prefix}_template_{next(self._numbers)}"
            self._create(name, "template1")
            try:
                where = complete_conninfo(self.conninfo(name), "pgtasks")
                with psycopg.connect(where, autocommit=True) as connection:
                    install(connection)
            except BaseException:
                self._drop(name)
                raise
            self._templates[key] = name
        return self._templates[key]

    def _create(self, name: str, template: str) -> None:
        self._execute("create database {} template {}", name, template)

    def _drop(self, name: str) -> None:
        self._execute("drop database if exists {} with (force)", name)

    def _execute(self, statement: str, *names: str) -> None:
        # A connection for each, since the server may have been restarted by a test in between.
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def database_server() -> Iterator[DatabaseServer]:
    """Lend the server that `PGTASKS_TEST_DATABASE_URL` names, or else an embedded one, which ends with the block.

    The embedded one is this process's own, in a temporary directory, and does not survive the process, however that
    ends.

    Raises:
        DatabaseUnavailableError: there is neither the variable nor the extra `embedded`, or the server does not start.
    """
    given = os.environ.get(TEST_DATABASE)
    if given:
        server = DatabaseServer(given)
        try:
            yield server
        finally:
            server.close()
    else:
        with _embedded() as cluster:
            yield DatabaseServer(cluster.conninfo())


@contextmanager
def _embedded() -> Iterator[Cluster]:
    try:
        binaries = find_binaries()
    except DatabaseUnavailableError:
        raise DatabaseUnavailableError(
            f"There is no PostgreSQL to test on: set {TEST_DATABASE} to one on which databases may be created, or let "
            "pgtasks run its own: pip install 'pgtasks[embedded]'"
        ) from None
    directory = Path(tempfile.mkdtemp(prefix="pgtasks-testing-", dir=_memory_disk()))
    directory.chmod(0o755)  # root's server runs under an account of its own
    with subprocess.Popen(
        ["/bin/sh", "-c", _WATCHDOG, "sh", str(directory)], stdin=subprocess.PIPE, start_new_session=True
    ) as watchdog:
        cluster = Cluster(binaries, directory / "data", options=_OPTIONS, sync=False)
        cluster.initialize()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")
            watchdog.communicate()


def _memory_disk() -> Path | None:
    directory = Path("/dev/shm")  # noqa: S108 - what is made there has a name that nobody guesses
    return directory if directory.is_dir() and shutil.disk_usage(directory).free > _ROOM else None
