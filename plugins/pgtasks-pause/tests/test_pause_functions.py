"""What the SQL functions do, and the Python functions that call them."""

from __future__ import annotations

import asyncio
import datetime as dt
import doctest
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

import pgtasks_pause.data
from pgtasks import App, Registry
from pgtasks_pause import PauseError, Weekly, pause, pause_async, paused, paused_async, resume, resume_async
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

Connection = psycopg.Connection[Any]
HOUR = dt.timedelta(hours=1)
NOW = dt.datetime.now(dt.UTC)


# Windows

NIGHT = ("fri-sat", "22:00", "04:00", "Europe/Berlin")
NOON = ("mon", "11:30", "12:30", "Europe/Berlin")
SUNDAY = ("sun", "00:00", "24:00", "Asia/Tokyo")


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    ("window", "at", "holds"),
    [
        (NOON, "2026-06-01 11:29:59.9+02", False),
        (NOON, "2026-06-01 11:30:00+02", True),
        (NOON, "2026-06-01 12:29:59.9+02", True),
        (NOON, "2026-06-01 12:30:00+02", False),
        (NOON, "2026-06-02 12:00:00+02", False),
        (NOON, "2026-01-05 10:30:00+00", True),  # winter
        (NOON, "2026-06-01 10:30:00+00", False),  # summer
        (NIGHT, "2026-06-05 21:59:59+02", False),
        (NIGHT, "2026-06-05 22:00:00+02", True),
        (NIGHT, "2026-06-06 03:59:59+02", True),
        (NIGHT, "2026-06-06 04:00:00+02", False),
        (NIGHT, "2026-06-07 03:59:59+02", True),  # of the window that began on Saturday
        (NIGHT, "2026-06-07 22:00:00+02", False),
        (NIGHT, "2026-06-05 03:00:00+02", False),
        (SUNDAY, "2026-06-06 14:59:59+00", False),
        (SUNDAY, "2026-06-06 15:00:00+00", True),
        (SUNDAY, "2026-06-07 14:59:59+00", True),
        (SUNDAY, "2026-06-07 15:00:00+00", False),
        # The wall clock shows 02:30 twice when summer ends, and not at all when it begins.
        (("sun", "02:15", "02:45", "Europe/Berlin"), "2026-10-25 00:30:00+00", True),
        (("sun", "02:15", "02:45", "Europe/Berlin"), "2026-10-25 01:30:00+00", True),
        (("sun", "02:15", "02:45", "Europe/Berlin"), "2026-03-29 01:00:00+00", False),
    ],
)
def test_a_window_is_that_of_the_wall_clock(
    connection: Connection, schema: str, window: tuple[str, str, str, str], at: str, holds: bool
) -> None:
    weekly = Weekly(*window)
    query = sql.SQL("select {}._pgtasks_pause_holds(%s, '2000-01-01Z', null, %s, %s, %s, %s)")
    parameters = (at, list(weekly.days), weekly.start, weekly.end, weekly.timezone)
    assert connection.execute(query.format(sql.Identifier(schema)), parameters).fetchone() == (holds,)


def test_a_window_that_contains_now_holds_now(app: App, connection: Connection) -> None:
    [now] = connection.execute("select now() at time zone 'Asia/Kolkata'").fetchone() or ()
    around = Weekly(range(1, 8), (now - HOUR).time(), (now + HOUR).time(), "Asia/Kolkata")
    over = Weekly(range(1, 8), (now - 2 * HOUR).time(), (now - HOUR).time(), "Asia/Kolkata")
    assert pause(app, task="a", weekly=around).holds
    assert not pause(app, task="a", weekly=over).holds
    assert [(one.weekly, one.holds) for one in paused(app)] == [(around, True), (over, False)]


