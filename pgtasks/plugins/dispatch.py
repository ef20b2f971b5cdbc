"""Calling hooks: how the answers of each kind come together, and how the job is kept from what plugins do wrong.

`Dispatch` is for all processes: what is called in the caller's thread, and observers. `LoopDispatch`, in a module of
its own, adds what an event loop asks and waits for, with a limit. Where a hook has no implementation, `observer` and
`has` say so beforehand, so that it costs its caller an `if`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pgtasks.errors import PgtasksError, PluginError
from pgtasks.hookspecs import Kind
from pgtasks.logs import get_logger
from pgtasks.plugins.discovery import explain
from pgtasks.plugins.implementation import nonsense
from pgtasks.plugins.lanes import OBSERVER_SECONDS, Lane, flush_at_exit
from pgtasks.plugins.wrapping import Wrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pgtasks.plugins.implementation import Implementation

T = TypeVar("T")
log = get_logger("pgtasks.plugins")

_TOGETHER: Final = 20
"""How many things a plugin is told with one call of its lane."""
FAILED: Final = object()
"""Stands for the answer of an implementation that has failed."""


class Dispatch:
    """Calls the hooks of an App's plugins.

    Args:
        implementations: those of each hook, in the order in which they are called.
        trace: whether to log every call, at level debug.
    """

    def __init__(self, implementations: Mapping[str, tuple[Implementation, ...]], *, trace: bool = False) -> None:
        self._implementations = implementations
        self._trace = trace
        self._lanes: dict[str, Lane] = {}
        self._observers: dict[str, Lane] = {}
        """Those of plugins' observers, by plugin."""
        self._observing: dict[str, tuple[Implementation, float]] = {}
        """Which observer each plugin's lane has called last, and when."""
        self._together: dict[str, Callable[[], None]] = {}
        """What goes on, by plugin, with what it was told together with other things last."""
        self._dropped: dict[str, int] = {}

    def has(self, hook: str) -> bool:
        """Whether any plugin implements this hook."""
        return bool(self._implementations[hook])

    def without(self, plugins: Collection[str]) -> Dispatch:
        """Return what calls the hooks of all plugins but these."""
        if not plugins:
            return self
        left = {
            hook: tuple(one for one in implementations if one.plugin not in plugins)
            for hook, implementations in self._implementations.items()
        }
        return Dispatch(left, trace=self._trace)

    @property
    def observes(self) -> bool:
        """Whether any plugin implements a hook by which it is told of something."""
        return any(one.hook.kind is Kind.OBSERVE for some in self._implementations.values() for one in some)

    def collect(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> list[tuple[str, T]]:
        """Return each plugin's name with what `read` makes of its answer, where that is not None."""
        answers = []
        for implementation in self._implementations[hook]:
            answer = self._call(implementation, given, read)
            if answer is not FAILED and answer is not None:
                answers.append((implementation.plugin, answer))
        return answers

    def decide(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> T | None:
        """Return the first answer that is not None."""
        for implementation in self._implementations[hook]:
            answer: Any = self._call(implementation, given, read)
            if answer is not FAILED and answer is not None:
                return answer  # type: ignore[no-any-return]
        return None

    def change(self, hook: str, value: T, read: Callable[[Any, T], T], /, argument: str, **given: Any) -> T:
        """Send a value, given as `argument`, through all implementations."""
        for implementation in self._implementations[hook]:
            answer = self._call(implementation, {**given, argument: value}, partial(swap, read, value))
            if answer is not FAILED and answer is not None:
                value = answer
        return value

    def observer(self, hook: str) -> Callable[..., None] | None:
        """Return what tells all observers, from any thread and at once; None if there are none."""
        implementations = self._implementations[hook]
        if not implementations:
            return None

        def tell(**given: Any) -> None:
            for implementation in implementations:
                self._tell(implementation, given)

        return tell

    def tell(self, hook: str, /, **given: Any) -> None:
        """Tell all observers of a hook that is called rarely."""
        for implementation in self._implementations[hook]:
            self._tell(implementation, given)

    def tell_all(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Tell of many things at once: of each the observers of its hook, with what it is given."""
        plugins: dict[str, dict[str, list[Implementation]]] = {}
        for hook in {hook for hook, _ in calls}:
            for implementation in self._implementations[hook]:
                plugins.setdefault(implementation.plugin, {}).setdefault(hook, []).append(implementation)
        for implementations in plugins.values():
            wanted = [call for call in calls if call[0] in implementations]
            first = next(iter(implementations.values()))[0]
            lane = self._observing_lane(first)
            for start in range(0, len(wanted), _TOGETHER):
                some = deque(wanted[start : start + _TOGETHER])
                if not put_or_drop(lane, partial(self._observe_all, implementations, some)):
                    self._drop(first, len(some))

    def wrap(self, hook: str, /, **given: Any) -> AbstractContextManager[None]:
        """Return a context manager that enters those of all implementations; what they do wrong is only logged."""
        return Wrap([(one, given) for one in self._implementations[hook] if one.trusted], self._failed)

    def flush(self, seconds: float) -> None:
        """Wait until observers have been told all that they are to be told, or so many seconds."""
        until = time.monotonic() + seconds
        for lane in list(self._lanes.values()):
            lane.flush(max(0.0, until - time.monotonic()))

    # Observers

    def _tell(self, implementation: Implementation, given: Mapping[str, Any]) -> None:
        lane = self._observing_lane(implementation)
        if not put_or_drop(lane, lambda: self._observe(implementation, given)):
            self._drop(implementation)

    def _observe_all(
        self, implementations: Mapping[str, list[Implementation]], calls: deque[tuple[str, Mapping[str, Any]]]
    ) -> None:
        plugin = next(iter(implementations.values()))[0].plugin
        self._together[plugin] = partial(self._observe_all, implementations, calls)
        with contextlib.suppress(IndexError):  # another thread goes on with them if this one has been given up
            while True:
                hook, given = calls.popleft()
                for implementation in implementations[hook]:
                    self._observe(implementation, given)

    def _observe(self, implementation: Implementation, given: Mapping[str, Any]) -> None:
        """Make one call of an observer, in its plugin's lane."""
        if not implementation.trusted:
            return
        began = time.monotonic()
        self._observing[implementation.plugin] = implementation, began
        try:
            answer = implementation.call(given)
            if answer is not None and inspect.iscoroutine(answer):
                self._await(answer)
        except BaseException as error:  # noqa: BLE001 - it is the plugin's
            self._failed(implementation, error)
        else:
            implementation.succeeded()
        if self._trace:
            self._traced(implementation, began)

    def _await(self, answer: Coroutine[Any, Any, Any]) -> None:
        """Wait for what an asynchronous observer does: here, in an event loop for the purpose."""
        asyncio.run(within(answer, OBSERVER_SECONDS))

    def _observing_lane(self, implementation: Implementation) -> Lane:
        lane = self._observers.get(implementation.plugin)
        if lane is None:
            lane = self._observers[implementation.plugin] = self._lane(f"pgtasks-plugin-{implementation.plugin}")
        return lane

    def _drop(self, implementation: Implementation, calls: int = 1) -> None:
        before = self._dropped.get(implementation.plugin, 0)
        dropped = self._dropped[implementation.plugin] = before + calls
        if dropped.bit_length() > before.bit_length():  # the 1st, 2nd, 4th, …
            log.warning(
                "hook_calls_dropped", plugin=implementation.plugin, hook=implementation.hook.name, calls=dropped
            )

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes.setdefault(name, Lane(name))
            flush_at_exit(lane)
        return lane

    # What is asked

    def _call(self, implementation: Implementation, given: Mapping[str, Any], read: Callable[[Any], T]) -> Any:
        """Call in this thread; an error of a hook that is not isolated is the caller's.

        It is one of ours that names the plugin, but for hooks that may refuse what they are given by an error.
        """
        hook = implementation.hook
        if hook.isolated and not implementation.trusted:
            return FAILED
        began = time.monotonic()
        try:
            answer = implementation.call(given)
            if inspect.iscoroutine(answer):
                answer.close()
                raise nonsense(implementation, "a coroutine, where nothing can wait for it")
            answer = None if answer is None else self._read(implementation, answer, read)
        except Exception as error:
            if hook.isolated:
                self._failed(implementation, error)
                return FAILED
            if hook.kind is Kind.CHANGE or isinstance(error, PgtasksError):
                raise
            raise PluginError(
                f"plugin {implementation.plugin!r} has failed in its {hook.name}(): {explain(error)}"
            ) from error
        implementation.succeeded()
        self._traced(implementation, began)
        return answer

    def _read(self, implementation: Implementation, answer: Any, read: Callable[[Any], T]) -> T:
        try:
            return read(answer)
        except (TypeError, ValueError, AttributeError) as error:
            raise nonsense(implementation, f"{type(answer).__name__}: {error}") from None

    def _failed(self, implementation: Implementation, error: BaseException | str) -> None:
        text = implementation.failed(error)
        name = implementation.hook.name
        if name != "hook_error":
            self.tell("hook_error", plugin=implementation.plugin, hook=name, error=text)

    def _traced(self, implementation: Implementation, began: float) -> None:
        if self._trace:
            log.debug(
                "hook_called",
                plugin=implementation.plugin,
                hook=implementation.hook.name,
                seconds=round(time.monotonic() - began, 6),
            )


def put_or_drop(lane: Lane, call: Callable[[], None]) -> bool:
    """Have an observer called; returns whether it will be."""
    if lane.full:
        return False
    try:
        lane.put(call)
    except RuntimeError:  # no thread can be had, which is not the fault of whoever tells it
        return False
    return True


def swap(read: Callable[[Any, T], T], before: T, answer: Any) -> T:
    """Return what `read` makes of an answer, with the value before as its last argument, for `partial`."""
    return read(answer, before)


async def within(answer: Awaitable[Any], seconds: float) -> Any:
    """Wait for something for so long; not for how it takes its cancellation."""
    task = asyncio.ensure_future(answer)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        raise TimeoutError(f"took longer than {seconds:g} s")
    return task.result()
