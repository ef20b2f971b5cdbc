"""Flags that are forbidden by settings, by a function and by plugins, and what becomes of their jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry, hookimpl
from pgtasks.plugins import ForbiddenFlags
from pgtasks.worker.planning import ForbiddenFlagsCache, Planner

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_jobs_whose_flags_a_function_forbids_are_left_alone_until_it_does_not(
    start_worker: StartWorker, db: Database, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "forbidden"
    file.write_text("a b")
    env = {"FORBIDDING": kind, "FORBIDDEN": str(file)}
    held = [db.app.add_job("works", flags=[flag], priority=-1).id for flag in ("a", "b")]
    db.app.add_job("works")
    db.app.add_job("works", flags=["c"])
    assert start_worker("--once", modules=("tests.hooks.forbidding",), env=env).wait() == 0
    assert [row[0] for row in db.rows("select id from graphile_worker.jobs order by id")] == held
    assert {db.job(job_id).attempts for job_id in held} == {0}

    worker = start_worker(modules=("tests.hooks.forbidding",), env=env)
    worker.wait_for("worker_ready")
    changed = tmp_path / "changed"
    changed.write_text("b")
    changed.replace(file)  # which is never empty
    db.wait(lambda: db.job(held[0]) is None, "the job that may run now")
    assert db.job(held[1]).attempts == 0
    assert worker.stop() == 0


def test_a_list_is_a_setting(database: str) -> None:
    app = App(registry=Registry(), database_url=database, forbidden_flags=["a", "b"])
    assert app.settings.forbidden_flags == ("a", "b")


class Answers:
    """Forbids what it is told to."""

    def __init__(self, name: str, answer: Any) -> None:
        self.name = name
        self.answer = answer
        self.asked = 0

    @hookimpl
    def forbidden_flags(self) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def cache_of(*plugins: Answers) -> ForbiddenFlagsCache:
    app = App(registry=Registry(), plugins=plugins, database_url="")
    return ForbiddenFlagsCache(app.use_loop(), app, ["always"])


def test_settings_and_all_plugins_add_up() -> None:
    async def run() -> None:
        cache = cache_of(Answers("first", ["a"]), Answers("second", {"b", "c"}), Answers("third", None))
        assert await cache.flags() == {"always", "a", "b", "c"}

    asyncio.run(run())


def test_an_answer_is_kept_for_as_long_as_it_says() -> None:
    async def run() -> None:
        plugin = Answers("plugin", ForbiddenFlags(["a"], seconds=1000))
        cache = cache_of(plugin)
        for _ in range(5):
            assert await cache.flags() == {"always", "a"}
        assert plugin.asked == 1

    asyncio.run(run())


def test_where_a_plugin_fails_its_last_answer_stays() -> None:
    async def run() -> None:
        plugin = Answers("plugin", ForbiddenFlags(["a"], seconds=1e-9))
        cache = cache_of(plugin, Answers("other", ForbiddenFlags(["b"], seconds=1e-9)))
        assert await cache.flags() == {"always", "a", "b"}
        for wrong in (ValueError("wrong"), 42, "text", [1]):
            plugin.answer = wrong
            assert await cache.flags() == {"always", "a", "b"}
        assert plugin.asked > 1

    asyncio.run(run())


def test_an_idle_process_looks_for_jobs_only_when_flags_have_changed() -> None:
    async def run() -> None:
        plugin = Answers("plugin", ForbiddenFlags(["a"], seconds=1e-9))
        planner = Planner(None, cache_of(plugin), ["works"])
        await planner.plan(10, 10)
        assert planner.pause is not None
        assert not await planner.may_let_more_in()
        plugin.answer = ForbiddenFlags([], seconds=1e-9)
        assert await planner.may_let_more_in()

    asyncio.run(run())


def test_flags_that_hold_for_long_are_not_asked_for_before() -> None:
    async def run() -> None:
        planner = Planner(None, cache_of(Answers("plugin", ForbiddenFlags(["a"], seconds=1000))), ["works"])
        await planner.plan(10, 10)
        assert planner.pause == pytest.approx(1000, abs=100)

    asyncio.run(run())
