"""Finding out what makes a queue slow or stuck, without changing anything.

Each look is one statement, in a read-only transaction of its own, with a time limit, and costs about the same whatever
is in the tables. What cannot be looked at, since the role may not, somebody holds a lock or it takes too long, is told
as such, and everything else is looked at all the same.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors as pg

from pgtasks.database import run
from pgtasks.database.errors import reason_of
from pgtasks.errors import PgtasksError, SchemaRefusedError
from pgtasks.queue.doctor.connection import clock, notifications
from pgtasks.queue.doctor.finding import CheckName, Finding, FindingName, Level, Thresholds
from pgtasks.queue.doctor.held_cleanup import held_cleanup
from pgtasks.queue.doctor.indexes import indexes
from pgtasks.queue.doctor.jobs import backlog, failed_jobs, old_locks, stale_workers
from pgtasks.queue.doctor.limits import TIMEOUTS, limited
from pgtasks.queue.doctor.locks import table_locks
from pgtasks.queue.doctor.plugins import examine_plugins
from pgtasks.queue.doctor.schema import hidden_rows, refusal, status_findings
from pgtasks.queue.doctor.server import server
from pgtasks.queue.doctor.tables import tables
from pgtasks.queue.installed import inspect
from pgtasks.queue.migrate import refuse_old_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pgtasks.database import Database, Operation
    from pgtasks.queue.installed import MigrationStatus
    from pgtasks.sql import Statements

__all__ = [
    "CheckName",
    "Finding",
    "FindingName",
    "Level",
    "Thresholds",
    "by_seriousness",
    "examine",
    "examine_plugins",
]

_SUBJECTS: Final = {
    "migrate": "what the schema lacks",
    "hidden_from": "whether the role sees the queue's rows",
    "doctor_clock": "the database's clock",
    "doctor_server": "the server's settings",
    "doctor_held_cleanup": "what holds back the cleanup",
    "doctor_table_locks": "locks on tables",
    "doctor_tables": "how tables are kept",
    "doctor_indexes": "indexes",
    "doctor_backlog": "jobs that nobody runs",
    "doctor_stale_workers": "workers that are gone",
    "doctor_old_locks": "old locks",
    "doctor_failed_jobs": "failed jobs",
    "notifications": "whether notifications are heard",
}
"""What each look is at."""

_ORDER: Final[tuple[Level, ...]] = ("problem", "warning", "note", "unseen")


def examine(
    database: Database,
    sql: Statements,
    thresholds: Thresholds | None = None,
    *,
    listen: bool = True,
    listen_at: str | None = None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> list[Finding]:
    """Look at a database and at the queue in it.

    Args:
        database: Where it is.
        sql: The statements, for the schema that holds the queue.
        thresholds: From which figures on something is found.
        listen: Whether workers are set to listen for notifications.
        listen_at: Where they listen, if not at the database's own address.
        now: This host's clock.

    Returns:
        What was found, the most serious first.

    Raises:
        DatabaseUnavailableError: The database cannot be reached, or was lost while it was looked at.
        PgtasksError: The server is too old.
    """
    thresholds = thresholds or Thresholds()
    with database.connection() as connection:
        refuse_old_server(connection)
        found = [*_Examination(connection, sql, thresholds).findings(database.conninfo, listen, listen_at, now)]
    return by_seriousness(found)


def by_seriousness(found: Iterable[Finding]) -> list[Finding]:
    """Return findings, the most serious first."""
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))


class _Examination:
    """One look at everything, over one connection."""

    def __init__(self, connection: psycopg.Connection[Any], sql: Statements, thresholds: Thresholds) -> None:
        self._connection = connection
        self._sql = sql
        self._thresholds = thresholds
        self._blocked = False
        self._unseen: dict[str, list[tuple[str, str]]] = {}
        """What could not be looked at and why, by what helps."""

    def findings(
        self, conninfo: str, listen: bool, listen_at: str | None, now: Callable[[], dt.datetime]
    ) -> Iterator[Finding]:
        """Give all that is found, in the order in which it is looked at."""
        sql, thresholds = self._sql, self._thresholds
        yield from self._try(
            "notifications",
            lambda: notifications(self._connection, sql, conninfo, listen=listen, listen_at=listen_at),
        )
        yield from self._try("doctor_clock", lambda: clock(self._connection, sql, thresholds, now))
        yield from self._ask(server(sql, thresholds))
        yield from self._ask(held_cleanup(sql, thresholds))
        yield from self._schema()
        # Last, since by now it is known whether some lock was in the way.
        yield from self._ask(table_locks(sql, thresholds, blocked=self._blocked))
        for cure, looks in self._unseen.items():
            yield _unseen(looks, cure)

    def _schema(self) -> Iterator[Finding]:
        sql, thresholds = self._sql, self._thresholds
        hidden = self._ask(hidden_rows(sql))
        yield from hidden
        status = None
        if not hidden:
            found, status = self._status()
            yield from found
            if (found and status is None) or (status is not None and status.kind in ("missing", "empty")):
                return  # there is no queue, or none that this release understands
        yield from self._ask(tables(sql, thresholds))
        complete = status is not None and not status.pending_steps and not status.newer_steps
        yield from self._ask(indexes(sql, thresholds, complete=complete))
        if hidden:
            return
        for look in (
            backlog(sql, thresholds),
            stale_workers(sql, thresholds),
            old_locks(sql, thresholds),
            failed_jobs(sql),
        ):
            yield from self._ask(look)

    def _status(self) -> tuple[list[Finding], MigrationStatus | None]:
        found: list[MigrationStatus] = []

        def look() -> list[Finding]:
            try:
                with limited(self._connection, "migrate"):
                    found.append(inspect(self._connection, self._sql.schema, upgrade_functions=False).status)
            except SchemaRefusedError as error:
                return [refusal(self._sql.schema, error)]
            return status_findings(found[0])

        return self._try("migrate", look), found[0] if found else None

    def _ask(self, look: Operation[list[Finding]]) -> list[Finding]:
        def ask() -> list[Finding]:
            with limited(self._connection, look.name):
                return run(self._connection, look)

        return self._try(look.name, ask)

    def _try(self, look: str, ask: Callable[[], list[Finding]]) -> list[Finding]:
        """Return what a look finds, and note if it was not possible."""
        try:
            return ask()
        except pg.LockNotAvailable:
            self._blocked = True
            reason, cure = "somebody holds a lock on what they read", "see who has it (table_lock), and look again then"
        except pg.QueryCanceled:
            reason, cure = (
                f"it took more than {TIMEOUTS[look]:g} s",
                "mend first what else is told, and look again then",
            )
        except pg.InsufficientPrivilege as error:
            reason, cure = reason_of(error), "look as the role that owns the schema"
        except _LACKING as error:
            reason, cure = reason_of(error), "bring the schema up to date"
        except PgtasksError as error:
            reason, cure = str(error), "do what it says, and look again then"
        except (psycopg.OperationalError, pg.ReadOnlySqlTransaction) as error:
            if self._connection.closed:
                raise
            reason, cure = reason_of(error), "look again when that has passed"
        self._unseen.setdefault(cure, []).append((look, reason))
        return []


_LACKING: Final = (pg.InvalidSchemaName, pg.UndefinedTable, pg.UndefinedColumn, pg.UndefinedFunction)
"""What a schema that is not up to date may lack."""


def _unseen(looks: Sequence[tuple[str, str]], cure: str) -> Finding:
    reasons = "; ".join(dict.fromkeys(reason for _, reason in looks))
    return Finding(
        name="unseen",
        level="unseen",
        what=f"not looked at: {', '.join(_SUBJECTS[look] for look, _ in looks)}: {reasons}",
        why="whether something is wrong there is not known",
        cure=cure,
        facts={"checks": [look for look, _ in looks], "reason": reasons},
    )
