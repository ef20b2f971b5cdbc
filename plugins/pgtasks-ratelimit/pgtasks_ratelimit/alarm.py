"""Having the process look for jobs when tokens come in."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING, Final

from pgtasks_ratelimit.store import now as clock

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORTEST: Final = 0.001
_LONGEST: Final = 1.0
_SPACING: Final = 0.05
"""Seconds between two looks for jobs that were put off."""
_MOST: Final = 1000
"""Times that are kept; jobs that were put off for longer are found by polling."""


class Alarm:
    """Calls functions at times by `clock`, from the running event loop.

    Args:
        ring: called at the time of `set`.
        look: called at each time of `add`.
    """

    def __init__(self, ring: Callable[[], None], look: Callable[[], None]) -> None:
        self._ring = ring
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._times: list[float] = []
        self._times_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def set(self, at: float | None) -> None:
        """Ring once at this time, and not at the one that was set before; None: not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None and not self._closed:
            self._timer = self._loop.call_later(min(max(at - clock(), _SHORTEST), _LONGEST), self._ring)

    def add(self, at: float) -> None:
        """Look at this time."""
        if len(self._times) < _MOST and not self._closed:
            heapq.heappush(self._times, at)
            if self._times[0] == at or self._times_timer is None:
                self._arm(at)

    def close(self) -> None:
        """Do nothing any more."""
        self._closed = True
        for timer in (self._timer, self._times_timer):
            if timer is not None:
                timer.cancel()

    def _arm(self, at: float) -> None:
        if self._times_timer is not None:
            self._times_timer.cancel()
        self._times_timer = self._loop.call_later(max(at - clock(), _SHORTEST), self._look_again)

    def _look_again(self) -> None:
        self._times_timer = None
        now = clock()
        while self._times and self._times[0] <= now:
            heapq.heappop(self._times)
        if self._times:
            self._arm(max(self._times[0], now + _SPACING))
        self._look()
