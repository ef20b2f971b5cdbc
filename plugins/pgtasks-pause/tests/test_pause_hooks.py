"""What a process knows of pauses, and answers to hooks."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import pgtasks_pause
from pgtasks import App, Registry
from pgtasks.plugins import ClaimPlan, Snooze
from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from pgtasks_pause import held, pause, resume
from pgtasks_pause.held import Held, Reader
from tests.conftest import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.servers import Servers

Connection = psycopg.Connection[Any]
PLAN = ClaimPlan(10, 5, ("send", "mail"), frozenset({"big"}), frozenset({"q"}))


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every question read the database."""
    monkeypatch.setattr(held, "FRESH_SECONDS", 0.0)


def run(app: App, coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def closing() -> Any:
        try:
            return await coroutine
        finally:
            await app.aclose()

    return asyncio.run(closing())


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= level and record.name == "pgtasks.plugins.pause"
    ]


async def answers() -> tuple[Any, Any]:
    flags = await pgtasks_pause.forbidden_flags()
    return set(flags.flags), await pgtasks_pause.before_claim(PLAN)


def test_a_plan_leaves_out_what_is_paused(app: App) -> None:
    for subject in ({"task": "send"}, {"task": "unknown"}, {"queue": "r"}, {"flag": "slow"}):
        pause(app, **subject)
    _ = app.hooks
    assert run(app, answers()) == (
        {"slow"},
        ClaimPlan(10, 5, ("mail",), frozenset({"big", "slow"}), frozenset({"q", "r"})),
    )


def test_a_plan_stays_as_it_is_where_nothing_is_paused(app: App) -> None:
    _ = app.hooks
    assert run(app, answers()) == (set(), None)


def test_jobs_that_were_claimed_and_have_not_started_go_back(app: App) -> None:
    kept = app.add_job("send", queue="q", flags=["big"])
    by_task, by_queue = app.add_job("mail"), app.add_job("send", queue="r")
    by_flag = app.add_job("send", flags=["big", "slow"])
    for subject in ({"task": "mail"}, {"queue": "r"}, {"flag": "slow"}):
        pause(app, **subject)
    assert run(app, pgtasks_pause.admit_jobs([kept, by_task, by_queue, by_flag])) == {
        job.id: Snooze(0) for job in (by_task, by_queue, by_flag)
    }


def test_the_table_is_read_once_a_second_at_most(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(held.time, "monotonic", lambda: clock[0])
    reader = Reader(app)

    async def asked() -> list[str]:
        found = []
        for moment in (0.0, 0.9, 1.0):
            clock[0] = 1000 + moment
            found.append(str(await reader.held()))
            await asyncio.to_thread(pause, app, task=f"task {moment}")
        return found

    assert run(app, asked()) == ["nothing", "nothing", "task 'task 0.0', task 'task 0.9'"]


def test_flags_hold_for_as_long_as_what_was_read(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(held.time, "monotonic", lambda: clock[0])
    _ = app.hooks

    async def seconds() -> list[float]:
        found = []
        for moment in (0.0, 0.75):
            clock[0] = 1000 + moment
            found.append((await pgtasks_pause.forbidden_flags()).seconds)
        return found

    assert run(app, seconds()) == [1.0, 0.25]


def test_questions_at_once_are_one_read(app: App, connection: Connection) -> None:
    reader = Reader(app)

    async def at_once() -> list[Held | None]:
        return await asyncio.gather(*(reader.held() for _ in range(20)))

    assert run(app, at_once()) == [Held()] * 20
    query = "select count(*) from pg_stat_activity where query like '%%pgtasks_paused%%' and pid <> pg_backend_pid()"
    assert connection.execute(query).fetchone() <= (1,)


# What goes wrong


@pytest.mark.usefixtures("always")
def test_when_the_table_goes_the_last_answer_stays_and_is_told_of_once(
    app: App, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pause(app, task="send")
    reader = Reader(app)

    async def all_of_it() -> None:
        assert await reader.held() == Held(tasks=frozenset({"send"}))
        connection.execute("alter view graphile_worker.pgtasks_paused rename to elsewhere")
        for _ in range(3):
            assert await reader.held() == Held(tasks=frozenset({"send"}))
        [told] = messages(caplog)
        assert "run `pgtasks migrate` with the plugin loaded" in told
        assert "task 'send'" in told
        connection.execute("alter view graphile_worker.elsewhere rename to pgtasks_paused")
        await asyncio.to_thread(resume, app, task="send")
        assert await reader.held() == Held()
        assert messages(caplog, logging.INFO)[-2:] == ["pauses can be read again", "paused: nothing"]

    run(app, all_of_it())


@pytest.mark.usefixtures("always")
def test_where_there_has_been_no_table_nothing_is_paused(empty_app: App, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(empty_app)

    async def all_of_it() -> None:
        for _ in range(2):
            assert await reader.held() == Held()

    run(empty_app, all_of_it())
    assert len(messages(caplog)) == 1


@pytest.fixture
def empty_app(servers: Servers) -> Any:
    server = servers.get(18)
    name = server.create_database()
    app = App(registry=Registry(), database_url=server.conninfo(name))
    with psycopg.connect(server.conninfo(name), autocommit=True) as conn:
        migrate(conn)
    yield app
    app.close()
    server.drop_database(name)


@pytest.mark.usefixtures("always")
def test_while_the_database_is_away_the_last_answer_stays_and_is_told_of_once(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pgtasks.plugins.pause")
    cluster = servers.cluster(synchronous_commit="on")
    cluster.start()
    app = App(registry=Registry(), database_url=cluster.conninfo(), hook_timeout=0.2)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        migrate(conn)
        migrate_plugins(conn, SCHEMA, plugin_steps(SCHEMA, [("pause", pgtasks_pause.register_migrations())]))
    pause(app, queue="q")
    reader, known = Reader(app), Held(queues=frozenset({"q"}))

    async def knowing() -> None:
        async with asyncio.timeout(30):
            while await reader.held() is None:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.01)

    async def asking_until(message: str) -> None:
        while not any(text.startswith(message) for text in messages(caplog, logging.INFO)):
            assert await reader.held() == known
            await asyncio.sleep(0.01)

    async def all_of_it() -> None:
        await knowing()
        cluster.stop("immediate")
        await asking_until("what is paused cannot be read, and so stays as it was (queue 'q'): ")
        cluster.start()
        await asking_until("pauses can be read again")

    run(app, all_of_it())
    app.close()
    assert len(messages(caplog)) == 1


def test_before_the_first_answer_nothing_is_claimed() -> None:
    away = App(registry=Registry(), plugins=[pgtasks_pause], database_url="postgresql://127.0.0.1:1/nothing")
    _ = away.hooks
    flags, plan = run(away, answers())
    assert (flags, plan.limit) == (set(), 0)


# The doctor


def test_the_doctor_tells_what_is_paused(app: App, connection: Connection) -> None:
    pause(app, task="send", reason="it is broken", by="ada")
    pause(app, task="mail", since=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    [check] = pgtasks_pause.register_checks(app)
    [found] = check(connection)
    assert found.severity == "note"
    assert found.problem is not None
    assert found.problem.startswith("task 'send' is paused (since ")
    assert found.problem.endswith(" by ada: it is broken")
