"""One listening connection: hints that there are jobs, and word of migrations.

Notifications are hints. Whatever is missed while the connection is down is found by polling, and by one look as soon
as it is up again. The connection is looked after on its own session: a server that has gone without a word (a
half-open connection) is noticed by a statement that does not come back.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.database.errors import is_outage, reason_of
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("pgtasks.listener")

_CHECK_SECONDS = 10.0
"""How long the connection may be silent before it is checked."""
_CHECK_TIMEOUT = 5.0
"""How long the answer to a check may take."""


class Listener:
    """Listens until cancelled, and connects again for as long as it takes.

    Args:
        conninfo: the database.
        pauses: gives the seconds to wait before each further try to connect.
        on_jobs: called with the number of jobs that were added; with 0 after each connecting, since some may have
            been missed.
        on_migration: called with each migration's number and whether it is breaking.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        pauses: Callable[[], Callable[[], float]],
        on_jobs: Callable[[int], None],
        on_migration: Callable[[int, bool], None],
    ) -> None:
        self._conninfo = conninfo
        self._pauses = pauses
        self._on_jobs = on_jobs
        self._on_migration = on_migration
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled."""
        next_pause = self._pauses()
        lost = False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                    await connection.execute('LISTEN "jobs:insert"')
                    await connection.execute('LISTEN "worker:migrate"')
                    self.listening = True
                    if lost:
                        log.info("listen_restored")
                    lost = False
                    next_pause = self._pauses()
                    self._on_jobs(0)
                    await self._listen(connection)
            except Exception as error:
                if not is_outage(error):
                    raise
                if not lost:
                    log.warning("listen_lost", error=reason_of(error))
                lost = True
            finally:
                self.listening = False
            await asyncio.sleep(next_pause())

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            try:
                async for notification in connection.notifies(timeout=_CHECK_SECONDS):
                    self._hear(notification)
            except UnicodeDecodeError:
                self._on_jobs(1)  # in a database without an encoding, where a payload is any bytes
            async with asyncio.timeout(_CHECK_TIMEOUT):
                await connection.execute("select 1")

    def _hear(self, notification: psycopg.Notify) -> None:
        message = _message(notification.payload)
        if notification.channel == "worker:migrate":
            number, breaking = message.get("migrationNumber"), message.get("breaking")
            if isinstance(number, int) and isinstance(breaking, bool):
                self._on_migration(number, breaking)
        else:
            count = message.get("count")
            self._on_jobs(count if isinstance(count, int) and count > 0 else 1)


def _message(payload: str) -> dict[str, Any]:
    """Return the object in a payload, or an empty one: anybody may send anything on these channels."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
