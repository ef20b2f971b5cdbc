"""Calling hooks from an event loop, which waits for answers, but not for longer than a limit."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from concurrent.futures import CancelledError
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pgtasks.errors import PluginError
from pgtasks.plugins.dispatch import FAILED, Dispatch, put_or_drop, swap, within
from pgtasks.plugins.lanes import OBSERVER_SECONDS, Call, in_lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from pgtasks.plugins.implementation import Implementation
    from pgtasks.plugins.lanes import Lane

T = TypeVar("T")

_LOOK_SECONDS: Final = 0.5
"""How often lanes are looked at for calls that take too long."""


class LoopDispatch(Dispatch):
    """Calls hooks from an event loop.

    Args:
        hooks: what has called them before.
        limit: how many seconds an implementation may take for an answer.
    """

    def __init__(self, hooks: Dispatch, *, limit: float) -> None:
        super().__init__(hooks._implementations, trace=hooks._trace)  # noqa: SLF001 - it takes their place
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._ending = False
        self._asked: set[asyncio.Task[Any]] = set()

    async def collect_async(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> list[tuple[str, T | None]]:
        """Return each plugin's name with what `read` makes of its answer; plugins that have failed are left out.

        All are asked at once.
        """
        implementations = self._implementations[hook]
        answers = await asyncio.gather(*(self._ask(one, given, read) for one in implementations))
        return [
            (one.plugin, answer) for one, answer in zip(implementations, answers, strict=True) if answer is not FAILED
        ]

    async def decide_async(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> T | None:
        """Return the first answer that is not None."""
        for implementation in self._implementations[hook]:
            answer: Any = await self._ask(implementation, given, read)
            if answer is not FAILED and answer is not None:
                return answer  # type: ignore[no-any-return]
        return None

    async def change_async(self, hook: str, value: T, read: Callable[[Any, T], T], /, argument: str, **given: Any) -> T:
        """Send a value, given as `argument`, through all implementations."""
        for implementation in self._implementations[hook]:
            answer: Any = await self._ask(implementation, {**given, argument: value}, partial(swap, read, value))
            if answer is not FAILED and answer is not None:
                value = answer
        return value

    async def told(self, hook: str, /, **given: Any) -> None:
        """Tell all observers, and wait until they have heard it, or have been given up."""
        calls = [
            asyncio.ensure_future(in_lane(self._observing_lane(one), partial(self._observe, one, given)))
            for one in self._implementations[hook]
        ]
        if calls:
            _, left = await asyncio.wait(calls, timeout=OBSERVER_SECONDS + 2 * _LOOK_SECONDS)
            for call in left:
                call.cancel()

    def askers(self, hook: str, read: Callable[[Any], T]) -> list[Callable[..., Awaitable[T | None]]]:
        """Return a function for each implementation that asks it and returns None if it has failed.

        One that must not be passed over raises a `PluginError` instead.
        """

        async def ask(implementation: Implementation, /, **given: Any) -> T | None:
            answer = await self._ask(implementation, given, read)
            if answer is FAILED and implementation.vital:
                raise PluginError(f"plugin {implementation.plugin!r} has not answered {hook}")
            return None if answer is FAILED else answer

        return [partial(ask, implementation) for implementation in self._implementations[hook]]

    async def watch(self) -> None:
        """Give up observers that take too long, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for plugin, lane in list(self._observers.items()):
                call, (implementation, began) = lane.current, self._observing.get(plugin, (None, 0.0))
                if call is None or implementation is None or began < call.began:
                    continue  # it is between two calls
                if time.monotonic() - began > OBSERVER_SECONDS:
                    lane.give_up()
                    implementation.waits_for(call)
                    if (rest := self._together.pop(plugin, None)) is not None:
                        put_or_drop(lane, rest)
                    self._failed(implementation, f"took longer than {OBSERVER_SECONDS:g} s")

    async def flushed(self, seconds: float) -> None:
        """Wait until observers have been told all that they are to be told, or so many seconds. The loop ends then."""
        self._ending = True
        lanes = list(self._lanes.values())
        if lanes:
            ends = [asyncio.ensure_future(in_lane(lane, _nothing)) for lane in lanes]
            _, left = await asyncio.wait(ends, timeout=seconds)
            for end in left:
                end.cancel()

    def _await(self, answer: Coroutine[Any, Any, Any]) -> None:
        future = asyncio.run_coroutine_threadsafe(within(answer, OBSERVER_SECONDS), self._loop)
        try:
            future.result()
        except CancelledError:
            if not self._ending:
                raise

    async def _ask(self, implementation: Implementation, given: Mapping[str, Any], read: Callable[[Any], T]) -> Any:
        """Call and wait for the answer, but not longer than the limit; an async one may not hear of its end in time.

        A plain one may be asked again before it has answered. Its calls wait for each other, and each has the limit
        from its beginning; those that wait for one that hangs are not made.
        """
        if not implementation.trusted:
            return FAILED
        began = time.monotonic()
        call = Call(waits=not implementation.is_async)
        task = self._loop.create_task(self._answer(implementation, given, call), name=repr(implementation))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            done = await self._has_answered(task, call)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            if call.under_way:
                implementation.waits_for(call)
                if not implementation.is_async:
                    self._answering(implementation).give_up()
            self._failed(implementation, f"took longer than {self._limit:g} s")
            return FAILED
        try:
            answer = task.result()
            if answer is FAILED:
                return FAILED
            answer = None if answer is None else self._read(implementation, answer, read)
        except asyncio.CancelledError:
            self._failed(implementation, "cancelled itself")
            return FAILED
        except BaseException as error:  # noqa: BLE001 - it is the plugin's, whatever it is
            self._failed(implementation, error)
            return FAILED
        implementation.succeeded()
        self._traced(implementation, began)
        return answer

    async def _has_answered(self, task: asyncio.Task[Any], call: Call) -> bool:
        """Wait for a call; returns whether it has ended within the limit."""
        asked = time.monotonic()
        left = self._limit
        while left > 0:
            done, _ = await asyncio.wait([task], timeout=left)
            if done:
                return True
            until = call.began + self._limit if call.began < math.inf else asked + OBSERVER_SECONDS
            left = min(until - time.monotonic(), self._limit)
        return False

    async def _answer(self, implementation: Implementation, given: Mapping[str, Any], call: Call) -> Any:
        try:
            if implementation.is_async:
                return await implementation.call(given)
            lane = self._answering(implementation)
            answer = await in_lane(lane, partial(_call_if_trusted, implementation, given), call)
            return await answer if inspect.isawaitable(answer) else answer
        except (SystemExit, KeyboardInterrupt) as error:  # the loop would end over it
            raise PluginError(f"{type(error).__name__}: {error}") from None
        finally:
            if implementation.is_async:
                call.ended = True

    def _answering(self, implementation: Implementation) -> Lane:
        return self._lane(f"pgtasks-plugin-{implementation.plugin}-{implementation.hook.name}")


def _call_if_trusted(implementation: Implementation, given: Mapping[str, Any]) -> Any:
    return implementation.call(given) if implementation.trusted else FAILED


def _nothing() -> None:
    pass
