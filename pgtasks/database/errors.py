"""What psycopg's errors mean, in one line that names the server and the way out.

Sources: the SQLSTATE classes of PostgreSQL's appendix A; libpq reports failures before a session exists without one,
so those are told apart by their words.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from pgtasks.errors import DatabaseUnavailableError, PgtasksError
from pgtasks.settings import redact

_OUTAGES = (
    psycopg.OperationalError,  # connection lost or refused, server shutting down, too many connections, disk full
    psycopg.InterfaceError,  # the connection was closed under us
    pg.ReadOnlySqlTransaction,  # failed over to a standby that has not been promoted yet
    DatabaseUnavailableError,
    OSError,
    TimeoutError,
)


def reason_of(error: BaseException) -> str:
    """Return the words of `error` in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def is_outage(error: BaseException) -> bool:
    """Whether the database may be back later, so that a loop should try again rather than end."""
    return isinstance(error, _OUTAGES)


def is_connection_lost(error: BaseException) -> bool:
    """Whether `error` ended the session, so that it is not known what became of the statement."""
    if isinstance(error, psycopg.InterfaceError):
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
