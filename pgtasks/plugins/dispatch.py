"""Calling hooks: how the answers of each kind come together, and how the job is kept from what plugins do wrong.

`Dispatch` is for all processes: what is called in the caller's thread, and observers. `LoopDispatch` adds what an event
loop asks and waits for, with a limit. Where a hook has no implementation, `observer` and `has` say so beforehand, so
that it costs its caller an `if`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pgtasks.errors import PgtasksError, PluginError
from pgtasks.hookspecs import Kind
from pgtasks.logs import get_logger
from pgtasks.plugins.discovery import explain
from pgtasks.plugins.lanes import Call, Lane, flush_at_exit, in_lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from pgtasks.plugins.implementation import Implementation

T = TypeVar("T")
log = get_logger("pgtasks.plugins")

OBSERVER_SECONDS: Final = 30.0
"""How long an observer may take for one call before it is given up."""
_LOOK_SECONDS: Final = 0.5
"""How often lanes are looked at meanwhile."""
_TOGETHER: Final = 20
"""How many things a plugin is told with one call of its lane."""
_FAILED: Final = object()


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
            if answer is not _FAILED and answer is not None:
                answers.append((implementation.plugin, answer))
        return answers

    def decide(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> T | None:
        """Return the first answer that is not None."""
        for implementation in self._implementations[hook]:
            answer: Any = self._call(implementation, given, read)
            if answer is not _FAILED and answer is not None:
                return answer  # type: ignore[no-any-return]
        return None

    def change(self, hook: str, value: T, read: Callable[[Any, T], T], /, argument: str, **given: Any) -> T:
        """Send a value, given as `argument`, through all implementations."""
        for implementation in self._implementations[hook]:
            answer = self._call(implementation, {**given, argument: value}, partial(_swap, read, value))
            if answer is not _FAILED and answer is not None:
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
                if not _put(lane, partial(self._observe_all, implementations, some)):
                    self._drop(first, len(some))

    def wrap(self, hook: str, /, **given: Any) -> AbstractContextManager[None]:
        """Return a context manager that enters those of all implementations; what they do wrong is only logged."""
        return _Wrap([(one, given) for one in self._implementations[hook] if one.trusted], self._failed)

    def flush(self, seconds: float) -> None:
        """Wait until observers have been told all that they are to be told, or so many seconds."""
        until = time.monotonic() + seconds
        for lane in list(self._lanes.values()):
            lane.flush(max(0.0, until - time.monotonic()))

    # Observers

    def _tell(self, implementation: Implementation, given: Mapping[str, Any]) -> None:
        lane = self._observing_lane(implementation)
        if not _put(lane, lambda: self._observe(implementation, given)):
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
        asyncio.run(_within(answer, OBSERVER_SECONDS))

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
            return _FAILED
        began = time.monotonic()
        try:
            answer = implementation.call(given)
            if inspect.iscoroutine(answer):
                answer.close()
                raise _nonsense(implementation, "a coroutine, where nothing can wait for it")
            answer = None if answer is None else self._read(implementation, answer, read)
        except Exception as error:
            if hook.isolated:
                self._failed(implementation, error)
                return _FAILED
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
            raise _nonsense(implementation, f"{type(answer).__name__}: {error}") from None

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
        self._asked: set[asyncio.Task[Any]] = set()

    async def collect_async(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> list[tuple[str, T | None]]:
        """Return each plugin's name with what `read` makes of its answer; plugins that have failed are left out.

        All are asked at once.
        """
        implementations = self._implementations[hook]
        answers = await asyncio.gather(*(self._ask(one, given, read) for one in implementations))
        return [
            (one.plugin, answer) for one, answer in zip(implementations, answers, strict=True) if answer is not _FAILED
        ]

    async def decide_async(self, hook: str, read: Callable[[Any], T], /, **given: Any) -> T | None:
        """Return the first answer that is not None."""
        for implementation in self._implementations[hook]:
            answer: Any = await self._ask(implementation, given, read)
            if answer is not _FAILED and answer is not None:
                return answer  # type: ignore[no-any-return]
        return None

    async def change_async(self, hook: str, value: T, read: Callable[[Any, T], T], /, argument: str, **given: Any) -> T:
        """Send a value, given as `argument`, through all implementations."""
        for implementation in self._implementations[hook]:
            answer: Any = await self._ask(implementation, {**given, argument: value}, partial(_swap, read, value))
            if answer is not _FAILED and answer is not None:
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
            if answer is _FAILED and implementation.vital:
                raise PluginError(f"plugin {implementation.plugin!r} has not answered {hook}")
            return None if answer is _FAILED else answer

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
                        _put(lane, rest)
                    self._failed(implementation, f"took longer than {OBSERVER_SECONDS:g} s")

    async def flushed(self, seconds: float) -> None:
        """Wait until observers have been told all that they are to be told, or so many seconds."""
        lanes = list(self._lanes.values())
        if lanes:
            ends = [asyncio.ensure_future(in_lane(lane, _nothing)) for lane in lanes]
            _, left = await asyncio.wait(ends, timeout=seconds)
            for end in left:
                end.cancel()

    def _await(self, answer: Coroutine[Any, Any, Any]) -> None:
        future = asyncio.run_coroutine_threadsafe(_within(answer, OBSERVER_SECONDS), self._loop)
        future.result()

    async def _ask(self, implementation: Implementation, given: Mapping[str, Any], read: Callable[[Any], T]) -> Any:
        """Call and wait for the answer, but not longer than the limit; an async one may not hear of its end in time.

        A plain one may be asked again before it has answered. Its calls wait for each other, and each has the limit
        from its beginning; those that wait for one that hangs are not made.
        """
        if not implementation.trusted:
            return _FAILED
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
            return _FAILED
        try:
            answer = task.result()
            if answer is _FAILED:
                return _FAILED
            answer = None if answer is None else self._read(implementation, answer, read)
        except asyncio.CancelledError:
            self._failed(implementation, "cancelled itself")
            return _FAILED
        except BaseException as error:  # noqa: BLE001 - it is the plugin's, whatever it is
            self._failed(implementation, error)
            return _FAILED
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


class _Wrap:
    """Enters the context managers of several plugins, and leaves them in the opposite order."""

    def __init__(
        self,
        wanted: list[tuple[Implementation, Mapping[str, Any]]],
        failed: Callable[[Implementation, BaseException], None],
    ) -> None:
        self._wanted = wanted
        self._failed = failed
        self._entered: list[tuple[Implementation, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for implementation, given in self._wanted:
            try:
                manager = implementation.call(given)
                if not (hasattr(manager, "__enter__") and hasattr(manager, "__exit__")):
                    _close(manager)
                    raise _nonsense(implementation, f"{type(manager).__name__}, which is no context manager")
                manager.__enter__()
            except BaseException as error:  # noqa: BLE001 - it is the plugin's
                self._failed(implementation, error)
            else:
                self._entered.append((implementation, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for implementation, manager in reversed(self._entered):
            try:
                manager.__exit__(kind, error, traceback)
            except BaseException as raised:  # noqa: BLE001 - likewise
                if raised is not error:
                    self._failed(implementation, raised)
                    continue
            implementation.succeeded()


def _put(lane: Lane, call: Callable[[], None]) -> bool:
    """Have an observer called; returns whether it will be."""
    if lane.full:
        return False
    try:
        lane.put(call)
    except RuntimeError:  # no thread can be had, which is not the fault of whoever tells it
        return False
    return True


def _call_if_trusted(implementation: Implementation, given: Mapping[str, Any]) -> Any:
    return implementation.call(given) if implementation.trusted else _FAILED


def _swap(read: Callable[[Any, T], T], before: T, answer: Any) -> T:
    return read(answer, before)


async def _within(answer: Awaitable[Any], seconds: float) -> Any:
    """Wait for something for so long; not for how it takes its cancellation."""
    task = asyncio.ensure_future(answer)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        raise TimeoutError(f"took longer than {seconds:g} s")
    return task.result()


def _nonsense(implementation: Implementation, what: str) -> PluginError:
    return PluginError(
        f"plugin {implementation.plugin!r} has answered hook {implementation.hook.name!r} with {what}; "
        f"see `pgtasks plugins hooks {implementation.hook.name}`"
    )


def _close(answer: Any) -> None:
    if inspect.iscoroutine(answer):
        answer.close()


def _nothing() -> None:
    pass
