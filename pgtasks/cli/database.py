"""The database that a command works on: the one that is configured, or the project's embedded server."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.cli.errors import explained_database_errors
from pgtasks.cli.output import note
from pgtasks.database.connecting import complete_conninfo
from pgtasks.embedded import acquire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.embedded import Lease
    from pgtasks.settings import Settings


def announce(lease: Lease) -> None:
    """Say on stderr, in one line, that the embedded server is used."""
    note(f"using the embedded PostgreSQL {lease.version} in {_short(lease.directory)}")


@contextmanager
def resolve_database(settings: Settings, *, announce: Callable[[Lease], None] = announce) -> Iterator[str]:
    """Give the connection string of the database that the settings name, or of the embedded server that they lack.

    The embedded server is stopped at the end of the `with` block if nobody else uses it. What psycopg raises in the
    block becomes one line, see `explained_database_errors`.

    Args:
        settings: The command's settings.
        announce: Told of the embedded server, if that is what is used.

    Raises:
        DatabaseUnavailableError: No database is configured and the extra `embedded` is not installed, the embedded
            server does not start, or the database cannot be used.
    """
    if settings.conninfo is not None:
        with explained_database_errors(settings.conninfo):
            yield settings.conninfo
        return
    with acquire(directory=settings.embedded_dir) as lease:
        announce(lease)
        with explained_database_errors(lease.conninfo):
            yield lease.conninfo


@contextmanager
def connect(settings: Settings, application_name: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection in autocommit mode to the database of `resolve_database`.

    Args:
        settings: The command's settings.
        application_name: What `pg_stat_activity` shows, unless the connection string names it.
    """
    # Nothing is prepared, since the connection may go through a pooler in transaction mode.
    with (
        resolve_database(settings) as conninfo,
        psycopg.connect(complete_conninfo(conninfo, application_name), autocommit=True, prepare_threshold=None) as conn,
    ):
        yield conn


def _short(directory: Path) -> Path:
    """Return a path as it looks from here, if that is inside of the current directory."""
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory
