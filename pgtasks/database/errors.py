"""What psycopg's errors mean, in one line that names the server and the way out.

Sources: the SQLSTATE classes of PostgreSQL's appendix A; libpq reports failures before a session exists without one,
so those are told apart by their words.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from pgtasks.errors import DatabaseUnavailableError, PgtasksError
from pgtasks.settings import redact

_READ_ONLY = "25006"
"""The server is a standby, or was made read-only: another one may have taken over."""
_LOCKED = "55P03"
"""By lock_timeout."""
_UNDONE = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        _LOCKED,
        "57014",  # somebody has cancelled the statement, or statement_timeout has
    }
)
"""States of errors by which a statement was undone on a server that is as it should be."""
_ENDED = ("25P03", "25P04")
"""The server has ended the session, since its transaction had been idle, or open, for too long."""
_TOO_MUCH = "54"
"""A statement that is too large or too complex is so at any time."""
_NOTIFICATIONS = "async.c"
"""Where the server's code keeps notifications. Their queue is full by the same state, 54000, but not for ever."""


def reason_of(error: BaseException) -> str:
    """Return the words of `error` in one line, without the server's stack."""
    return " ".join(str(error).partition("\nCONTEXT:")[0].split()) or type(error).__name__


def is_outage(error: BaseException) -> bool:
    """Whether the same statement may succeed later, so that a loop should try again rather than end.

    Either the database cannot be used now: connection lost or refused, server shutting down or read-only, no
    connection, disk, memory or room for notifications left. Or the statement was undone, see `is_undone`.
    """
    if isinstance(error, DatabaseUnavailableError | OSError | psycopg.InterfaceError):  # TimeoutError is an OSError
        return True
    if isinstance(error, psycopg.OperationalError):
        return not (error.sqlstate or "").startswith(_TOO_MUCH) or error.diag.source_file == _NOTIFICATIONS
    return isinstance(error, psycopg.Error) and error.sqlstate in (_READ_ONLY, *_ENDED)


def is_undone(error: BaseException) -> bool:
    """Whether only this statement was undone, by a conflict or by somebody's doing: the database is as it should be."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _UNDONE


def is_locked(error: BaseException) -> bool:
    """Whether a statement was undone because somebody has held for long, by a lock, what it needs."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _LOCKED


def needs_other_server(error: BaseException) -> bool:
    """Whether the server takes no writes, so that its connections are of no use, and another one may take them."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY


def is_connection_lost(error: BaseException) -> bool:
    """Whether `error` ended the session, so that it is not known what became of the statement."""
    if isinstance(error, psycopg.InterfaceError):
        return True
    if isinstance(error, psycopg.Error) and error.sqlstate in _ENDED:
        return True
    if not isinstance(error, psycopg.OperationalError):
        return False
    # Without a state it comes from libpq; 57P01 to 57P03 are shutdowns.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P01", "57P02", "57P03"))


def explain(error: Exception, conninfo: str) -> PgtasksError:
    """Return an error of one line for a psycopg `error`, with the way out where one is known."""
    where = redact(conninfo)
    reason = reason_of(error)
    low = reason.lower()
    if isinstance(error, pg.InvalidPassword) or ("password" in low and "authentication failed" in low):
        return DatabaseUnavailableError(f"the password was refused by {where}: check the database URL ({reason})")
    if "no password supplied" in low:
        return DatabaseUnavailableError(f"{where} asks for a password: put it into the database URL or ~/.pgpass")
    if "does not exist" in low and "database" in low:
        return DatabaseUnavailableError(
            f"the database is missing on {where}: create it, or correct its name ({reason})"
        )
    if isinstance(error, pg.TooManyConnections) or "too many clients" in low or "remaining connection slots" in low:
        return DatabaseUnavailableError(
            f"{where} has no connection left: raise max_connections or use fewer ({reason})"
        )
    if "connection refused" in low or "no such file" in low or "could not translate host" in low or "timeout" in low:
        return DatabaseUnavailableError(
            f"no server answers at {where}: is it running, is the address right? ({reason})"
        )
    if isinstance(error, pg.InsufficientPrivilege):
        return DatabaseUnavailableError(f"the role may not do this on {where}: {reason}")
    return DatabaseUnavailableError(f"the database at {where} cannot be used: {reason}")
