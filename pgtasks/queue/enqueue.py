"""Adding jobs, through the public SQL functions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeVar

from pgtasks import codec
from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.errors import JobOptionError
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.database import Row
    from pgtasks.job import Job, JobSpec
    from pgtasks.sql import Statements

T = TypeVar("T")
Names = dict[int, tuple[str, str | None]]
"""By a job's id, the names of its task and queue."""


def add_job(sql: Statements, spec: JobSpec) -> Operation[list[Row]]:
    """Add one job. `jobs_of` makes jobs of the rows.

    Raises:
        PayloadError: JSON cannot hold the payload.
    """
    parameters = (
        spec.task,
        _payload(spec),
        spec.queue,
        spec.run_at,
        spec.delay_seconds,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        list(spec.flags) if spec.flags is not None else None,
        spec.job_key_mode or "replace",
    )
    return Operation("add_job", sql.get("add_job"), parameters, list, UNREAD_TIMES)


def add_jobs(sql: Statements, specs: Sequence[JobSpec]) -> Operation[list[Row]]:
    """Add many jobs in one statement. `jobs_of` makes jobs of the rows.

    Raises:
        JobOptionError: the specs differ in their job key mode, or it is `unsafe_dedupe`.
        PayloadError: JSON cannot hold one of the payloads.
    """
    preserve_run_at = _common_mode(specs) == "preserve_run_at"
    payloads = [_payload(spec, position) for position, spec in enumerate(specs)]
    parameters = (
        [spec.task for spec in specs],
        _column(payloads),
        _column([spec.queue for spec in specs]),
        _column([spec.run_at for spec in specs]),
        _column([spec.delay_seconds for spec in specs]),
        _column([spec.max_attempts for spec in specs]),
        _column([spec.job_key for spec in specs]),
        _column([spec.priority for spec in specs]),
        _column([None if spec.flags is None else codec.encode(spec.flags) for spec in specs]),
        preserve_run_at,
    )
    return Operation("add_jobs", sql.get("add_jobs"), parameters, list, UNREAD_TIMES)


def known_names(rows: Sequence[Row], specs: Sequence[JobSpec]) -> Names | None:
    """Return the names for `rows` if they follow from the specs, or None if the database must be asked.

    A row has only the numbers of its task and queue. `unsafe_dedupe` gives somebody else's row, and of rows without a
    key it cannot be told for sure which spec they came from; but mostly there is only one task and one queue.
    """
    if any(spec.job_key_mode == "unsafe_dedupe" for spec in specs):
        return None
    if len({(spec.task, spec.queue) for spec in specs if spec.job_key is None}) > 1:
        return None
    return likely_names(rows, specs)


def likely_names(rows: Sequence[Row], specs: Sequence[JobSpec]) -> Names:
    """Return the names of the specs that `rows` came from, judging by their keys, or else by their order."""
    keyed = {spec.job_key: spec for spec in specs if spec.job_key is not None}  # the last one with a key wins
    unkeyed = (spec for spec in specs if spec.job_key is None)
    found = {row[0]: next(unkeyed) if row[9] is None else keyed[row[9]] for row in rows}
    return {job_id: (spec.task, spec.queue) for job_id, spec in found.items()}


def find_names(sql: Statements, rows: Sequence[Row], specs: Sequence[JobSpec]) -> Operation[Names]:
    """Ask for the names of tasks and queues; of those that the role may not see, the likely ones are returned."""
    parameters = ([row[0] for row in rows], [row[14] for row in rows], [row[15] for row in rows])
    decode = functools.partial(_names, likely_names(rows, specs))
    return Operation("job_names", sql.get("job_names"), parameters, decode)


def jobs_of(rows: Sequence[Row], names: Names) -> list[Job]:
    """Return the jobs of rows that `add_job` or `add_jobs` gave."""
    return [job_from_row(row, *names[row[0]]) for row in rows]


def _names(likely: Names, rows: list[Row]) -> Names:
    return {row[0]: (row[1], row[2]) if row[1] is not None else likely[row[0]] for row in rows}


def _column(values: list[T | None]) -> list[T | None] | None:
    """Return an option of all jobs, or None if none of them has it, which spares the driver to write each."""
    return values if any(value is not None for value in values) else None


def _payload(spec: JobSpec, position: int | None = None) -> str | None:
    if spec.payload is None:
        return None
    number = "" if position is None else f" (number {position} of the jobs to add)"
    return codec.encode(spec.payload, f"payload of task {spec.task!r}{number}")


def _common_mode(specs: Sequence[JobSpec]) -> str:
    modes = {spec.job_key_mode or "replace" for spec in specs if spec.job_key is not None}
    if "unsafe_dedupe" in modes:
        raise JobOptionError("job_key_mode='unsafe_dedupe' is only available for one job at a time: use defer")
    if len(modes) > 1:
        raise JobOptionError("jobs that are added together share one job_key_mode; add them in two calls")
    return next(iter(modes), "replace")
