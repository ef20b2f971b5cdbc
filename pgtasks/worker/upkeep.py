"""What a host does for the queue now and then."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from pgtasks.database import Operation
from pgtasks.errors import did_you_mean
from pgtasks.logs import get_logger
from pgtasks.queue.cancel import sweep_cancellations
from pgtasks.queue.claim import find_unknown_tasks, restore_names
from pgtasks.queue.finish import sweep_results, sweep_stale_locks
from pgtasks.queue.migrate import KNOWN_REFERENCE_REVISION
from pgtasks.sql import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.worker.link import DatabaseLink

log = get_logger("pgtasks.worker")

_SWEEP_SECONDS = (480.0, 600.0)
_SWEEP_RESULTS = 10_000
"""Expired results to delete in one statement."""
_UNKNOWN_SECONDS = 60.0
_RESTORE_SECONDS = 20.0
_RESTORE_AGE_SECONDS = 60.0
_SCHEMA_SECONDS = 60.0


async def sweep_now_and_then(link: DatabaseLink) -> None:
    """Clear old locks, what is left of cancelled jobs, and results that have expired, every eight to ten minutes."""
    while True:
        with link.forgiving("sweep_stale_locks"):
            cleared = await link.attempt(sweep_stale_locks(link.statements))
            if any(cleared.values()):
                log.warning("stale_locks_cleared", **cleared)
        with link.forgiving("sweep_cancellations"):
            if removed := await link.attempt(sweep_cancellations(link.statements)):
                log.info("cancelled_jobs_removed", jobs=removed)
        with link.forgiving("sweep_results"):
            while await link.attempt(sweep_results(link.statements, _SWEEP_RESULTS)) == _SWEEP_RESULTS:
                pass
        await asyncio.sleep(random.uniform(*_SWEEP_SECONDS))  # noqa: S311 - jitter


async def restore_now_and_then(link: DatabaseLink, tasks: Sequence[str], seconds: float = _RESTORE_SECONDS) -> None:
    """Put back tasks and queues that somebody has deleted and that are needed, as Graphile Worker's cleanup may do.

    What was deleted lately is looked at each time, and everything at first and whenever that was long ago: then there
    may be more of it, or a job whose transaction was open for long.
    """
    clock = asyncio.get_running_loop().time
    next_full = clock()
    while True:
        full = clock() >= next_full
        with link.forgiving("restore_names"):
            restored = await link.attempt(restore_names(link.statements, tasks, None if full else _RESTORE_AGE_SECONDS))
            if any(restored):
                log.info("names_restored", tasks=restored.tasks, queues=restored.queues, jobs=restored.jobs)
            if full:
                next_full = clock() + random.uniform(*_SWEEP_SECONDS)  # noqa: S311 - jitter
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter


async def watch_for_unknown_tasks(link: DatabaseLink, tasks: Sequence[str]) -> None:
    """Log, once for each, the tasks that jobs wait for and nobody here knows. Their jobs stay as they are."""
    reported: set[str] = set()
    while True:
        with link.forgiving("unknown_tasks"):
            found = await link.attempt(find_unknown_tasks(link.statements, [*tasks, *reported]))
            for name, count in found.items():
                message = f"no task of that name here{did_you_mean(name, tasks)}"
                log.warning("task_unknown", task=name, waiting=count, message=message)
            reported.update(found)
        await asyncio.sleep(_UNKNOWN_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter


async def watch_for_breaking_step(link: DatabaseLink, asked: asyncio.Event, seconds: float = _SCHEMA_SECONDS) -> int:
    """Wait until the schema has taken a breaking step that this release does not know, and return its number.

    The word of it is only a hint, which may be wrong or be missed: what counts is what the schema says, each time that
    `asked` is set and now and then.
    """
    known = (KNOWN_REFERENCE_REVISION, steps()[-1].id)
    look: Operation[int | None] = Operation(
        "breaking_step", link.statements.get("breaking_step"), known, lambda rows: rows[0][0]
    )
    while True:
        asked.clear()
        with link.forgiving(look.name):
            number, _ = await link.insist(look)
            if number is not None:
                return number
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
