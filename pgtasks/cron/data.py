"""Entries as JSON: for the way from where the application is loaded to its supervisor, and for the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks import codec
from pgtasks.cron.entry import CronEntry
from pgtasks.cron.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_entry(entry: CronEntry) -> str:
    """Return an entry as JSON; what is not set is left out.

    Raises:
        PayloadError: JSON cannot hold its payload.
    """
    data = {
        "id": entry.id,
        "task": entry.task,
        "schedule": entry.schedule.text,
        "timezone": entry.schedule.timezone,
        "source": entry.source,
        "payload": None if entry.payload is None else dict(entry.payload),
        "backfill": entry.backfill or None,
        "max_attempts": entry.max_attempts,
        "queue": entry.queue,
        "priority": entry.priority,
        "job_key": entry.job_key,
        "job_key_mode": entry.job_key_mode,
        "flags": None if entry.flags is None else list(entry.flags),
    }
    return codec.encode(
        {name: value for name, value in data.items() if value is not None}, f"payload of cron entry {entry.id!r}"
    )


def read_entry(text: str | bytes) -> CronEntry:
    """Return the entry that `write_entry` was given."""
    data: Mapping[str, Any] = codec.decode(text)
    options = {name: value for name, value in data.items() if name not in ("schedule", "timezone", "flags")}
    flags = data.get("flags")
    schedule = Schedule(data["schedule"], data["timezone"])
    return CronEntry(**options, schedule=schedule, flags=None if flags is None else tuple(flags))
