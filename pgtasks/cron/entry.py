"""A cron entry: what is to be added as a job, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pgtasks.errors import CronError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pgtasks.cron.schedule import Schedule

CronKeyMode = Literal["replace", "preserve_run_at"]
RESERVED: Final = "_cron"
"""The key of a payload that says for which time the job is."""
_LONGEST_ID: Final = 512
"""Characters of an entry's name; an index has to hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronEntry:
    """A task that is to be run at the times of a schedule."""

    id: str
    """Name by which the database remembers the entry; unique in all that schedule into one schema."""
    task: str
    """Name of the task."""
    schedule: Schedule
    """When."""
    source: str
    """Where it is from, for messages: `crontab:3`, `shop/tasks.py:12`, `plugin x`, `table`."""
    payload: Mapping[str, Any] | None = None
    """The job's payload, an object; `_cron` is added to it. None is an empty one."""
    backfill: float = 0.0
    """Seconds for which what was missed is made up for; 0: not at all."""
    max_attempts: int | None = None
    """How often a job may be tried; None leaves it to the database, like the options below."""
    queue: str | None = None
    """Name of a queue."""
    priority: int | None = None
    """From -32768 to 32767, lower runs earlier."""
    job_key: str | None = None
    """A waiting job with this key is replaced."""
    job_key_mode: CronKeyMode | None = None
    """`replace` or `preserve_run_at`."""
    flags: tuple[str, ...] | None = None
    """Flags of the job."""


def check_id(id: object) -> None:
    """Raise a CronError unless the database can hold the name of an entry."""
    if not isinstance(id, str) or not id:
        raise CronError(f"id={id!r} must be the name of the entry, a string that is not empty")
    if len(id) > _LONGEST_ID:
        raise CronError(f"id={id[:20]!r}… has {len(id)} characters; at most {_LONGEST_ID} are allowed")
    if "\0" in id or any("\ud800" <= character <= "\udfff" for character in id):
        raise CronError(f"id={id!r} holds a character that PostgreSQL cannot store")


def check_key_mode(mode: object) -> None:
    """Raise a CronError unless `mode` is a `CronKeyMode`."""
    known = get_args(CronKeyMode)
    if mode not in known:
        raise CronError(
            f"job_key_mode={mode!r} is none of {', '.join(map(repr, known))}{did_you_mean(str(mode), known)}"
        )


def payload_at(payload: Mapping[str, Any] | None, at: datetime, *, backfilled: bool = False) -> dict[str, Any]:
    """Return the payload of an entry's job for one of its times.

    >>> from datetime import datetime
    >>> payload_at({"n": 1}, datetime(2026, 5, 4, 12, 30, tzinfo=UTC))
    {'n': 1, '_cron': {'ts': '2026-05-04T12:30:00.000Z', 'backfilled': False}}
    """
    written = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**(payload or {}), RESERVED: {"ts": written, "backfilled": backfilled}}
