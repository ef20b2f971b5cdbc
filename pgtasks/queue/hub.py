"""Waiting for jobs to end, from blocking and from asyncio code, in any number of threads and event loops.

All waits of a process are served by one thread with one connection, which belongs to no pool: it says in the database
what is waited for, listens, looks when it is told, and wakes whoever waits. It is started by the first wait, and ends
when there has been none for a while.

To be told is not enough. A job may end just after the first look and just before the registration can be seen, the
connection may lead through a pooler, or a Graphile Worker or somebody by hand may have ended the job, which tell
nobody. So it also looks at each job by itself, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import itertools
import math
import os
import random
import select
import socket
import threading
import time
import uuid
import weakref
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgtasks.database import run
from pgtasks.database.connecting import is_pooled_blocking
from pgtasks.database.errors import is_outage
from pgtasks.errors import JobOptionError, JobWaitTimeoutError
from pgtasks.queue.admin import check_visible
from pgtasks.queue.waits import CHANNEL, ended_jobs, forget_waits, register_waits

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    import psycopg
    from psycopg.pq.abc import PGconn

    from pgtasks.queue.waits import End
    from pgtasks.sql import Statements

FIRST_PAUSE = 0.05
"""Seconds from the first look to the next; they double from one to the other."""
LONGEST_PAUSE = 5.0
"""Seconds between two looks, at most."""
_COALESCE: Final = 0.01
"""Seconds by which a look may come early, so that one statement serves many."""
_KEPT: Final = 150.0
"""Seconds after which a registration expires that is not renewed."""
_RENEWED: Final = 60.0
"""Seconds after which it is."""
_LINGERS: Final = 30.0
"""Seconds without a wait after which the thread ends."""
_OPEN: Final = 1.0
"""Seconds that the transaction which adds a job may be open, before whoever waits for the job is told."""
_LATE: Final = 5.0
"""Seconds that the database may be late with the last look, at the end of the time given."""
_RECONNECT: Final = (0.1, 5.0)
"""Seconds between two tries to connect, at first and at most."""


class Waits:
    """The waits of an application's code. A forked child has its own.

    Args:
        connect: opens the connection.
        sql: the statements.
        listen: whether to listen, or only to look now and then.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], sql: Statements, *, listen: bool) -> None:
        self._new_hub = functools.partial(_Hub, connect, sql, listen=listen)
        self._hubs: dict[int, _Hub] = {}
        weakref.finalize(self, _close_own, self._hubs)

    def wait(self, job_id: int, created_at: dt.datetime | None, timeout: float | None) -> End:
        """Wait until a job has ended.

        Args:
            job_id: which.
            created_at: when it was, if it is not known whether its transaction has committed.
            timeout: seconds; None: for as long as it takes. However short it is, the database is asked once.

        Raises:
            JobWaitTimeoutError: the job has not ended in time.
            JobOptionError: the transaction that adds the job is still open.
        """
        hub, waiter = self._begin(job_id, created_at, timeout)
        end = None
        try:
            with contextlib.suppress(TimeoutError):
                end = waiter.future.result(None if timeout is None else timeout + _LATE)
        finally:
            hub.remove(waiter)
        return _in_time(end, job_id, timeout)

    async def wait_async(self, job_id: int, created_at: dt.datetime | None, timeout: float | None) -> End:
        """Do what `wait` does."""
        hub, waiter = self._begin(job_id, created_at, timeout)
        end = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if timeout is None else timeout + _LATE):
                    end = await asyncio.wrap_future(waiter.future)
        finally:
            hub.remove(waiter)
        return _in_time(end, job_id, timeout)

    def close(self) -> None:
        """Close the connection. Whoever waits yet has it opened again."""
        _close_own(self._hubs)

    def _begin(self, job_id: int, created_at: dt.datetime | None, timeout: float | None) -> tuple[_Hub, _Waiter]:
        pid = os.getpid()
        hub = self._hubs.get(pid) or self._hubs.setdefault(pid, self._new_hub())
        began = time.monotonic()
        deadline = math.inf if timeout is None else began + timeout
        waiter = _Waiter(job_id, created_at, began, deadline, FIRST_PAUSE)
        hub.add(waiter)
        return hub, waiter


