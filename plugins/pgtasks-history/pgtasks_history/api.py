"""Reading the history and deleting what is old, from blocking and from asyncio code."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgtasks import SchemaPendingError
from pgtasks_history.data import COLUMNS, OUTCOMES, Entry, HistoryError, Outcome, entry_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.plugins import Application

CHUNK: Final = 10_000
"""How many entries one transaction deletes."""
_MOST: Final = 10_000


def history(
    app: Application,
    *,
    job_id: int | None = None,
    task: str | None = None,
    queue: str | None = None,
    key: str | None = None,
    outcome: Outcome | None = None,
    since: dt.datetime | dt.timedelta | None = None,
    until: dt.datetime | None = None,
    limit: int = 100,
    before: Entry | None = None,
) -> list[Entry]:
    """Return how jobs have ended, the last first.

    Filters are joined by *and*. `job_id`, `task`, an `outcome` other than `succeeded`, `since` and `until` are found by
    an index; the others are looked for among these.

    Args:
        app: the application.
        job_id: only the job of this id.
        task: only jobs of the task of this name.
        queue: only jobs of the queue of this name.
        key: only jobs that had this job key in the end.
        outcome: only jobs that have ended so.
        since: an aware datetime, or how long ago by the database's clock, from which on they have ended.
        until: an aware datetime before which they have ended.
        limit: the most entries to return, from 1 to 10,000.
        before: the last entry of the page before.

    Raises:
        HistoryError: an argument is not what it can be.
        SchemaPendingError: there is no history in this database.

    Example:
        >>> history(app, outcome="failed", since=timedelta(days=1))  # doctest: +SKIP
    """
    given = _given(locals())
    with _explained(app), app.connection() as connection, psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return [entry_from_row(row) for row in cursor.execute(_query(app.schema, given), given)]


async def history_async(
    app: Application,
    *,
    job_id: int | None = None,
    task: str | None = None,
    queue: str | None = None,
    key: str | None = None,
    outcome: Outcome | None = None,
    since: dt.datetime | dt.timedelta | None = None,
    until: dt.datetime | None = None,
    limit: int = 100,
    before: Entry | None = None,
) -> list[Entry]:
    """Do what `history` does, from asyncio code."""
    given = _given(locals())
    with _explained(app):
        async with (
            app.async_connection() as connection,
            psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(_query(app.schema, given), given)
            return [entry_from_row(row) for row in await cursor.fetchall()]


def prune(app: Application, keep: dt.timedelta, limit: int = CHUNK) -> int | None:
    """Delete entries of jobs that have ended longer ago than `keep`, the oldest first.

    Args:
        app: the application.
        keep: how long they are kept.
        limit: the most to delete in this call, which is one transaction.

    Returns:
        How many were deleted; None if somebody else is deleting at this moment.

    Raises:
        SchemaPendingError: there is no history in this database.
    """
    with _explained(app), app.connection() as connection, psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        return _number(cursor.execute(_pruning(app.schema), (keep, limit)).fetchone())


async def prune_async(app: Application, keep: dt.timedelta, limit: int = CHUNK) -> int | None:
    """Do what `prune` does, from asyncio code."""
    with _explained(app):
        async with (
            app.async_connection() as connection,
            psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor,
        ):
            await cursor.execute(_pruning(app.schema), (keep, limit))
            return _number(await cursor.fetchone())


_CONDITIONS: Final = {
    "job_id": "job_id = %(job_id)s",
    "task": "task = %(task)s",
    "queue": "queue = %(queue)s",
    "key": "key = %(key)s",
    "outcome": "outcome = %(outcome)s",
    "since": "finished_at >= %(since)s",
    "until": "finished_at < %(until)s",
}


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `history` that were given, checked, with those of the page."""
    given = {name: arguments[name] for name in _CONDITIONS if arguments[name] is not None}
    if given.get("outcome", OUTCOMES[0]) not in OUTCOMES:
        raise HistoryError(f"outcome={given['outcome']!r} is none of {', '.join(OUTCOMES)}")
    for name in ("since", "until"):
        moment = given.get(name)
        if isinstance(moment, dt.datetime) and moment.tzinfo is None:
            raise HistoryError(f"{name}={moment!r} has no time zone: write {name}=….astimezone(), or tzinfo=…")
    limit, before = arguments["limit"], arguments["before"]
    if not (isinstance(limit, int) and 1 <= limit <= _MOST):
        raise HistoryError(f"limit={limit!r} must be from 1 to {_MOST:,}")
    given["limit"] = limit
    if before is not None:
        given |= {"before_time": before.finished_at, "before_id": before.id}
    return given


def _query(schema: str, given: dict[str, Any]) -> sql.Composed:
    conditions = [condition for name, condition in _CONDITIONS.items() if name in given]
    if isinstance(given.get("since"), dt.timedelta):
        conditions[conditions.index(_CONDITIONS["since"])] = "finished_at >= now() - %(since)s"
    if "outcome" in given and given["outcome"] != "succeeded":
        conditions.append("outcome <> 'succeeded'")  # what the index is for
    if "before_id" in given:
        conditions.append("(finished_at, id) < (%(before_time)s, %(before_id)s)")
    where = f"where {' and '.join(conditions)}" if conditions else ""
    return sql.SQL(
        "select {columns} from {schema}._pgtasks_history_jobs {where} "
        "order by finished_at desc, id desc limit %(limit)s"
    ).format(columns=sql.SQL(COLUMNS), schema=sql.Identifier(schema), where=sql.SQL(where))


def _pruning(schema: str) -> sql.Composed:
    return sql.SQL("select {}._pgtasks_history_prune(%s::interval, %s::integer)").format(sql.Identifier(schema))


def _number(row: tuple[Any, ...] | None) -> int | None:
    assert row is not None, "a function returns a row"
    return None if row[0] is None else int(row[0])


@contextmanager
def _explained(app: Application) -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        raise SchemaPendingError(
            f"There is no history in schema {app.schema!r}: it begins with the next `pgtasks migrate`, or worker that "
            "starts, with plugin 'history'"
        ) from error