@pytest.mark.parametrize(
    ("text", "days"),
    [("sat,sun", (6, 7)), ("mon-fri", (1, 2, 3, 4, 5)), ("Fri-Mon", (1, 5, 6, 7)), ("tue, thu", (2, 4))],
)
def test_weekdays_may_be_written_as_text(text: str, days: tuple[int, ...]) -> None:
    assert Weekly(text, "1:00", "2:00").days == days


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weekly("someday", "1:00", "2:00"), "'someday' in days='someday' is no weekday"),
        (lambda: Weekly("", "1:00", "2:00"), "'' in days='' is no weekday"),
        (lambda: Weekly([0], "1:00", "2:00"), r"days=\[0\] must be numbers from 1, Monday, to 7"),
        (lambda: Weekly("mon", "25:00", "2:00"), "'25:00' is no time of day"),
        (lambda: Weekly("mon", dt.time(1, tzinfo=dt.UTC), "2:00"), "has a time zone of its own"),
        (lambda: Weekly.parse("mon 1-2", "UTC"), "'mon 1-2' is no window"),
    ],
)
def test_a_window_that_is_none_is_refused(make: Callable[[], Weekly], message: str) -> None:
    with pytest.raises(PauseError, match=message):
        make()


def test_the_examples_are_true() -> None:
    assert doctest.testmod(pgtasks_pause.data).failed == 0


# Pausing


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_a_pause_is_listed_until_it_is_resumed(app: App) -> None:
    made = pause(app, queue="mail", reason="the provider is down", by="ada")
    assert (made.what, made.name, made.holds, made.until, made.weekly) == ("queue", "mail", True, None, None)
    assert (made.reason, made.by) == ("the provider is down", "ada")
    assert paused(app) == [made]
    assert resume(app, queue="mail") == [made]
    assert paused(app) == []


def test_who_has_paused_is_the_database_user_by_default(app: App, connection: Connection) -> None:
    assert pause(app, flag="slow").by == connection.info.user


def test_what_is_paused_already_gets_the_new_end_and_reason(app: App) -> None:
    first = pause(app, task="a", until=HOUR, reason="one")
    second = pause(app, task="a", reason="two")
    assert (second.id, second.since, second.until, second.reason) == (first.id, first.since, None, "two")
    assert paused(app) == [second]


def test_an_end_is_a_time_or_a_span(app: App) -> None:
    until = NOW + HOUR
    assert pause(app, task="a", until=until).until == until
    made = pause(app, task="b", until=HOUR)
    assert made.until == made.since + HOUR


def test_a_pause_to_come_does_not_hold_yet_and_stands_beside_one_that_does(app: App) -> None:
    later = pause(app, task="a", since=NOW + HOUR, until=NOW + 2 * HOUR)
    assert not later.holds
    now = pause(app, task="a")
    assert [one.id for one in paused(app)] == [later.id, now.id]
    assert [one.id for one in resume(app, task="a")] == [now.id]
    assert paused(app) == [later]


def test_resuming_leaves_windows_unless_told_to(app: App) -> None:
    window = pause(app, task="a", weekly=Weekly("mon", "1:00", "2:00"))
    pause(app, task="a")
    other = pause(app, queue="a")
    assert len(resume(app, task="a")) == 1
    assert [one.id for one in paused(app)] == [window.id, other.id]
    assert [one.id for one in resume(app, task="a", windows=True)] == [window.id]
    assert paused(app) == [other]


def test_a_pause_can_be_ended_by_its_id(app: App) -> None:
    window = pause(app, task="a", weekly=Weekly("mon", "1:00", "2:00"))
    assert resume(app, id=window.id) == [window]
    assert resume(app, id=window.id) == []


def test_a_pause_that_is_over_is_not_listed_and_goes(app: App, connection: Connection) -> None:
    made = pause(app, task="a", until=HOUR)
    connection.execute(
        "update graphile_worker._pgtasks_pause_pauses set since = now() - interval '2 h', until = now() where id = %s",
        [made.id],
    )
    assert paused(app) == []
    assert resume(app, task="a") == []
    assert connection.execute("select count(*) from graphile_worker._pgtasks_pause_pauses").fetchone() == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name one of a task, a queue and a flag: 0 are given"),
        ({"task": "a", "queue": "b"}, "name one of a task, a queue and a flag: 2 are given"),
        ({"task": ""}, "the name of a task is not empty"),
        ({"task": "a", "until": NOW - HOUR}, "the pause would be over before it begins"),
        ({"task": "a", "until": -HOUR}, "the pause would be over before it begins"),
        ({"task": "a", "until": NOW.replace(tzinfo=None)}, "until=.* has no time zone"),
        ({"task": "a", "weekly": Weekly("mon", "1:00", "2:00", "UTC+2")}, "the server knows no time zone 'UTC\\+2'"),
    ],
)
def test_a_pause_that_cannot_be_is_refused(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PauseError, match=message):
        pause(app, **options)
    assert paused(app) == []


