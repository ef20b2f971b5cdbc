"""Jobs as commands show them: a row of a table, a list of facts, an object for programs."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final

import orjson

from pgtasks.cli.progress_output import progress_fact
from pgtasks.cli.tables import Column, as_utc, shorten, show_facts, show_table, when, when_exactly
from pgtasks.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.job import Job
    from pgtasks.progress import JobProgress
    from pgtasks.queue.admin import JobState

_COLUMNS: Final = (
    Column("id", right=True),
    Column("state"),
    Column("task", fold=True),
    Column("queue", fold=True),
    Column("priority", right=True),
    Column("attempts", right=True),
    Column("run at"),
    Column("key", fold=True),
    Column("last error", fold=True),
)
_COMPACT: Final = 72
"""A payload of so many characters stands on one line."""


def state_of(job: Job) -> JobState:
    """Return where a job stands, by this machine's clock."""
    if job.locked_at is not None:
        return "running"
    if job.attempts >= job.max_attempts:
        return "failed"
    return "scheduled" if job.run_at > dt.datetime.now(dt.UTC) else "ready"


def show_jobs(jobs: Iterable[Job]) -> None:
    """Write a table of jobs."""
    show_table(
        _COLUMNS,
        [
            (
                str(job.id),
                state_of(job),
                job.task,
                job.queue or "",
                str(job.priority),
                f"{job.attempts}/{job.max_attempts}",
                when(job.run_at),
                job.key or "",
                shorten(job.last_error or ""),
            )
            for job in jobs
        ],
    )


def show_job(job: Job, progress: JobProgress | None = None) -> None:
    """Write all that is known about a job."""
    facts = [
        ("id", str(job.id)),
        ("state", state_of(job)),
        ("task", job.task),
        ("queue", job.queue),
        ("key", job.key),
        ("flags", ", ".join(job.flags)),
        ("priority", str(job.priority)),
        ("attempts", f"{job.attempts} of {job.max_attempts}"),
        ("run at", when_exactly(job.run_at)),
        ("added", when_exactly(job.created_at)),
        ("changed", when_exactly(job.updated_at)),
        ("locked", when_exactly(job.locked_at) if job.locked_at else None),
        ("locked by", job.locked_by),
        ("progress", progress_fact(progress) if progress else None),
        ("revision", str(job.revision)),
        ("payload", _readable(job)),
        ("last error", (job.last_error or "").rstrip()),
    ]
    show_facts((name, value) for name, value in facts if value)


def job_object(job: Job) -> dict[str, Any]:
    """Return a job for `show_json`, with the payload just as it is stored."""
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "state": state_of(job),
        "payload": orjson.Fragment(_stored(job).replace("\n", " ").replace("\r", " ")),  # line ends are only spacing
        "priority": job.priority,
        "run_at": as_utc(job.run_at),
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "last_error": job.last_error,
        "created_at": as_utc(job.created_at),
        "updated_at": as_utc(job.updated_at),
        "key": job.key,
        "locked_at": as_utc(job.locked_at) if job.locked_at else None,
        "locked_by": job.locked_by,
        "revision": job.revision,
        "flags": job.flags,
    }


def _stored(job: Job) -> str:
    return job.payload_json if isinstance(job.payload_json, str) else job.payload_json.decode()


def _readable(job: Job) -> str:
    """Return a payload, over several lines if it is long and Python can read it."""
    stored = _stored(job).strip()
    if len(stored) <= _COMPACT:
        return stored
    try:
        return json.dumps(job.payload, indent=2, ensure_ascii=False)
    except (PayloadError, TypeError, ValueError, RecursionError):  # numbers that no float is exactly, for one
        return stored