@dataclass(eq=False, slots=True)
class _Waiter:
    job_id: int
    created_at: dt.datetime | None
    """Until it is known that its transaction has committed."""
    began: float
    deadline: float
    pause: float
    """Seconds to the next look but one that he asks for himself."""
    future: Future[End | None] = field(default_factory=Future)
    """None when the time is over."""

    def settle(self, end: End | BaseException | None) -> None:
        # Whoever waits may just have given up.
        with contextlib.suppress(InvalidStateError):
            if isinstance(end, BaseException):
                self.future.set_exception(end)
            else:
                self.future.set_result(end)


class _Hub:
    """The thread that serves all waits of a process. What the lock guards is changed by the threads that wait, too."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], sql: Statements, *, listen: bool) -> None:
        self._connect = connect
        self._sql = sql
        self._listen = listen
        self._id = uuid.uuid4()
        self._lock = threading.Lock()
        self._waiters: dict[int, list[_Waiter]] = {}
        self._new: list[_Waiter] = []
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._closing = False
        # The thread's own.
        self._due: list[tuple[float, int, _Waiter]] = []
        self._number = itertools.count()
        self._registered: dict[int, float] = {}
        self._told: set[int] = set()
        self._served = False
        self._pause = _RECONNECT[0]

    def add(self, waiter: _Waiter) -> None:
        """Begin to wait."""
        with self._lock:
            self._waiters.setdefault(waiter.job_id, []).append(waiter)
            self._new.append(waiter)
            if self._thread is None:
                woken, self._wake = socket.socketpair()
                woken.setblocking(False)
                self._wake.setblocking(False)
                self._thread = threading.Thread(target=self._run, args=(woken,), name="pgtasks-waits", daemon=True)
                self._thread.start()
        self._wake_up()

    def remove(self, waiter: _Waiter) -> None:
        """Wait no more."""
        waiter.settle(None)
        with self._lock:
            waiters = self._waiters.get(waiter.job_id, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[waiter.job_id]

    def close(self) -> None:
        """End the thread, unless somebody waits."""
        with self._lock:
            thread = self._thread
            self._closing = True
        if thread is not None and thread is not threading.current_thread():
            self._wake_up()
            thread.join(1.0)

    def _wake_up(self) -> None:
        wake = self._wake
        if wake is not None:
            with contextlib.suppress(OSError):  # it is full, so that the thread wakes anyhow, or just closed
                wake.send(b"x")

    def _run(self, woken: socket.socket) -> None:
        self._served = False
        longest = _RECONNECT[1]
        with woken:
            while True:
                try:
                    with contextlib.closing(self._connect()) as connection:
                        self._serve(connection, woken)
                except Exception as error:  # noqa: BLE001 - whoever waits raises it
                    if self._served and is_outage(error):
                        # The database was there before: it is waited for, too.
                        self._expire()
                        select.select([], [], [], self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                        self._pause = min(longest, 2 * self._pause)
                    else:
                        self._fail(error)
                if self._end():
                    return

    def _serve(self, connection: psycopg.Connection[Any], woken: socket.socket) -> None:
        """Serve waits until there has been none for a while."""
        run(connection, check_visible(self._sql))
        # What a pooler in transaction mode is asked to listen to, nobody ever hears.
        listens = self._listen and not is_pooled_blocking(connection)
        if listens:
            connection.add_notify_handler(lambda notification: self._hear(notification.payload))
            connection.execute(f'LISTEN "{CHANNEL}"'.encode())
        self._begin_anew()
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        poll.register(connection.fileno(), select.POLLIN)
        while True:
            _empty(woken)
            asked = self._take_due()
            if listens:
                self._register(connection)
            if asked:
                self._look(connection, asked)
            if listens:
                self._forget(connection)
            self._served, self._pause = True, _RECONNECT[0]
            _read(connection.pgconn, self._hear)
            if self._told:
                continue
            seconds = self._seconds_to_next()
            late = not poll.poll(seconds * 1000)
            if (late and seconds == _LINGERS) or self._closing:
                with self._lock:
                    if not self._waiters:
                        return

    def _begin_anew(self) -> None:
        """Look at all jobs at once, on a new connection."""
        with self._lock:
            self._new = list(itertools.chain.from_iterable(self._waiters.values()))
        self._due.clear()
        self._registered.clear()
        self._told.clear()

    def _take_due(self) -> dict[_Waiter, bool]:
        """Return those at whose jobs to look now: for each, whether its next look is yet to be planned."""
        asked: dict[_Waiter, bool] = {}
        with self._lock:
            new, self._new = self._new, []
            for job_id in self._told:
                asked |= dict.fromkeys(self._waiters.get(job_id, ()), False)
        self._told.clear()
        asked |= dict.fromkeys(new, True)
        now = time.monotonic() + _COALESCE
        while self._due and self._due[0][0] <= now:
            waiter = heapq.heappop(self._due)[2]
            if not waiter.future.done():
                asked[waiter] = True
        return asked

    def _register(self, connection: psycopg.Connection[Any]) -> None:
        now = time.monotonic()
        with self._lock:
            ids = [each for each in self._waiters if now - self._registered.get(each, -math.inf) > _RENEWED]
        if ids:
            run(connection, register_waits(self._sql, self._id, ids, _KEPT))
            self._registered.update(dict.fromkeys(ids, now))

    def _forget(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            ids = self._registered.keys() - self._waiters.keys()
        if ids:
            run(connection, forget_waits(self._sql, self._id, ids))
            for each in ids:
                del self._registered[each]

    def _look(self, connection: psycopg.Connection[Any], asked: dict[_Waiter, bool]) -> None:
        """Look at jobs, and wake those who need not wait any more."""
        created: dict[int, dt.datetime | None] = {}
        for waiter in asked:
            created[waiter.job_id] = waiter.created_at or created.get(waiter.job_id)
        ends = run(connection, ended_jobs(self._sql, created))
        now = time.monotonic()
        for waiter, planned in asked.items():
            end = ends.get(waiter.job_id)
            if end is None:
                waiter.created_at = None
            if end is not None and end.state != "open":
                self._settle(waiter, end)
            elif end is not None and now - waiter.began > _OPEN:
                self._settle(waiter, _still_open(waiter.job_id))
            elif now >= waiter.deadline:
                self._settle(waiter, None)
            elif planned:
                due = now + waiter.pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                waiter.pause = min(2 * waiter.pause, LONGEST_PAUSE)
                heapq.heappush(self._due, (min(due, waiter.deadline), next(self._number), waiter))

    def _settle(self, waiter: _Waiter, end: End | BaseException | None) -> None:
        waiter.settle(end)
        self.remove(waiter)

    def _hear(self, payload: str) -> None:
        # Anybody may send anything there.
        self._told.update(int(each) for each in payload.split(",") if each.isascii() and each.isdigit())

    def _seconds_to_next(self) -> float:
        with self._lock:
            if self._new:
                return 0.0
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else _LINGERS

    def _end(self) -> bool:
        """End if nobody waits: whoever does so from now on starts a new thread."""
        with self._lock:
            if self._waiters:
                return False
            assert self._wake is not None
            self._wake.close()
            self._thread = self._wake = None
            return True

    def _fail(self, error: Exception) -> None:
        with self._lock:
            waiters = list(itertools.chain.from_iterable(self._waiters.values()))
        for waiter in waiters:
            self._settle(waiter, error)

    def _expire(self) -> None:
        """Wake those whose time is over while there is no database to ask."""
        now = time.monotonic()
        with self._lock:
            waiters = list(itertools.chain.from_iterable(self._waiters.values()))
        for waiter in waiters:
            if now >= waiter.deadline:
                self._settle(waiter, None)


def _in_time(end: End | None, job_id: int, timeout: float | None) -> End:
    if end is None:
        raise JobWaitTimeoutError(f"job {job_id} has not ended within {timeout:g} s")
    return end


def _still_open(job_id: int) -> JobOptionError:
    return JobOptionError(
        f"job {job_id} cannot be waited for yet: the transaction that adds it is still open, and until it has been "
        "committed nobody runs the job"
    )


def _empty(woken: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while woken.recv(4096):
            pass


def _read(pgconn: PGconn, hear: Callable[[str], None]) -> None:
    """Take in notifications that have arrived; raises if the connection is lost."""
    pgconn.consume_input()
    while (notification := pgconn.notifies()) is not None:
        hear(notification.extra.decode("ascii", "replace"))


def _close_own(hubs: dict[int, _Hub]) -> None:
    hub = hubs.pop(os.getpid(), None)
    if hub is not None:
        hub.close()
