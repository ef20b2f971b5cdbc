"""The PostgreSQL that everything is measured on, and a database of its own for each that is measured."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgtasks.embedded import acquire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
BENCH = ROOT / ".bench"
"""Not in a temporary directory, which may be in memory; and where an account of PostgreSQL's own may go."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    conninfo: str
    """Leads to a database that is not measured, so that who looks on does not count."""
    directory: Path
    """Where logs and the like go; removed afterwards."""

    def connect(self) -> psycopg.Connection[Any]:
        """Connect to the database that is not measured."""
        return psycopg.connect(self.conninfo, autocommit=True)

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make an empty database, and drop it at the end."""
        drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        with self.connect() as connection:
            connection.execute(drop)
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(self.conninfo, dbname=name)
        finally:
            with self.connect() as connection:
                connection.execute(drop)


@contextmanager
def running(url: str | None = None) -> Iterator[Server]:
    """Provide a server: an embedded one with its defaults, durability included, or the one that `url` leads to."""
    directory = BENCH / "runs" / str(os.getpid())
    directory.mkdir(parents=True)
    try:
        if url is not None:
            yield Server(url, directory)
            return
        with acquire(directory=directory / "server") as lease:
            yield Server(make_conninfo(lease.conninfo, dbname="postgres"), directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def postgres_environment(conninfo: str) -> dict[str, str]:
    """`PG…` variables for a program that is not given a connection string."""
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "dbname": "PGDATABASE",
        "password": "PGPASSWORD",
        "sslmode": "PGSSLMODE",
    }
    found = psycopg.conninfo.conninfo_to_dict(conninfo)
    return {names[key]: str(value) for key, value in found.items() if key in names}
