"""How a row of the queue becomes a `Job`."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pgtasks import codec
from pgtasks.errors import PayloadError
from pgtasks.job import Job, time_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.database import Row

# The columns that every statement gives first, in this order: id, payload, priority, run_at, attempts, max_attempts,
# last_error, created_at, updated_at, key, locked_at, locked_by, revision, flags.


def job_from_row(row: Row, task: str, queue: str | None) -> Job:
    """Return the job of a `row` whose first 14 columns are those above."""
    return Job(
        id=row[0],
        task=task,
        queue=queue,
        payload_json=row[1],
        priority=row[2],
        run_at=row[3],
        attempts=row[4],
        max_attempts=row[5],
        last_error=row[6],
        created_at=row[7],
        updated_at=row[8],
        key=row[9],
        locked_at=row[10],
        locked_by=row[11],
        revision=row[12],
        flags=_flags(row[13]),
    )


def job_from_claim(row: Row) -> Job:
    """Return the job of a row of `claim_jobs`, in which times are microseconds since 2000.

    A worker makes tens of thousands of them a second, and few handlers ask for more than the payload: the rest is made
    of the row when somebody does.
    """
    job = Job.__new__(Job)
    job.__dict__.update(
        id=row[0],
        task=row[1],
        queue=row[2],
        payload_json=row[3],
        attempts=row[4],
        key=row[5],
        locked_micros=row[6],
        locked_by=row[7],
        _row=row,
        _later=_LATER,
    )
    return job


def _flags(stored: Any) -> tuple[str, ...]:
    """The names in the object `{"flag": true, …}`; whatever else somebody has put into the column holds none."""
    if stored is None:
        return ()
    try:
        flags = codec.decode(stored)
    except PayloadError:
        return ()
    return tuple(sorted(flags)) if isinstance(flags, dict) else ()


_LATER: Mapping[str, Callable[[Row], Any]] = {
    "locked_at": lambda row: time_at(row[6]),
    "priority": itemgetter(8),
    "run_at": lambda row: time_at(row[9]),
    "max_attempts": itemgetter(10),
    "last_error": itemgetter(11),
    "created_at": lambda row: time_at(row[12]),
    "updated_at": lambda row: time_at(row[13]),
    "revision": itemgetter(14),
    "flags": lambda row: _flags(row[15]),
}
