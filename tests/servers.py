"""The PostgreSQL servers that tests run on: one a version and test process, started when the first test asks for it."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from pgtasks.embedded.binaries import Binaries, binaries_at, find_binaries
from pgtasks.embedded.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

NEWEST = 18

OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_prepared_transactions": "5",
    "max_wal_size": "256MB",  # the data may live in memory
    "autovacuum_naptime": "1h",  # a test that needs vacuum says so itself
}

# Ends with its standard input, that is with the test process, however that ends; then clears away behind it.
_WATCHDOG = """
while read -r _; do :; done
for data in "$1"/*/data; do
    { read -r pid; read -r _; read -r _; read -r _; read -r sockets; } < "$data/postmaster.pid" || continue
    kill -QUIT "$pid" && for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.1; done
    rmdir "$sockets"
done 2> /dev/null
rm -rf "$1"
"""


@cache
def versions() -> dict[int, Binaries]:
    """Return the PostgreSQL versions at hand, by number: Debian's 15 where it is installed, 16 and 18 of the wheel."""
    found = {}
    debian = Path("/usr/lib/postgresql/15/bin")
    if not (debian / "postgres").exists() and (program := shutil.which("pg_config")):
        told = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=True)
        debian = Path(told.stdout.strip())
    if (debian / "postgres").exists() and (installed := binaries_at(debian)).version == 15:
        found[15] = installed
    return {**found, 16: find_binaries(16), 18: find_binaries(18)}


class Server:
    """A running server of one version, its templates and the databases made of them."""

    def __init__(self, version: int, cluster: Cluster) -> None:
        self.version = version
        self.cluster = cluster
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {}
        self._admin: psycopg.Connection | None = None

    def conninfo(self, dbname: str = "postgres") -> str:
        return self.cluster.conninfo(dbname)

    def create_database(self, template: str | None = None) -> str:
        """Make a database, empty or as a copy of `template`, and return its name."""
        name = f"test_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template or "template1")
        return name

    def drop_database(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def template(self, key: str, install: Callable[[psycopg.Connection], object]) -> str:
        """Return the name of the template database for `key`; made by `install` the first time it is asked for."""
        if key not in self._templates:
            name = f"template_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
            self.drop_database(name)  # left over when `install` failed before
            self._execute("CREATE DATABASE {} TEMPLATE {}", name, "template1")
            with psycopg.connect(self.conninfo(name), autocommit=True) as conn:
                install(conn)
            self._templates[key] = name
        return self._templates[key]

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _execute(self, query: str, *names: str) -> None:
        """Run a statement about databases; a connection that a test broke (server restarted) is replaced."""
        command = sql.SQL(query).format(*map(sql.Identifier, names))
        try:
            self._connection().execute(command)
        except psycopg.OperationalError:
            if self._admin is not None and not self._admin.closed:
                raise
            self._connection().execute(command)

    def _connection(self) -> psycopg.Connection:
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.conninfo(), autocommit=True)
        return self._admin


class Servers:
    """The servers of this test process; none is started before it is asked for."""

    def __init__(self) -> None:
        self._running: dict[int, Server] = {}
        self._made: dict[int, Cluster] = {}
        """One of each version that never runs; all others are copies of it."""
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._directory = Path()

    def get(self, version: int = NEWEST) -> Server:
        """Return the server of a version, started on first use."""
        if version not in self._running:
            cluster = self.cluster(version)
            cluster.start()
            self._running[version] = Server(version, cluster)
        return self._running[version]

    def cluster(self, version: int = NEWEST, **options: str) -> Cluster:
        """Return a cluster of the test's own, made and not yet started; it is cleared away with the others.

        It is a copy, which takes a seventh of the time of `initdb`.
        """
        if version not in self._made:
            self._made[version] = self.missing_cluster(version)
            self._made[version].initialize()
        cluster = self.missing_cluster(version, **options)
        subprocess.run(["cp", "-a", str(self._made[version].directory), str(cluster.directory)], check=True)
        return cluster

    def missing_cluster(self, version: int = NEWEST, **options: str) -> Cluster:
        """Return a cluster of the test's own that is not yet made; it is cleared away with the others."""
        if self._watchdog is None:
            self._directory = Path(tempfile.mkdtemp(prefix="pgtasks-tests-", dir=memory_disk()))
            self._directory.chmod(0o755)  # root's servers run under an account of their own
            self._watchdog = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHDOG, "sh", str(self._directory)], stdin=subprocess.PIPE, start_new_session=True
            )
        place = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=self._directory))
        place.chmod(0o755)
        return Cluster(versions()[version], place / "data", options={**OPTIONS, **options}, sync=False)

    def close(self) -> None:
        """Stop all servers and remove their data."""
        for server in self._running.values():
            server.close()
            server.cluster.stop("immediate")
        self._running.clear()
        self._made.clear()
        if self._watchdog is not None:
            self._watchdog.communicate()
            self._watchdog = None


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def memory_disk() -> Path | None:
    """Return a directory in memory where there is plenty: making files on ext4 gets slow once many were deleted.

    A new database is some 300 files: 0.01 s in memory, and up to 0.25 s on ext4 while tests make and drop them.
    """
    directory = Path("/dev/shm")
    return directory if directory.is_dir() and shutil.disk_usage(directory).free > 4 * 2**30 else None
