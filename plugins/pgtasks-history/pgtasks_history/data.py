"""What the history consists of."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, get_args

from pgtasks import PgtasksError

Outcome = Literal["succeeded", "failed", "cancelled", "superseded", "removed"]
"""How a job has ended:

- `succeeded`: its handler has returned;
- `failed`: for good; it stays in the queue until somebody retries or deletes it;
- `cancelled`: a plugin has decided that it is not to run (again), or somebody has cancelled it while it ran;
- `superseded`: it was replaced by its key or removed while it ran, and that run did not succeed;
- `removed`: it was deleted, or completed by hand, while it did not run.
"""

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)


class HistoryError(PgtasksError, ValueError):
    """The history cannot be read as it was asked for."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How one job has ended. A job that had failed and was retried has another entry for its next end."""

    id: int
    """Of the entry."""
    job_id: int
    task: str | None
    """None if its name had been forgotten by then."""
    queue: str | None
    key: str | None
    outcome: Outcome
    attempts: int
    """How often it had been started, the last time included."""
    max_attempts: int
    priority: int
    created_at: dt.datetime | None
    """When it was added, by the database's clock, like all times here; None if Python has no such time."""
    run_at: dt.datetime | None
    """When its last attempt was due; None if Python has no such time."""
    started_at: dt.datetime | None
    """When a worker took it for the last time; None if none held it."""
    finished_at: dt.datetime
    """When the transaction began that has ended it."""
    worker: str | None
    """Who held it."""
    error: str | None
    """The error of the last attempt that failed, also of one that succeeded later; the reason of a cancellation."""
    flags: tuple[str, ...]
    payload_json: str | None
    """The payload as it was stored, if payloads are recorded."""

    @property
    def seconds(self) -> float | None:
        """How long it was held the last time: from being taken to the end of its transaction."""
        return None if self.started_at is None else (self.finished_at - self.started_at).total_seconds()


COLUMNS: Final = """
    id, job_id, task, queue, key, outcome, attempts, max_attempts, priority,
    case when created_at between '0001-01-02' and '9999-12-30' then created_at end,
    case when run_at between '0001-01-02' and '9999-12-30' then run_at end,
    started_at, finished_at, worker, error,
    array(select jsonb_object_keys(case when jsonb_typeof(flags) = 'object' then flags end) order by 1),
    payload::text
"""
"""What `entry_from_row` takes."""


def entry_from_row(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row of `COLUMNS`."""
    created_at, run_at, started_at = (None if moment is None else moment.astimezone(dt.UTC) for moment in row[9:12])
    return Entry(
        id=row[0],
        job_id=row[1],
        task=row[2],
        queue=row[3],
        key=row[4],
        outcome=row[5],
        attempts=row[6],
        max_attempts=row[7],
        priority=row[8],
        created_at=created_at,
        run_at=run_at,
        started_at=started_at,
        finished_at=row[12].astimezone(dt.UTC),
        worker=row[13],
        error=row[14],
        flags=tuple(row[15]),
        payload_json=row[16],
    )
