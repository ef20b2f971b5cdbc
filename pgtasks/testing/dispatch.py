"""The dispatch of hooks, made strict: what plugins do wrong is kept for the test, and no thread outlives its call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from pgtasks.errors import PluginError
from pgtasks.plugins import Dispatch, LoopDispatch
from pgtasks.plugins.lanes import OBSERVER_SECONDS, Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.plugins.implementation import Implementation

_PATIENCE: Final = OBSERVER_SECONDS + 5
"""How many seconds observers are waited for: longer than they may take."""


class _ShortLane(Lane):
    """A lane with a thread for each call, which ends with it; there is one call at a time in a test."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._threads: list[threading.Thread] = []
        self._named = name

    def put(self, call: Callable[[], None]) -> None:
        """Have `call` made."""
        thread = threading.Thread(target=call, name=self._named, daemon=True)
        self._threads.append(thread)
        thread.start()

    def give_up(self) -> None:
        """Leave the thread to the call that it is stuck in."""

    def flush(self, seconds: float) -> bool:
        """Wait until all calls have been made, or so many seconds; returns whether they have."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


class StrictDispatch(Dispatch):
    """Calls hooks and keeps what goes wrong, instead of logging it.

    Args:
        implementations: those of each hook, which nothing else uses, as they remember how often they have failed.
        trace: whether to log every call.
    """

    def __init__(self, implementations: Mapping[str, tuple[Implementation, ...]], *, trace: bool = False) -> None:
        super().__init__(implementations, trace=trace)
        self._strict_lanes: list[_ShortLane] = []
        self._errors: list[BaseException] = []

    def flush_all(self) -> None:
        """Wait until observers have been told all that they are to be told."""
        for lane in self._strict_lanes:
            if not lane.flush(_PATIENCE):
                self._errors.append(PluginError(f"an observer has not returned within {_PATIENCE:g} s"))

    def check(self) -> None:
        """Raise the first error that there was, once."""
        if self._errors:
            error = self._errors[0]
            self._errors.clear()
            raise error

    def _failed(self, implementation: Implementation, error: BaseException | str) -> None:
        if isinstance(error, str):
            error = PluginError(f"hook {implementation.hook.name!r} of plugin {implementation.plugin!r} {error}")
        self._errors.append(error)

    def _lane(self, name: str) -> Lane:
        lane = _ShortLane(name)
        self._strict_lanes.append(lane)
        return lane


class StrictLoopDispatch(LoopDispatch, StrictDispatch):
    """Likewise from an event loop."""
