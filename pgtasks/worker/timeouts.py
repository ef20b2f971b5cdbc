"""How long each statement of a worker may take before it is given up, and tried again where it can be.

The time counts from when the statement is wanted, so it includes the wait for a connection (at most ten seconds) and
for a lock that somebody else holds. Giving up cancels the statement in the server; a server that does not answer to
that either loses the connection after ten seconds more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HEARTBEAT: Final = 5.0
"""Of the heartbeat. Far below `stale_after`, so that there are several tries before the host is taken for dead."""

TIMEOUTS: Final[Mapping[str, float | None]] = {
    "heartbeat": HEARTBEAT,
    "register_worker": 15.0,
    "notify": 5.0,
    # Around jobs: mostly milliseconds, longer only behind somebody's lock on a whole table.
    "claim_jobs": 30.0,
    "finish_jobs": 30.0,
    "finish_successes": 30.0,
    "finish_and_keep": 30.0,
    "advance_queues": 30.0,
    "release_worker": 30.0,
    "recover_worker": 30.0,
    # The end of a job's own transaction, which has what time the job has.
    "finish_in_transaction": None,
    "keep_result": None,
    # Of use for a moment; it gives up by itself where it would have to wait for a lock.
    "report_progress": 5.0,
    # Once a minute; who comes second waits for who was first.
    "record_crontabs": 30.0,
    "schedule_crontab": 30.0,
    "settle_timetables": 60.0,
    # Looks.
    "due_timetables": 15.0,
    "has_runnable": 10.0,
    "unknown_tasks": 15.0,
    "breaking_step": 15.0,
    "find_cancellations": 10.0,
    # Now and then, and over whole tables.
    "register_tasks": 60.0,
    "restore_names": 60.0,
    "sweep_cancellations": 60.0,
    "sweep_stale_locks": 120.0,
    "sweep_results": 60.0,
}
"""Seconds by the statement's name, or None for no limit here; the tests compare it with what the worker uses."""


def timeout_of(statement: str) -> float | None:
    """Return how many seconds a statement may take, if there is a limit.

    >>> timeout_of("heartbeat")
    5.0
    """
    return TIMEOUTS[statement]
