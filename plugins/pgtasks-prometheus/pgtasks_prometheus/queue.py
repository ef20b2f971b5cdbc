"""What waits in the database: asked when somebody wants to know, but not too often, and not waited for too long."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from pgtasks.plugins import Application

log = logging.getLogger("pgtasks.plugins.prometheus")

_WAIT_SECONDS: Final = 3.0
"""How long a scrape waits for the database: everything else is to be had without it."""
_TASK_LIMIT: Final = 1_000
"""So many tasks are looked at, by name."""
_KIND_LIMIT: Final = 50
"""So many combinations of flags and priority of each."""
_LOOK_AT: Final = 100_000
"""So many jobs are counted at most, which takes about 0.2 seconds."""

_SETTINGS: Final = """
    set local statement_timeout = '5s';
    set local enable_seqscan = off;
    set local enable_bitmapscan = off;
    set local jit = off
"""
"""Statistics are always out of date in a queue, and must not make a walk along an index a scan of the table."""


@dataclass(frozen=True, slots=True)
class TaskQueue:
    """What there is of a task's jobs."""

    task: str
    ready: int
    """Jobs that are due and wait; counted up to the limit, like the others."""
    scheduled: int
    """Jobs of the future."""
    running: int
    failed: int
    """Permanently failed jobs."""
    oldest: float | None
    """For how many seconds the one that waits longest has been due; None if none does."""


class QueueLook:
    """Looks at the queue, and remembers what it saw for a while.

    Args:
        app: lends connections.
        interval: for how many seconds.
        limit: so many jobs of a task are counted in each state.
    """

    def __init__(self, app: Application, interval: float, limit: int) -> None:
        self._app = app
        self._interval = interval
        self._limit = limit
        self._statement = sql.SQL(files(__package__).joinpath("queue.sql").read_text()).format(
            gw=sql.Identifier(app.schema)
        )
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._ended = threading.Event()
        self._ended.set()
        self._seen: list[TaskQueue] | None = None
        self._told = False

    def get(self) -> list[TaskQueue] | None:
        """Return what there is, as of not longer ago than the interval; None if the database does not say.

        Any thread may call it. Whoever comes while it is being looked waits for the same look.
        """
        with self._lock:
            if self._ended.is_set() and time.monotonic() - self._began >= self._interval:
                self._began = time.monotonic()
                self._ended.clear()
                # In a thread, since nothing bounds how long a connection that is not to be had is waited for.
                threading.Thread(target=self._look, name="pgtasks-prometheus-queue", daemon=True).start()
        return self._seen if self._ended.wait(_WAIT_SECONDS) else None

    def _look(self) -> None:
        try:
            self._seen = self._ask()
            self._told = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the other metrics are to be had
            self._seen = None
            if not self._told:
                log.warning("queue_not_seen", extra={"error": str(error)})
            self._told = True
        finally:
            self._ended.set()

    def _ask(self) -> list[TaskQueue]:
        limits = {
            "task_limit": _TASK_LIMIT,
            "kind_limit": _KIND_LIMIT,
            "count_limit": self._limit,
            "look_at": _LOOK_AT,
        }
        with self._app.connection() as connection, connection.transaction():
            connection.execute(_SETTINGS)
            return [TaskQueue(*row) for row in connection.execute(self._statement, limits)]
