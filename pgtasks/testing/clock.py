"""Letting time pass without waiting for it."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

from pgtasks.app import App, current_app
from pgtasks.database import Operation
from pgtasks.testing.stepping import take, take_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.database import Row
    from pgtasks.sql import Statements
    from pgtasks.testing.stepping import Steps


def advance(
    by: dt.timedelta | None = None,
    /,
    *,
    app: App | None = None,
    connection: BlockingConnection | None = None,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
) -> None:
    """Let time pass for the jobs that wait, so that what is planned becomes due: retries, snoozes, `run_at`, `delay`.

    No clock is changed. The times of the jobs are: `run_at`, `created_at` and `updated_at` of all of them that nobody
    runs are set back by so much. A job that is added afterwards is so from now.

    Args:
        by: how much, as a timedelta.
        app: whose jobs; by default those of the App that `pgtasks.task` uses.
        connection: where to change them, as for `deferred_jobs`.
        days: how much, in days; likewise the others, which are added up.
        hours: in hours.
        minutes: in minutes.
        seconds: in seconds.

    Raises:
        ValueError: it is negative: time does not go back.

    Examples:
        ```python
        run_jobs(raise_errors=False)  # fails, and is tried again a minute later
        advance(minutes=1)
        run_jobs()
        ```
    """
    app = app or current_app()
    take(_move(app, seconds_of(by, days, hours, minutes, seconds)), app, connection)


async def advance_async(
    by: dt.timedelta | None = None,
    /,
    *,
    app: App | None = None,
    connection: AsyncConnection | None = None,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
) -> None:
    """Do what `advance` does, from asyncio code; `connection` is one of asyncio's."""
    app = app or current_app()
    await take_async(_move(app, seconds_of(by, days, hours, minutes, seconds)), app, connection)


def seconds_of(by: object, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> float:
    """Return how many seconds are to pass."""
    if by is not None and not isinstance(by, dt.timedelta):
        raise TypeError(f"{by!r} must be a timedelta, or be given by name, as in advance(minutes=1)")
    passed = dt.timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds) + (by or dt.timedelta(0))
    if passed < dt.timedelta(0):
        raise ValueError(f"{passed.total_seconds():g} seconds: time does not go back")
    return passed.total_seconds()


def move_time(sql: Statements, seconds: float) -> Operation[int]:
    """Let time pass for the jobs that wait; returns how many there are."""
    return Operation("advance_time", sql.get("advance_time"), (seconds,), _number)


def next_due(sql: Statements, tasks: Sequence[str], queue: str | None) -> Operation[float]:
    """Ask in how many seconds the next job becomes due that is not; infinite if there is none."""
    return Operation("next_due", sql.get("next_due"), (list(tasks), queue), _seconds)


def _move(app: App, seconds: float) -> Steps[None]:
    yield move_time(app.statements, seconds)


def _number(rows: Sequence[Row]) -> int:
    return int(rows[0][0])


def _seconds(rows: Sequence[Row]) -> float:
    return math.inf if rows[0][0] is None else float(rows[0][0])