@pytest.mark.parametrize(
    "call",
    [
        "pgtasks_pause(task => 'a', until => 'infinity')",
        "pgtasks_pause(task => 'a', until => now() + interval '1 h', lasting => interval '1 h')",
        "pgtasks_pause(task => 'a', weekdays => array[1])",
        "pgtasks_pause(task => 'a', weekdays => array[8], starts => '1:00', ends => '2:00', timezone => 'UTC')",
        "pgtasks_pause(task => 'a', weekdays => '{}', starts => '1:00', ends => '2:00', timezone => 'UTC')",
        "pgtasks_resume(task => 'a', id => 1)",
        "pgtasks_resume()",
    ],
)
def test_the_functions_refuse_what_makes_no_sense(connection: Connection, call: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        connection.execute(f"select graphile_worker.{call}".encode())


def test_pauses_of_the_same_at_once_are_one(app: App, connection: Connection, database: str) -> None:
    with psycopg.connect(database) as one, ThreadPoolExecutor() as pool:
        pause(app, task="a", connection=one)
        second = pool.submit(pause, app, task="a", reason="two")
        blocked = "select count(*) from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
        wait_until(lambda: connection.execute(blocked, [one.info.backend_pid]).fetchone() == (1,))
        one.commit()
        second.result()
    assert [(pause.name, pause.reason) for pause in paused(app)] == [("a", "two")]


def test_a_pause_can_be_part_of_the_callers_transaction(app: App, database: str) -> None:
    with psycopg.connect(database) as mine:
        mine.row_factory = psycopg.rows.dict_row
        pause(app, task="a", connection=mine)
        assert len(paused(app, connection=mine)) == 1
        mine.rollback()
    assert paused(app) == []


def test_resuming_wakes_workers_if_there_was_a_pause(app: App, connection: Connection) -> None:
    connection.execute('listen "jobs:insert"')
    resume(app, task="a")
    pause(app, task="a")
    resume(app, task="a")
    connection.execute("select pg_notify('jobs:insert', 'the end')")
    heard = [note.payload for note in connection.notifies(stop_after=2)]
    assert len(heard) == 2
    assert heard[1] == "the end"
    assert '"count" : 1000' in heard[0]


def test_from_asyncio_code_it_is_the_same(app: App) -> None:
    async def all_of_it() -> None:
        made = await pause_async(app, task="a", until=HOUR)
        assert await paused_async(app) == [made]
        assert await resume_async(app, task="a") == [made]
        with pytest.raises(PauseError):
            await pause_async(app)
        await app.aclose()

    asyncio.run(all_of_it())


@pytest.mark.parametrize(("function", "other"), [(pause, pause_async), (resume, resume_async), (paused, paused_async)])
def test_both_kinds_show_the_same_signature(function: Any, other: Any) -> None:
    assert inspect.signature(function) == inspect.signature(other)
    assert next(iter(inspect.signature(function).parameters)) == "app"
    assert (function.__name__ + "_async", function.__doc__) == (other.__name__, other.__doc__)


def test_without_the_table_it_says_what_to_run(app: App, connection: Connection) -> None:
    connection.execute("drop table graphile_worker._pgtasks_pause_pauses cascade")
    with pytest.raises(PauseError, match="run `pgtasks migrate` with the plugin loaded"):
        paused(app)
    with psycopg.connect(connection.info.dsn, autocommit=True) as conn:
        conn.execute("drop schema graphile_worker cascade")
    with pytest.raises(PauseError, match="run `pgtasks migrate`"):
        pause(app, task="a")


def test_the_plugin_has_the_same_name_however_it_is_loaded(database: str) -> None:
    brought = App(registry=Registry(), plugins=[pgtasks_pause], database_url=database)
    named = App(registry=Registry(), plugins=["pgtasks_pause"], database_url=database)
    assert [[info.name for info in app.plugins] for app in (brought, named)] == [["pause"], ["pause"]]
