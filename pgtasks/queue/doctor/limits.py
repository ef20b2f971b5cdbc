"""What a look may cost, and how it is planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgtasks.database import transaction_with

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    import psycopg

LOCK_TIMEOUT: Final = 1.0
"""Seconds that a look may wait for somebody's lock on a table."""

TIMEOUTS: Final[Mapping[str, float]] = {
    "notify": 5.0,
    # Of the catalogs and of what the server knows of itself.
    "migrate": 5.0,
    "hidden_from": 2.0,
    "doctor_session": 2.0,
    "doctor_clock": 2.0,
    "doctor_server": 2.0,
    "doctor_held_cleanup": 2.0,
    "doctor_table_locks": 2.0,
    "doctor_tables": 2.0,
    "doctor_indexes": 2.0,
    # Of jobs. Milliseconds, unless an index that leads to them is missing.
    "doctor_backlog": 2.0,
    "doctor_stale_workers": 2.0,
    "doctor_old_locks": 2.0,
    "doctor_failed_jobs": 2.0,
}
"""Seconds that each statement may take, by its name; `migrate` are those that find out what the schema lacks."""

_JOBS: Final = ("doctor_backlog", "doctor_stale_workers", "doctor_old_locks", "doctor_failed_jobs")
"""Statements that go along the indexes that they are made for: statistics of the queue's tables are of the past."""
_ALONG_INDEXES: Final = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off", "jit": "off"}


def limited(connection: psycopg.Connection[Any], name: str) -> AbstractContextManager[None]:
    """Open a transaction for the statement of this name, in which it can change nothing and has so much time."""
    settings = {
        "statement_timeout": f"{TIMEOUTS[name] * 1000:.0f}ms",
        "lock_timeout": f"{LOCK_TIMEOUT * 1000:.0f}ms",
        "transaction_read_only": "on",
        "search_path": "",
    }
    return transaction_with(connection, **settings, **(_ALONG_INDEXES if name in _JOBS else {}))
