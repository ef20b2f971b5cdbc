"""Which of psycopg's errors are the user's to mend, and which are bugs of ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors as pg

from pgtasks.database import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

_USERS: Final = (
    psycopg.OperationalError,  # not there, refused, shut down, no connection left
    psycopg.InterfaceError,  # lost while it was used
    pg.InsufficientPrivilege,
    pg.ReadOnlySqlTransaction,  # a standby
)


@contextmanager
def explained_database_errors(conninfo: str) -> Iterator[None]:
    """Turn what psycopg raises inside into one line with the way out, where the database or its settings are at fault.

    Anything else, such as an error in a statement, is a bug and passes unchanged.

    Args:
        conninfo: The connection string that is used; its password is not shown.

    Raises:
        PgtasksError: The database cannot be used.
    """
    try:
        yield
    except _USERS as error:
        raise explain(error, conninfo) from error
