"""Adding one job. `pgtasks.queue.bulk` adds many."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pgtasks import codec
from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.queue.rows import added_job, job_from_row

if TYPE_CHECKING:
    from pgtasks.database import Row
    from pgtasks.job import Job, JobSpec
    from pgtasks.sql import Statements

Names = tuple[str, str | None]
"""The names of a job's task and queue."""


def add_job(sql: Statements, spec: JobSpec, *, notify: bool) -> Operation[Job]:
    """Add one job, unless its mode is `unsafe_dedupe`, which gives a job whose names nobody knows: see `put_job`.

    Raises:
        PayloadError: JSON cannot hold the payload.
    """
    if not notify or spec.job_key is not None:
        operation = put_job(sql, spec, notify=notify)
        decode = functools.partial(_job, (spec.task, spec.queue))
        return Operation(operation.name, operation.query, operation.parameters, decode, UNREAD_TIMES)
    payload = _payload(spec)
    parameters = (
        spec.task,
        payload,
        spec.queue,
        spec.run_at,
        spec.delay_seconds,
        spec.max_attempts,
        spec.priority,
        None if spec.flags is None else list(spec.flags),
    )
    decode = functools.partial(_added, spec, payload)
    return Operation("add_unkeyed_job", sql.get("add_unkeyed_job"), parameters, decode, UNREAD_TIMES)


def put_job(sql: Statements, spec: JobSpec, *, notify: bool) -> Operation[Row]:
    """Add one job of any kind, or change the one that has its key. `job_from_row` makes a job of the row.

    Raises:
        PayloadError: JSON cannot hold the payload.
    """
    name = "add_job" if notify else "add_job_quietly"
    parameters = (
        spec.task,
        _payload(spec),
        spec.queue,
        spec.run_at,
        spec.delay_seconds,
        spec.max_attempts,
        spec.job_key,
        spec.priority,
        None if spec.flags is None else list(spec.flags),
        spec.job_key_mode or "replace",
    )
    return Operation(name, sql.get(name), parameters, _first, UNREAD_TIMES)


def was_there(row: Row) -> bool:
    """Whether the job of a row that `put_job` gave had been there before, maybe under other names than the spec's."""
    return bool(row[12])  # its revision


def find_names(sql: Statements, row: Row) -> Operation[Names | None]:
    """Ask for the names of a job's task and queue, which its row has by number; None if the role may not see."""
    return Operation("job_names", sql.get("job_names"), (row[14], row[15]), _names)


def _payload(spec: JobSpec) -> str:
    payload = spec.payload
    return "{}" if payload is None else codec.encode(payload, f"payload of task {spec.task!r}")


def _added(spec: JobSpec, payload: str, rows: list[Row]) -> Job:
    [(job_id, created)] = rows
    return added_job(job_id, spec, payload, created)


def _job(names: Names, rows: list[Row]) -> Job:
    return job_from_row(rows[0], *names)


def _first(rows: list[Row]) -> Row:
    return rows[0]


def _names(rows: list[Row]) -> Names | None:
    return rows[0] if rows[0][0] is not None else None
