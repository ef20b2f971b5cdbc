"""How a row of the queue becomes a `Job`."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

from pgtasks import codec
from pgtasks.errors import PayloadError
from pgtasks.job import EPOCH, MICROSECOND, Job, time_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.database import Row
    from pgtasks.job import JobSpec

DEFAULT_MAX_ATTEMPTS = 25
"""What the database makes of a job for which no number of attempts is given."""

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


def added_job(job_id: int, spec: JobSpec, payload_json: str, created: int) -> Job:
    """Return the job that was added by a spec without a key, at so many microseconds since 2000.

    Nothing but the id and that time has to come from the database: all else is what the spec says.
    """
    job = Job.__new__(Job)
    attributes = {"id": job_id, "payload_json": payload_json, "_row": (spec, created), "_later": _read_added}
    if spec.flags:
        attributes["flags"] = tuple(sorted(set(spec.flags)))
    job.__dict__.update(attributes)
    return job


class AddedJobs(Sequence[Job]):
    """The jobs that a call has added, in order. Each is made when it is looked at, and again if it is once more.

    To make them all takes as long as to send them, and memory; few callers look at any.
    """

    app: object = None
    """What the jobs are bound to, so that one can wait for their ends."""

    def __init__(self) -> None:
        self._parts: list[list[Job] | _Unkeyed] = []
        self._ends: list[int] = []

    def extend(self, jobs: list[Job]) -> None:
        """Add jobs that are there."""
        self._append(jobs)

    def extend_unkeyed(self, ids: list[int], specs: list[JobSpec], payloads: list[str], created: int) -> None:
        """Add what `added_job` makes of each of these."""
        self._append(_Unkeyed(ids, specs, payloads, created))

    @overload
    def __getitem__(self, index: int) -> Job: ...

    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...

    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self[position] for position in positions]
        number = bisect_right(self._ends, positions)
        part = self._parts[number]
        job = part[positions - self._ends[number] + len(part)]
        job.__dict__["_app"] = self.app
        return job

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | AddedJobs) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def __repr__(self) -> str:
        return repr(list(self))

    def _append(self, part: list[Job] | _Unkeyed) -> None:
        self._ends.append(len(self) + len(part))
        self._parts.append(part)


class _Unkeyed:
    """Jobs without keys that were added by one statement, kept without an object for each."""

    def __init__(self, ids: list[int], specs: list[JobSpec], payloads: list[str], created: int) -> None:
        self._ids = array("q", ids)
        self._specs = specs
        self._payloads = "".join(payloads)
        self._ends = array("q", accumulate(map(len, payloads), initial=0))
        self._created = created

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Job:
        payload = self._payloads[self._ends[index] : self._ends[index + 1]]
        return added_job(self._ids[index], self._specs[index], payload, self._created)


def _read(row: Row, field: str) -> Any:
    """Return a field of the job of a row, or raise `KeyError`."""
    if field == "due_micros":
        return max(row[3], row[7])
    column, read = _LATER[field]
    value = row[column]
    return value if read is None or value is None else read(value)


def _read_added(added: tuple[JobSpec, int], field: str) -> Any:
    """Return a field of a job that was just added, or raise `KeyError`."""
    return _ADDED[field](*added)


def _due(spec: JobSpec, created: int) -> Any:
    """When the job may run: what the database makes of it."""
    if spec.run_at is not None:
        return time_at((spec.run_at - EPOCH) // MICROSECOND)
    return time_at(created + round((spec.delay_seconds or 0) * 1_000_000))


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

_ADDED: Mapping[str, Callable[[JobSpec, int], Any]] = {
    "task": lambda spec, _: spec.task,
    "queue": lambda spec, _: spec.queue,
    "attempts": lambda *_: 0,
    "key": lambda *_: None,
    "priority": lambda spec, _: 0 if spec.priority is None else spec.priority,
    "run_at": _due,
    "max_attempts": lambda spec, _: DEFAULT_MAX_ATTEMPTS if spec.max_attempts is None else spec.max_attempts,
    "last_error": lambda *_: None,
    "created_at": lambda _, created: time_at(created),
    "updated_at": lambda _, created: time_at(created),
    "locked_at": lambda *_: None,
    "locked_by": lambda *_: None,
    "revision": lambda *_: 0,
}
