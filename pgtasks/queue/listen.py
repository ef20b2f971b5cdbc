"""One listening connection: hints that there are jobs, and word of migrations and of cancelled jobs.

Notifications are hints. Whatever is missed while nothing can be heard is found by polling, and by one look as soon as
it can be heard again.

Whether it hears is tried from end to end, at the start and every ten seconds after: a notification is sent over another
connection, on a channel of its own, and has to arrive. That notices a server that has gone without a word, a server
that is not the one any more to which all others write, and a pooler in transaction mode, behind which `LISTEN` is
obeyed and nothing ever heard: the session that listens is the pooler's, not ours. Only after the first try are the real
channels listened to, so that no session of such a pooler keeps on hearing what is of no use to it.

States of the listener:

    connecting  nothing is heard; after a failure with growing pauses
    listening   the last try was heard
    deaf        nothing can be heard, for a reason that time does not mend: it tries again, more and more rarely
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg

from pgtasks.database import Operation
from pgtasks.database.connecting import is_pooled
from pgtasks.database.errors import is_outage, reason_of
from pgtasks.logs import get_logger
from pgtasks.queue.cancel import CHANNEL as CANCEL_CHANNEL
from pgtasks.queue.timetables import CHANNEL as TIMETABLES_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgtasks.database import Row
    from pgtasks.sql import Statements

log = get_logger("pgtasks.listener")

_CHECK_SECONDS = 10.0
"""How long after one try the next one is made."""
_CHECK_TIMEOUT = 5.0
"""How long the notification may be on its way."""
_DEAF_PAUSES = (10.0, 300.0)
"""Seconds to the next try when nothing can be heard; they double from the one to the other."""


def notify(sql: Statements, channel: str, payload: str) -> Operation[None]:
    """Send a notification."""
    return Operation("notify", sql.get("notify"), (channel, payload), _none)


class _DeafError(Exception):
    """`LISTEN` was obeyed, and nothing can be heard."""


class Listener:
    """Listens until cancelled, and connects again for as long as it takes.

    Args:
        conninfo: where to listen.
        notify: sends a payload on a channel over another connection; returns False if that was not possible.
        separate: whether that other connection was configured with an address of its own.
        pauses: gives the seconds to wait before each further try to connect.
        on_jobs: called with the number of jobs that were added; with 0 after each connecting, since some may have
            been missed.
        on_breaking: called when the schema is said to have taken a breaking step, and after each connecting, since that
            may have been missed.
        on_cancelled: called with the id of a worker that holds jobs which somebody has cancelled.
        on_timetables: called when there is a timetable whose next time has to be found out.
        on_lost: called with the error when notifications are not heard any more.
        on_restored: called when they are again.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        notify: Callable[[str, str], Awaitable[bool]],
        separate: bool = False,
        pauses: Callable[[], Callable[[], float]],
        on_jobs: Callable[[int], None],
        on_breaking: Callable[[], None],
        on_cancelled: Callable[[str], None] | None = None,
        on_timetables: Callable[[], None] | None = None,
        on_lost: Callable[..., None] | None = None,
        on_restored: Callable[[], None] | None = None,
    ) -> None:
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._conninfo = conninfo
        self._notify = notify
        self._separate = separate
        self._pauses = pauses
        self._on_jobs = on_jobs
        self._on_breaking = on_breaking
        self._on_cancelled = on_cancelled
        self._on_timetables = on_timetables
        self._channel = f"pgtasks:echo:{secrets.token_hex(8)}"
        self._heard: str | None = None
        self._next_pause = pauses()
        self._deaf_pause = _DEAF_PAUSES[0]
        self._told: str | None = None
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._connect_and_listen()
            except _DeafError as error:
                self._tell("listen_impossible", message=str(error))
                pause = self._deaf_pause
                self._deaf_pause = min(_DEAF_PAUSES[1], 2 * pause)
            except Exception as error:
                if not (is_outage(error) or isinstance(error, psycopg.Error)):
                    raise
                self._tell("listen_lost", error=reason_of(error))
                pause = self._next_pause()
            finally:
                self.listening = False
            await asyncio.sleep(pause)

    async def _connect_and_listen(self) -> NoReturn:
        """Listen on a new connection until it is of no use any more, and raise what is wrong with it."""
        connecting = psycopg.AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        async with await connecting as connection:
            pooled = await is_pooled(connection)
            await connection.execute(f'LISTEN "{self._channel}"'.encode())
            heard = await self._hears_itself(connection)
            if heard is None:
                raise ConnectionError("whether notifications arrive cannot be tried out")
            if not heard:
                raise self._explanation(pooled=pooled)
            await connection.execute(f'LISTEN "{CANCEL_CHANNEL}"'.encode())
            if self._on_timetables is not None:
                await connection.execute(f'LISTEN "{TIMETABLES_CHANNEL}"'.encode())
            await connection.execute('LISTEN "jobs:insert"')
            await connection.execute('LISTEN "worker:migrate"')
            self._is_listening()
            while True:
                await self._read(connection, _CHECK_SECONDS)
                if await self._hears_itself(connection) is False:
                    raise TimeoutError(f"a notification did not arrive within {_CHECK_TIMEOUT:g} s")

    def _is_listening(self) -> None:
        self.listening = True
        if self._told is not None:
            log.info("listen_restored")
            if self._on_restored is not None:
                self._on_restored()
        self._told = None
        self._next_pause = self._pauses()
        self._deaf_pause = _DEAF_PAUSES[0]
        self._on_jobs(0)
        self._on_breaking()
        if self._on_timetables is not None:
            self._on_timetables()

    def _tell(self, event: str, **keys: str) -> None:
        """Log what is wrong, once until something else is."""
        if self._told != event:
            log.warning(event, **keys)
            if self._on_lost is not None:
                self._on_lost(error=next(iter(keys.values())))
        self._told = event

    def _explanation(self, *, pooled: bool) -> Exception:
        if pooled:
            return _DeafError(
                "the connection goes through a pooler that gives each transaction another session, as PgBouncer does "
                "with pool_mode = transaction, and so nothing can be heard; jobs are found by polling. Set listen_url "
                "to an address without the pooler or in session mode, or listen to false"
            )
        if self._separate:
            return _DeafError(
                "what is sent at database_url is not heard at listen_url, so jobs are found by polling: both have to "
                "lead to the same database"
            )
        return TimeoutError(f"a notification did not arrive within {_CHECK_TIMEOUT:g} s")

    async def _hears_itself(self, connection: psycopg.AsyncConnection[Any]) -> bool | None:
        """Return whether a notification arrives; None if it could not be sent, so that nobody knows."""
        token = secrets.token_hex(8)
        if not await self._notify(self._channel, token):
            return None
        deadline = time.monotonic() + _CHECK_TIMEOUT
        while self._heard != token and (left := deadline - time.monotonic()) > 0:
            await self._read(connection, left, stop_after=1)
        return self._heard == token

    async def _read(
        self, connection: psycopg.AsyncConnection[Any], seconds: float, stop_after: int | None = None
    ) -> None:
        try:
            async for notification in connection.notifies(timeout=seconds, stop_after=stop_after):
                self._hear(notification)
        except UnicodeDecodeError:
            self._on_jobs(1)  # in a database without an encoding, where a payload is any bytes

    def _hear(self, notification: psycopg.Notify) -> None:
        if notification.channel == self._channel:
            self._heard = notification.payload
            return
        if notification.channel == CANCEL_CHANNEL:
            if self._on_cancelled is not None:
                self._on_cancelled(notification.payload)
            return
        if notification.channel == TIMETABLES_CHANNEL:
            if self._on_timetables is not None:
                self._on_timetables()
            return
        message = _message(notification.payload)
        if notification.channel == "worker:migrate":
            if message.get("breaking") is True:
                self._on_breaking()
        else:
            count = message.get("count")
            self._on_jobs(count if isinstance(count, int) and count > 0 else 1)


def hears(
    listening: psycopg.Connection[Any], send: Callable[[str, str], object], seconds: float = _CHECK_TIMEOUT
) -> bool:
    """Try once, as a listener does all the time, whether notifications arrive at a connection of blocking code.

    Args:
        listening: where to listen; it should be closed afterwards.
        send: sends a payload on a channel, over another connection.
        seconds: how long the notification may be on its way.
    """
    channel = f"pgtasks:echo:{secrets.token_hex(8)}"
    listening.execute(f'LISTEN "{channel}"'.encode())
    send(channel, "")
    return any(True for _ in listening.notifies(timeout=seconds, stop_after=1))


def _message(payload: str) -> dict[str, Any]:
    """Return the object in a payload, or an empty one: anybody may send anything on these channels."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _none(_rows: list[Row]) -> None:
    return None
