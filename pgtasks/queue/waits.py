"""Waiting for jobs to end: saying that one waits, and looking how they have ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgtasks.database import Operation

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Iterable, Mapping

    from pgtasks.database import Row
    from pgtasks.sql import Statements

CHANNEL: Final = "pgtasks:ended"
"""Where the ids of jobs that have ended and are waited for are told, with commas between them."""


@dataclass(frozen=True, slots=True)
class End:
    """How a job has ended."""

    job_id: int
    state: str
    """`succeeded`, `failed`, `cancelled`; `gone`, if nothing more is known than that it is not there; or `open`, if it
    is perhaps not there yet, since the transaction that has added it is still open."""
    task: str | None
    """Name of its task, if that is known."""
    value: bytes | None
    """What its handler has returned, as JSON, if that was stored."""
    error: str | None
    """Why it has failed, or was cancelled."""


def ended_jobs(sql: Statements, asked: Mapping[int, dt.datetime | None]) -> Operation[dict[int, End]]:
    """Look which jobs have ended or failed for good, and how.

    Args:
        sql: the statements.
        asked: by id, when each job was created, or None if it is known that its transaction has committed.
    """
    parameters = (_array(asked), list(asked.values()))
    return Operation("ended_jobs", sql.get("ended_jobs"), parameters, _ends)


def register_waits(sql: Statements, waiter_id: uuid.UUID, job_ids: Iterable[int], seconds: float) -> Operation[None]:
    """Ask for a notification when jobs end, within so many seconds."""
    return Operation("register_waits", sql.get("register_waits"), (waiter_id, _array(job_ids), seconds), _none)


def forget_waits(sql: Statements, waiter_id: uuid.UUID, job_ids: Iterable[int]) -> Operation[None]:
    """Take back what `register_waits` did."""
    return Operation("forget_waits", sql.get("forget_waits"), (waiter_id, _array(job_ids)), _none)


def _array(numbers: Iterable[int]) -> str:
    return f"{{{','.join(map(str, numbers))}}}"


def _ends(rows: list[Row]) -> dict[int, End]:
    return {row[0]: End(*row) for row in rows}


def _none(_rows: list[Row]) -> None:
    return None
