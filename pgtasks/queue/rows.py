"""How a row of the queue becomes a `Job`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks import codec
from pgtasks.errors import PayloadError
from pgtasks.job import Job, time_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.database import Row

# The columns that every statement gives first, in this order: id, payload, priority, run_at, attempts, max_attempts,
# last_error, created_at, updated_at, key, locked_at, locked_by, revision, flags. Times are microseconds since 2000.


def job_from_row(row: Row, task: str, queue: str | None) -> Job:
    """Return the job of a `row` whose first 14 columns are those above.

    A worker makes tens of thousands of them a second, and so does who adds many jobs; few are asked for more than this.
    The rest is made of the row when somebody does.
    """
    job = Job.__new__(Job)
    job.__dict__.update(
        id=row[0],
        task=task,
        queue=queue,
        payload_json=row[1],
        attempts=row[4],
        key=row[9],
        locked_micros=row[10],
        flags=() if row[13] is None else _flags(row[13]),
        _row=row,
        _later=_read,
    )
    return job


def _read(row: Row, field: str) -> Any:
    """Return a field of the job of a row, or raise `KeyError`."""
    column, read = _LATER[field]
    value = row[column]
    return value if read is None or value is None else read(value)


def _flags(stored: Any) -> tuple[str, ...]:
    """The names in the object `{"flag": true, …}`; whatever else somebody has put into the column holds none."""
    try:
        flags = codec.decode(stored)
    except PayloadError:
        return ()
    return tuple(sorted(flags)) if isinstance(flags, dict) else ()


_LATER: Mapping[str, tuple[int, Callable[[Any], Any] | None]] = {
    "priority": (2, None),
    "run_at": (3, time_at),
    "max_attempts": (5, None),
    "last_error": (6, None),
    "created_at": (7, time_at),
    "updated_at": (8, time_at),
    "locked_at": (10, time_at),
    "locked_by": (11, None),
    "revision": (12, None),
}
