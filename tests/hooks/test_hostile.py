"""What a plugin does wrong, in every isolated hook: others are called, what is asked goes on, and the log names it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, PluginError, Registry, hookimpl, hookspecs
from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Kind, LoopDispatch
from pgtasks.plugins import loop_dispatch as dispatching
from tests.waiting import wait_until
from tests.worker.conftest import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

ISOLATED = [name for name, hook in HOOKS.items() if hook.isolated and name != "hook_error"]
PLAIN = [name for name, hook in HOOKS.items() if not hook.asynchronous]
OBSERVED = [name for name in ISOLATED if HOOKS[name].kind is Kind.OBSERVE]
ASKED = [name for name in ISOLATED if HOOKS[name].kind not in (Kind.OBSERVE, Kind.WRAP)]
ASKED_BY_LOOPS = [name for name in ASKED if HOOKS[name].asynchronous]


class Stuck:
    """Where functions hang, until the test is over."""

    def __init__(self) -> None:
        self.released = threading.Event()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.released.set()


def plugin(hook: str, does: Callable[[], Any], *, is_async: bool = False) -> Any:
    """A plugin that implements one hook with a function."""
    parameters = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    scope: dict[str, Any] = {"does": does}
    result = "await does()" if is_async else "does()"
    exec(f"{'async ' * is_async}def {hook}(self, {parameters}): return {result}", scope)
    return type("Plugin", (), {hook: hookimpl(scope[hook])})()


def app_with(timeout: float = LONG, **plugins: Any) -> App:
    app = App(registry=Registry(), database_url="", hook_timeout=timeout)
    for name, one in plugins.items():
        app.plugins.register(one, name)
    return app


def given(hook: str) -> dict[str, Any]:
    return dict.fromkeys(inspect.signature(getattr(hookspecs, hook)).parameters)


async def call(hooks: LoopDispatch, hook: str) -> Any:
    """Call a hook as its kind is called, and return what comes of it."""
    arguments = given(hook)
    match HOOKS[hook].kind:
        case Kind.OBSERVE:
            return await hooks.told(hook, **arguments)
        case Kind.WRAP:
            with hooks.wrap(hook, **arguments):
                return None
        case Kind.COLLECT if HOOKS[hook].asynchronous:
            return [answer for _, answer in await hooks.collect_async(hook, good, **arguments)]
        case Kind.COLLECT:
            return [answer for _, answer in hooks.collect(hook, good, **arguments)]
        case Kind.DECIDE:
            return [await hooks.decide_async(hook, good, **arguments)]
        case Kind.CHANGE:
            changed = next(iter(arguments))
            del arguments[changed]
            return [
                await hooks.change_async(hook, "before", lambda answer, _: good(answer), argument=changed, **arguments)
            ]


def good(answer: Any) -> str:
    if answer != "good":
        raise TypeError("it must be 'good'")
    return "good"


def in_a_loop(work: Callable[[LoopDispatch], Coroutine[Any, Any, None]], app: App) -> None:
    async def run() -> None:
        hooks = app.use_loop()
        watch = asyncio.create_task(hooks.watch())
        await work(hooks)
        watch.cancel()

    asyncio.run(run())


def check(hook: str, hostile: Any, caplog: pytest.LogCaptureFixture, error: str, timeout: float = LONG) -> None:
    """The plugins that come before and after a hostile one are called, and one line of the log names it."""
    called: list[str] = []

    def note() -> str:
        called.append(hook)
        return "good"

    kind = HOOKS[hook].kind
    app = app_with(timeout, after=plugin(hook, note if kind is not Kind.WRAP else manager(called)), hostile=hostile)
    if kind is not Kind.DECIDE:  # where the first answer is all that is wanted
        app.plugins.register(plugin(hook, note if kind is not Kind.WRAP else manager(called)), "before")

    async def work(hooks: LoopDispatch) -> None:
        answers = await call(hooks, hook)
        expected = 1 if kind is Kind.DECIDE else 2
        wait_until(lambda: len(called) == expected, LONG, "the calls of the other plugins")
        if kind in (Kind.COLLECT, Kind.DECIDE, Kind.CHANGE):
            assert set(answers) == {"good"}

    with caplog.at_level(logging.WARNING, "pgtasks.plugins"):
        in_a_loop(work, app)
    failures = [record.getMessage() for record in caplog.records if "hook_failed" in record.getMessage()]
    assert len(failures) == 1
    assert f"plugin=hostile hook={hook}" in failures[0]
    assert error in failures[0]


def manager(called: list[str]) -> Callable[[], Any]:
    class Manager:
        def __enter__(self) -> None:
            called.append("entered")

        def __exit__(self, *_: object) -> None: ...

    return Manager


def raises() -> Any:
    raise ValueError("wrong")


@pytest.mark.parametrize("hook", ISOLATED)
def test_one_that_raises(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    check(hook, plugin(hook, raises), caplog, "ValueError: wrong")


@pytest.mark.parametrize("hook", ISOLATED)
def test_one_that_exits(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    if hook in ASKED and not HOOKS[hook].asynchronous:
        pytest.skip("an exit in the caller's own thread is the caller's")

    def exits() -> Any:
        raise SystemExit(1)

    check(hook, plugin(hook, exits), caplog, "SystemExit: 1")


@pytest.mark.parametrize("hook", [name for name in ISOLATED if HOOKS[name].asynchronous])
def test_an_async_one_that_raises(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    async def raises_later() -> Any:
        await asyncio.sleep(0)
        raise ValueError("wrong")

    check(hook, plugin(hook, raises_later, is_async=True), caplog, "ValueError: wrong")


@pytest.mark.parametrize("hook", [*ASKED, "job_context"])
def test_one_that_answers_nonsense(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    check(hook, plugin(hook, object), caplog, "object")


@pytest.mark.parametrize("hook", [name for name in ISOLATED if not HOOKS[name].asynchronous])
def test_one_that_returns_a_coroutine_where_nothing_can_wait(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    if HOOKS[hook].kind is Kind.OBSERVE:
        pytest.skip("an observer's coroutine can be waited for in its thread")

    async def later() -> None: ...

    check(hook, plugin(hook, later), caplog, "coroutine")


@pytest.mark.parametrize("hook", ASKED_BY_LOOPS)
def test_one_that_hangs(hook: str, caplog: pytest.LogCaptureFixture, stuck: Stuck) -> None:
    check(hook, plugin(hook, stuck.released.wait), caplog, "took longer than 0.2 s", timeout=0.2)


@pytest.mark.parametrize("hook", ASKED_BY_LOOPS)
def test_an_async_one_that_hangs(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    async def hangs() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await asyncio.sleep(LONG)  # it will not hear of its end

    check(hook, plugin(hook, hangs, is_async=True), caplog, "took longer than 0.2 s", timeout=0.2)


@pytest.mark.parametrize("hook", OBSERVED)
def test_an_observer_that_hangs(
    hook: str, caplog: pytest.LogCaptureFixture, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "OBSERVER_SECONDS", 0.2)
    check(hook, plugin(hook, stuck.released.wait), caplog, "took longer than 0.2 s")


def test_an_observer_that_hangs_is_told_the_rest_of_what_it_was_told_together(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "OBSERVER_SECONDS", 0.2)
    heard: list[object] = []

    class Plugin:
        @hookimpl
        def job_started(self) -> None:
            stuck.released.wait(LONG)

        @hookimpl
        def job_finished(self, end: object) -> None:
            heard.append(end)

    async def work(hooks: LoopDispatch) -> None:
        hooks.tell_all([("job_started", {"job": None}), ("job_finished", {"end": 1}), ("job_finished", {"end": 2})])
        async with asyncio.timeout(LONG):
            while heard != [1, 2]:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)

    in_a_loop(work, app_with(observer=Plugin()))


@pytest.mark.parametrize("hook", PLAIN)
def test_one_that_is_async_where_nothing_can_wait_is_refused(hook: str) -> None:
    async def later() -> None: ...

    with pytest.raises(PluginError, match=f"plugin 'hostile': '{hook}' is async, and nothing can wait for it there"):
        _ = app_with(hostile=plugin(hook, later, is_async=True)).hooks


@pytest.mark.parametrize("hook", HOOKS)
def test_an_argument_that_a_hook_has_not_is_refused(hook: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def {hook}(self, nothing): ...", scope)
    hostile = type("Plugin", (), {hook: hookimpl(scope[hook])})()
    with pytest.raises(PluginError, match=r"plugin 'hostile': .*nothing"):
        _ = app_with(hostile=hostile).hooks


def test_a_misspelt_hook_is_refused_with_the_one_that_was_meant() -> None:
    class Plugin:
        @hookimpl
        def job_finishd(self) -> None: ...

    with pytest.raises(PluginError, match="implements 'job_finishd', which is no hook; did you mean 'job_finished'"):
        _ = app_with(hostile=Plugin()).hooks


def test_after_three_failures_a_hook_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ValueError("wrong")

    app = app_with(hostile=plugin("forbidden_flags", fails))

    async def work(hooks: LoopDispatch) -> None:
        for _ in range(10):
            await hooks.collect_async("forbidden_flags", good, app=app)

    with caplog.at_level(logging.WARNING, "pgtasks.plugins"):
        in_a_loop(work, app)
    assert len(calls) == 3
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["hook_failed", "hook_disabled"]


def test_one_that_hangs_has_one_thread_and_is_not_called_again_meanwhile(stuck: Stuck) -> None:
    calls: list[int] = []

    def hangs() -> None:
        calls.append(1)
        stuck.released.wait(LONG)

    app = app_with(0.2, hostile=plugin("forbidden_flags", hangs))

    async def work(hooks: LoopDispatch) -> None:
        for _ in range(5):
            await hooks.collect_async("forbidden_flags", good, app=app)

    in_a_loop(work, app)
    assert len(calls) == 1


def test_an_observer_hears_in_order_what_it_is_told() -> None:
    heard: list[float] = []

    class Plugin:
        @hookimpl
        def job_timed_out(self, timeout: float) -> None:
            heard.append(timeout)

    app = app_with(observer=Plugin())
    for number in range(1000):
        app.hooks.tell("job_timed_out", job=None, timeout=number)
    app.hooks.flush(LONG)
    assert heard == list(range(1000))


def test_an_observer_that_falls_behind_loses_calls_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.plugins.lanes.FULL", 10)
    app = app_with(slow=plugin("job_started", stuck.released.wait))
    with caplog.at_level(logging.WARNING, "pgtasks.plugins"):
        for _ in range(20):
            app.hooks.tell("job_started", job=None)
    assert any("hook_calls_dropped plugin=slow hook=job_started" in record.getMessage() for record in caplog.records)


def test_calls_that_wait_for_one_that_hangs_are_not_made(stuck: Stuck) -> None:
    calls: list[int] = []

    def hangs() -> None:
        calls.append(1)
        stuck.released.wait(LONG)

    app = app_with(0.2, hostile=plugin("retry_decision", hangs))

    async def work(hooks: LoopDispatch) -> None:
        asked = (hooks.decide_async("retry_decision", good, **given("retry_decision")) for _ in range(20))
        assert await asyncio.gather(*asked) == [None] * 20

    in_a_loop(work, app)
    assert len(calls) == 1


def test_the_time_that_a_plain_function_has_begins_when_it_is_called(caplog: pytest.LogCaptureFixture) -> None:
    def slow() -> str:
        time.sleep(0.02)
        return "good"

    app = app_with(0.5, slow=plugin("retry_decision", slow))

    async def work(hooks: LoopDispatch) -> None:
        asked = (hooks.decide_async("retry_decision", good, **given("retry_decision")) for _ in range(40))
        assert await asyncio.gather(*asked) == ["good"] * 40

    with caplog.at_level(logging.WARNING, "pgtasks.plugins"):
        in_a_loop(work, app)
    assert not caplog.records


def test_an_observer_without_a_thread_is_dropped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    app = app_with(observer=plugin("job_started", lambda: heard.append(1)))
    with caplog.at_level(logging.WARNING, "pgtasks.plugins"):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            app.hooks.tell("job_started", job=None)
            app.hooks.tell_all([("job_started", {"job": None})])
        app.hooks.tell("job_started", job=None)
    app.hooks.flush(LONG)
    assert heard == [1]
    assert any("hook_calls_dropped plugin=observer" in record.getMessage() for record in caplog.records)


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
