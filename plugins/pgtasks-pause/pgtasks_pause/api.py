"""Pausing, resuming and listing, from blocking and from asyncio code.

Each function is made of one definition, which says what to send and how to read the answer.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgtasks_pause.data import COLUMNS, Pause, PauseError, Weekly, pause_from_row

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from pgtasks.plugins import Application

P = ParamSpec("P")
T = TypeVar("T")
Function = TypeVar("Function", bound="Callable[..., Any]")
Connection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any] | None
"""A connection of the kind that the function is of, in whatever transaction is open there; None: one of the app's."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    query: str
    """In which `{schema}` stands for the schema, and `{columns}` for what `pause_from_row` takes."""
    parameters: dict[str, Any]
    read: Callable[[list[tuple[Any, ...]]], T]

    def composed(self, schema: str) -> sql.Composed:
        return sql.SQL(self.query).format(schema=sql.Identifier(schema), columns=COLUMNS)


# Definitions. `connection` is the caller's business, and stands here for the signature.


def _pause(
    *,
    task: str | None = None,
    queue: str | None = None,
    flag: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | dt.timedelta | None = None,
    weekly: Weekly | None = None,
    reason: str | None = None,
    by: str | None = None,
    connection: Connection = None,
) -> _Call[Pause]:
    """Pause a task, a queue or a flag on all hosts, and return the pause.

    If it is paused already, the pause that holds gets the new end and reason. Jobs that are running go on.

    Args:
        app: the application.
        task: name of a task whose jobs are not to start.
        queue: name of a queue whose jobs are not to start.
        flag: a flag whose jobs are not to start. One of the three has to be given.
        since: an aware datetime from which on the pause holds; by default, and in the past: now.
        until: an aware datetime, or how long, by the database's clock; None: until it is resumed.
        weekly: hold only within this window of each week, beside any other pause.
        reason: why, for those who wonder.
        by: who; by default the database's user.
        connection: what to do it on, in whatever transaction is open there; by default one of the app's pool.

    Raises:
        PauseError: what was asked for cannot be; or the plugin's table is not there.
    """
    for what, moment in (("since", since), ("until", until)):
        if isinstance(moment, dt.datetime) and moment.tzinfo is None:
            raise PauseError(f"{what}={moment!r} has no time zone: write {what}=….astimezone(), or tzinfo=…")
    lasting = isinstance(until, dt.timedelta)
    return _Call(
        "select {columns} from {schema}.pgtasks_pause("
        "task => %(task)s, queue => %(queue)s, flag => %(flag)s, since => %(since)s, until => %(until)s, "
        "lasting => %(lasting)s, weekdays => %(weekdays)s, starts => %(starts)s, ends => %(ends)s, "
        "timezone => %(timezone)s, reason => %(reason)s, paused_by => %(by)s)",
        {
            "task": task,
            "queue": queue,
            "flag": flag,
            "since": since,
            "until": None if lasting else until,
            "lasting": until if lasting else None,
            "weekdays": None if weekly is None else list(weekly.days),
            "starts": None if weekly is None else weekly.start,
            "ends": None if weekly is None else weekly.end,
            "timezone": None if weekly is None else weekly.timezone,
            "reason": reason,
            "by": by,
        },
        lambda rows: pause_from_row(rows[0]),
    )


def _resume(
    *,
    task: str | None = None,
    queue: str | None = None,
    flag: str | None = None,
    id: int | None = None,
    windows: bool = False,
    connection: Connection = None,
) -> _Call[list[Pause]]:
    """End the pause of a task, a queue or a flag that holds now, and wake workers; return what was ended.

    Weekly windows, and pauses that are to come, stay.

    Args:
        app: the application.
        task: name of a paused task.
        queue: name of a paused queue.
        flag: a paused flag.
        id: the pause to end, of whatever kind, instead of one of these names.
        windows: end all pauses of the name, also weekly ones and those to come.
        connection: what to do it on, in whatever transaction is open there; by default one of the app's pool.

    Raises:
        PauseError: what was asked for cannot be; or the plugin's table is not there.
    """
    return _Call(
        "select {columns} from {schema}.pgtasks_resume("
        "task => %(task)s, queue => %(queue)s, flag => %(flag)s, windows => %(windows)s, id => %(id)s)",
        {"task": task, "queue": queue, "flag": flag, "windows": windows, "id": id},
        _pauses,
    )


def _paused(*, connection: Connection = None) -> _Call[list[Pause]]:
    """Return all pauses that hold or will hold, in the order in which they were made."""
    return _Call("select {columns} from {schema}.pgtasks_paused order by id", {}, _pauses)


def _pauses(rows: list[tuple[Any, ...]]) -> list[Pause]:
    return [pause_from_row(row) for row in rows]


# Functions of them


def _blocking(define: Callable[P, _Call[T]]) -> Callable[Concatenate[Application, P], T]:
    @functools.wraps(define)
    def function(app: Application, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = define(*args, **kwargs)
        given: Any = kwargs.get("connection")
        with _plain_errors(app):
            if given is not None:
                return call.read(_fetched(given, call, app.schema))
            with app.connection() as connection:
                return call.read(_fetched(connection, call, app.schema))

    return _dressed(function, define, "")


def _asynchronous(define: Callable[P, _Call[T]]) -> Callable[Concatenate[Application, P], Coroutine[Any, Any, T]]:
    @functools.wraps(define)
    async def function(app: Application, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = define(*args, **kwargs)
        given: Any = kwargs.get("connection")
        with _plain_errors(app):
            if given is not None:
                return call.read(await _fetched_async(given, call, app.schema))
            async with app.async_connection() as connection:
                return call.read(await _fetched_async(connection, call, app.schema))

    return _dressed(function, define, "_async")


def _fetched(connection: psycopg.Connection[Any], call: _Call[T], schema: str) -> list[tuple[Any, ...]]:
    # By no row factory and no cursor of the caller's.
    return psycopg.Cursor(connection, row_factory=tuple_row).execute(call.composed(schema), call.parameters).fetchall()


async def _fetched_async(
    connection: psycopg.AsyncConnection[Any], call: _Call[T], schema: str
) -> list[tuple[Any, ...]]:
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(call.composed(schema), call.parameters)
    return await cursor.fetchall()


@contextmanager
def _plain_errors(app: Application) -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise PauseError(
            f"schema {app.schema!r} lacks what plugin 'pause' keeps there; run `pgtasks migrate` with the plugin loaded"
        ) from error
    except psycopg.errors.InvalidParameterValue as error:
        raise PauseError(error.diag.message_primary or str(error)) from None


def _dressed(function: Function, define: Callable[..., Any], suffix: str) -> Function:
    """Make `help()` and documentation tools show the function as one that was written out."""
    signature = inspect.signature(define)
    returns = str(signature.return_annotation).removeprefix("_Call[").removesuffix("]")
    app = inspect.Parameter("app", inspect.Parameter.POSITIONAL_ONLY, annotation="Application")
    dressed: Any = function
    dressed.__name__ = dressed.__qualname__ = define.__name__.removeprefix("_") + suffix
    dressed.__signature__ = signature.replace(
        parameters=[app, *signature.parameters.values()], return_annotation=returns
    )
    return function


pause = _blocking(_pause)
resume = _blocking(_resume)
paused = _blocking(_paused)
pause_async = _asynchronous(_pause)
resume_async = _asynchronous(_resume)
paused_async = _asynchronous(_paused)
