"""Hooks are called in tests as they are called by pgtasks, and what a plugin does wrong is an error."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import JobSpec, PluginError
from pgtasks.plugins import Fail, Migration, Snooze, hookimpl
from pgtasks.testing import call_hook, call_hook_async, check_plugin, make_end, make_job
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks import App

    MakeApp = Callable[..., App]


class Shop:
    name = "shop"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @hookimpl
    def configure(self, app: Any) -> None:
        self.seen.append(app.role)

    @hookimpl
    def before_defer(self, specs: list[JobSpec]) -> list[JobSpec] | None:
        return [replace(spec, priority=5) for spec in specs] if specs else None

    @hookimpl
    def register_migrations(self) -> list[Migration]:
        return [Migration(1, "create table {schema}._pgtasks_shop_visits (at timestamptz)")]

    @hookimpl
    def job_failed(self, end: Any) -> None:
        self.seen.append((end.error, threading.current_thread().name))

    @hookimpl
    async def job_succeeded(self, end: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(end.state)

    @hookimpl
    def retry_decision(self, exception: BaseException) -> object:
        return Snooze(5) if isinstance(exception, OSError) else None

    @hookimpl
    @contextmanager
    def job_context(self, job: Any) -> Iterator[None]:
        self.seen.append(f"begin {job.task}")
        yield
        self.seen.append("end")


def test_what_collects_answers_with_a_list() -> None:
    (migrations,) = call_hook(Shop(), "register_migrations")
    assert [step.number for step in migrations] == [1]


def test_what_decides_answers_with_the_first_decision() -> None:
    job = make_job("charge")
    assert call_hook(Shop(), "retry_decision", job=job, exception=OSError(), error="") == Snooze(5)
    assert call_hook(Shop(), "retry_decision", job=job, exception=ValueError(), error="") is None


def test_what_changes_answers_with_the_value_as_it_is_then() -> None:
    (spec,) = call_hook(Shop(), "before_defer", specs=[JobSpec(task="charge")])
    assert spec == JobSpec(task="charge", priority=5)
    assert call_hook(Shop(), "before_defer", specs=[]) == []


def test_an_observer_is_told_in_a_thread_of_its_plugin_and_has_been_when_the_call_returns() -> None:
    shop = Shop()
    assert call_hook(shop, "job_failed", end=make_end(make_job("charge"), ValueError("no"))) is None
    assert shop.seen[1:] == [("ValueError: no", "pgtasks-plugin-shop")]


def test_an_asynchronous_observer_is_waited_for() -> None:
    shop = Shop()
    call_hook(shop, "job_succeeded", end=make_end(make_job("charge")))
    assert shop.seen[1:] == ["deleted"]


def test_what_wraps_answers_with_a_context_manager() -> None:
    shop = Shop()
    with call_hook(shop, "job_context", job=make_job("charge"), task=None):
        shop.seen.append("job")
    assert shop.seen[1:] == ["begin charge", "job", "end"]


def test_a_plugin_is_configured_for_a_process_in_which_the_hook_is_called() -> None:
    shop = Shop()
    call_hook(shop, "register_migrations")
    call_hook(shop, "job_succeeded", end=make_end(make_job("charge")))
    assert shop.seen[:2] == ["command", "worker"]


def test_all_plugins_of_an_app_are_called(pgtasks_app: MakeApp) -> None:
    class Second:
        @hookimpl
        def retry_decision(self) -> object:
            return Fail("second")

    app = pgtasks_app(plugins=[Shop(), Second()])
    assert call_hook(app, "retry_decision", job=make_job("charge"), exception=OSError(), error="") == Fail("second")


def test_an_app_of_a_test_lends_connections_to_its_plugins_from_blocking_and_from_asyncio_code(
    pgtasks_app: MakeApp,
) -> None:
    class Stock:
        @hookimpl
        def configure(self, app: App) -> None:
            self.app = app

        @hookimpl
        def job_started(self) -> None:
            with self.app.connection() as connection:
                connection.execute("create table stock (articles int)")
                connection.execute("insert into stock values (7)")

        @hookimpl
        async def forbidden_flags(self) -> list[str]:
            async with self.app.async_connection() as connection:
                cursor = await connection.execute("select 'few' from stock where articles < 10")
                return [flag for (flag,) in await cursor.fetchall()]

    app = pgtasks_app(plugins=[Stock()])
    call_hook(app, "job_started", job=make_job("charge"))
    for _ in range(2):  # each in an event loop of its own
        (answer,) = call_hook(app, "forbidden_flags")
        assert set(answer.flags) == {"few"}


def test_an_app_of_a_test_has_the_tables_of_its_plugins(pgtasks_app: MakeApp) -> None:
    with pgtasks_app(plugins=[Shop()]).connection() as connection:
        assert connection.execute("select count(*) from graphile_worker._pgtasks_shop_visits").fetchone() == (0,)


def test_hooks_can_be_called_from_asyncio_code() -> None:
    async def call() -> None:
        with pytest.raises(PluginError, match=r"await call_hook_async\(…, 'job_succeeded', …\)"):
            call_hook(shop, "job_succeeded", end=end)
        await call_hook_async(shop, "job_succeeded", end=end)
        await call_hook_async(shop, "register_migrations")

    shop, end = Shop(), make_end(make_job("charge"))
    asyncio.run(call())
    assert "deleted" in shop.seen


class Faulty:
    @hookimpl
    def job_failed(self) -> None:
        raise ValueError("observing")

    @hookimpl
    async def job_succeeded(self) -> None:
        raise ValueError("observing, too")

    @hookimpl
    def retry_decision(self) -> object:
        raise ValueError("deciding")

    @hookimpl
    def forbidden_flags(self) -> str:
        return "few"

    @hookimpl
    def before_defer(self, specs: list[JobSpec]) -> list[JobSpec]:
        return specs[1:]

    @hookimpl
    def admit_jobs(self) -> dict[int, str]:
        return {1: "no"}

    @hookimpl
    async def before_claim(self) -> None:
        await asyncio.sleep(60)

    @hookimpl
    @contextmanager
    def job_context(self) -> Iterator[None]:
        yield
        raise ValueError("leaving")


@pytest.mark.parametrize(
    ("hook", "given", "words"),
    [
        ("job_failed", {"end": make_end(make_job("charge"), OSError())}, "^observing$"),
        ("job_succeeded", {"end": make_end(make_job("charge"))}, "^observing, too$"),
        ("retry_decision", {"job": make_job("charge"), "exception": OSError(), "error": ""}, "^deciding$"),
    ],
)
def test_what_an_isolated_hook_raises_is_raised(hook: str, given: dict[str, Any], words: str) -> None:
    for _ in range(5):  # and it is not left alone for that
        with pytest.raises(ValueError, match=words):
            call_hook(Faulty(), hook, **given)


def test_what_a_context_manager_of_a_plugin_raises_is_raised() -> None:
    def run() -> None:
        with call_hook(Faulty(), "job_context", job=make_job("charge"), task=None):
            pass

    with pytest.raises(ValueError, match="leaving"):
        run()


@pytest.mark.parametrize(
    ("hook", "given", "words"),
    [
        ("before_defer", {"specs": [JobSpec(task="charge")]}, "as many specs as were given, 1, and has 0"),
        ("forbidden_flags", {}, "it must be a list of flags"),
        ("admit_jobs", {"jobs": [make_job("charge")]}, "a job can get Snooze, Cancel or Fail, not str"),
    ],
)
def test_an_answer_that_is_no_good_is_an_error_that_names_the_plugin(
    hook: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(PluginError, match=f"plugin 'Faulty' has answered hook '{hook}' with .*{words}"):
        call_hook(Faulty(), hook, **given)


def test_an_answer_that_takes_too_long_is_an_error(pgtasks_app: MakeApp) -> None:
    app = pgtasks_app(plugins=[Faulty()], hook_timeout=0.05)
    with pytest.raises(PluginError, match=r"hook 'before_claim' of plugin 'Faulty' took longer than 0\.05 s"):
        call_hook(app, "before_claim", plan=None)


@pytest.mark.parametrize(
    ("hook", "given", "words"),
    [
        ("job_faild", {}, "'job_faild' is no hook; did you mean 'job_failed'"),
        ("job_failed", {"ended": 1}, r"'job_failed' has no argument 'ended'; did you mean 'end'\?; it has: end"),
        ("retry_decision", {"job": 1}, "is called with job, exception, error; give exception, error too"),
        (
            "worker_ready",
            {"process": 1},
            r"no plugin implements 'worker_ready'.*: shop \(configure, register_migrations, .*\)",
        ),
    ],
)
def test_a_call_that_pgtasks_would_not_make_is_an_error(hook: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        call_hook(Shop(), hook, **given)


def test_a_plugin_that_is_as_it_has_to_be_is_described() -> None:
    info = check_plugin(Shop)
    assert info.name == "shop"
    assert info.hooks[:2] == ("configure", "register_migrations")


def test_a_module_can_be_checked() -> None:
    module = ModuleType("shop_plugin", "A plugin.")
    module.name = "shop"  # type: ignore[attr-defined]
    module.job_failed = hookimpl(lambda end: None)  # type: ignore[attr-defined]
    assert check_plugin(module).name == "shop"
    module.worker_ready = lambda process: None  # type: ignore[attr-defined]
    with pytest.raises(PluginError, match="plugin 'shop': 'worker_ready' is named like a hook, but is not marked"):
        check_plugin(module)


class Misspelt:
    @hookimpl
    def job_faild(self) -> None: ...


class WrongArgument:
    @hookimpl
    def job_failed(self, job: Any) -> None: ...


class Unmarked:
    @hookimpl
    def job_failed(self) -> None: ...

    @staticmethod
    def worker_ready() -> None: ...


class Asynchronous:
    @hookimpl
    async def configure(self) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Misspelt, "plugin 'Misspelt' implements 'job_faild', which is no hook; did you mean 'job_failed'"),
        (WrongArgument, "plugin 'WrongArgument': .*job_failed.*job"),
        (Unmarked, "plugin 'Unmarked': 'worker_ready' is named like a hook, but is not marked with @hookimpl"),
        (Asynchronous, "plugin 'Asynchronous': 'configure' is async"),
        (object(), "plugin 'object' implements no hook"),
        ("shopping", "plugin 'shopping' is neither installed .* nor a module"),
    ],
)
def test_a_plugin_that_has_a_fault_is_refused(plugin: object, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        check_plugin(plugin)


def test_calls_leave_no_thread_behind() -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        call_hook(Shop(), "job_failed", end=make_end(make_job("charge"), ValueError()))
        call_hook(Shop(), "retry_decision", job=make_job("charge"), exception=OSError(), error="")
    wait_until(lambda: set(threading.enumerate()) <= before, what="the end of the threads")
