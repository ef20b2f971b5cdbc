"""Looking for jobs of which nobody sends word: they become due, or their notification is not heard.

Worker processes do not poll. The supervisor wakes one after the other, one each interval, so an idle host asks as often
with many processes as with one. While notifications are heard, the interval is always the same. Without them it is a
tenth of that after a look that has found something, and grows back while there is nothing: a host at work without
notifications is as fast as one with, and an idle one asks no more often.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import psycopg

from pgtasks.database.connecting import complete_conninfo
from pgtasks.database.errors import is_outage
from pgtasks.queue.listen import Listener, notify
from pgtasks.worker.link import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pgtasks.settings import Settings
    from pgtasks.worker.host_hooks import HostHooks
    from pgtasks.worker.link import DatabaseLink
    from pgtasks.worker.member import Member

_SHORTEST = 0.1
"""The shortest interval without notifications, as part of the longest."""
_GROWTH = 1.5
"""By how much it grows after each look that has found nothing."""


class Polling:
    """Wakes one process after another, until cancelled.

    Args:
        members: the processes.
        interval: gives the seconds between two looks.
        listening: whether notifications are heard.
    """

    def __init__(
        self, members: Callable[[], Collection[Member]], interval: Callable[[], float], listening: Callable[[], bool]
    ) -> None:
        self._members = members
        self._interval = interval
        self._listening = listening
        self._pause = interval()
        self._next = 0
        self._ended = 0

    async def run(self) -> None:
        """Wake one, wait, wake the next one."""
        while True:
            await asyncio.sleep(self.next_pause() * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            members = [member for member in self._members() if member.takes_jobs and member.room]
            if members:
                self._next += 1
                members[self._next % len(members)].wake()

    def next_pause(self) -> float:
        """Return the seconds to the next look, jitter apart."""
        longest = self._interval()
        if self._listening():
            self._pause = longest
        elif self._found_jobs():
            self._pause = longest * _SHORTEST
        else:
            self._pause = min(longest, self._pause * _GROWTH)
        return self._pause

    def _found_jobs(self) -> bool:
        """Whether processes have jobs, or have ended some since this was last asked."""
        views = [member.slots.view() for member in self._members()]
        before, self._ended = self._ended, sum(view.succeeded + view.failed for view in views)
        return self._ended != before or any(view.running or view.queued or view.finishing for view in views)


def new_listener(
    link: DatabaseLink,
    settings: Settings,
    *,
    on_jobs: Callable[[int], None],
    on_breaking: Callable[[], None],
    on_cancelled: Callable[[str], None],
    on_timetables: Callable[[], None] | None,
    hooks: HostHooks,
) -> Listener:
    """Return what listens for a host, on a connection of its own, and tries out over the others whether it hears."""
    url = settings.listen_conninfo
    conninfo = link.database.conninfo if url is None else complete_conninfo(url, f"pgtasks supervisor {link.worker_id}")

    async def send(channel: str, payload: str) -> bool:
        try:
            await link.attempt(notify(link.statements, channel, payload))
        except Exception as error:
            if not (is_outage(error) or isinstance(error, psycopg.Error)):
                raise
            return False
        return True

    return Listener(
        conninfo,
        notify=send,
        separate=url is not None,
        pauses=lambda: Backoff().next_pause,
        on_jobs=on_jobs,
        on_breaking=on_breaking,
        on_cancelled=on_cancelled,
        on_timetables=on_timetables,
        on_lost=hooks.listen_lost,
        on_restored=hooks.listen_restored,
    )
