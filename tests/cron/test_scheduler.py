"""Scheduling on a real database, with clocks that are the test's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.cron.clocks import DatabaseTime, Skew
from pgtasks.job import JobSpec
from tests.cron.simulation import START, Time, at, entry

if TYPE_CHECKING:
    from tests.cron.simulation import World

HOURLY = entry("hourly", "0 * * * *", backfill=86400)
OFTEN = entry("often", "*/10 * * * *")


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_what_is_due_is_added_once_by_the_host_that_comes_first(world: World) -> None:
    options = {
        "payload": {"to": "Ada"},
        "queue": "q",
        "max_attempts": 3,
        "priority": -5,
        "job_key": "k",
        "flags": ("a", "b"),
    }
    full, plain = entry("full", "10 12 * * *", **options), entry("plain", "10 12 * * *")
    first, second = world.host(full, plain), world.host(full, plain)
    assert first.step() == second.step() == pytest.approx(30.02)
    assert world.ticks() == []
    world.go_to("12:10")
    assert first.step() == second.step() == pytest.approx(60.02)
    assert world.rows(
        "select task_identifier, queue_name, priority, max_attempts, key, flags, run_at from {gw}.jobs order by id"
    ) == [
        ("do_full", "q", -5, 3, "k", {"a": True, "b": True}, at("12:10")),
        ("do_plain", None, 0, 25, None, None, at("12:10")),
    ]
    payloads = world.rows("select payload from {gw}._private_jobs order by id")
    cron = {"ts": "2026-05-04T12:10:00.000Z", "backfilled": False}
    assert payloads == [({"to": "Ada", "_cron": cron},), ({"_cron": cron},)]
    assert [tick.entry.id for tick in first.hooks.scheduled] == ["full", "plain"]
    assert second.hooks.scheduled == []
    columns = "identifier, last_tick, scheduled_at, scheduled_by, last_job_id is not null"
    assert world.rows(f"select {columns} from {{gw}}._pgtasks_crontabs order by 1") == [
        (name, at("12:10"), at("12:10"), "host 0", True) for name in ("full", "plain")
    ]


def test_an_entry_is_backfilled_from_when_it_was_known_or_done_last_over_its_window(world: World) -> None:
    world.host(HOURLY, OFTEN).step()
    assert world.rows(
        "select identifier, known_since, last_execution from {gw}._private_known_crontabs order by 1"
    ) == [
        ("hourly", START, None),
        ("often", START, None),
    ]
    world.go_to("14:30")
    later = world.host(HOURLY, OFTEN)
    later.step()
    assert world.ticks() == ["13:00+", "14:00+", "14:30"]
    assert [tick.at for tick in later.hooks.backfilled] == [at("13:00"), at("14:00")]
    world.go_to(at("14:30") + timedelta(days=3))
    new = entry("new", "* * * * *", backfill=86400)
    world.host(HOURLY, new).step()
    assert world.ticks("do_hourly")[2:] == [f"{hour % 24:02}:00+" for hour in range(15, 39)]
    assert world.ticks("do_new") == ["14:30"]


def test_a_minute_that_comes_early_waits_and_late_ones_are_caught_up_with_in_order(world: World) -> None:
    host = world.host(OFTEN)
    host.step()
    world.time.database_ahead = timedelta(seconds=-1)
    world.go_to("12:10")
    assert host.step() == pytest.approx(1.02)
    assert world.ticks() == []
    world.go_to(at("12:10") + timedelta(seconds=1))
    host.step()
    world.go_to("12:55")
    host.step()
    assert world.ticks() == ["12:10", "12:20", "12:30", "12:40", "12:50"]


def test_one_statement_a_minute_is_asked_and_none_without_entries(world: World) -> None:
    host, idle = world.host(entry("rare", "0 0 1 1 *")), world.host()
    for minute in range(1, 6):
        world.go_to(f"12:{minute:02}")
        host.step()
        assert idle.step() is None
    assert host.link.asked == ["record_crontabs", *["schedule_crontab"] * 5]
    assert idle.link.asked == []


def test_clocks_that_jump_are_told_and_nothing_is_scheduled_twice_or_left_out(world: World) -> None:
    host = world.host(OFTEN)
    world.time.host_ahead = timedelta(seconds=7)
    host.step()
    world.go_to("12:10")
    host.step()
    for ahead in (25, -5, 0):
        world.time.database_ahead = timedelta(minutes=ahead)
        host.step()
    world.time.host_ahead = timedelta(hours=-1)
    world.go_to("12:30")
    host.step()
    world.time.host_ahead -= timedelta(hours=2)
    world.time.database_ahead -= timedelta(hours=2)
    world.go_to("12:31")
    host.step()
    told = [(skew.clock, round(skew.seconds), skew.reason) for skew in host.hooks.skews]
    assert told == [
        ("host", 7, "differs"),
        ("database", 1500, "jumped"),
        ("database", -1800, "jumped"),
        ("database", 300, "jumped"),
        ("host", -3607, "jumped"),
        ("both", -7200, "jumped"),
    ]
    assert world.ticks() == ["12:10", "12:20", "12:30"]


def test_after_an_outage_what_is_an_hour_late_is_caught_up_with_and_the_rest_is_backfilled(world: World) -> None:
    host = world.host(HOURLY, OFTEN)
    host.step()
    world.go_to("12:30")
    host.step()
    world.away = True
    world.go_to("13:05")
    assert 0 < (host.step() or 0) <= 0.5
    world.go_to("13:12")
    assert 0 < (host.step() or 0) <= 1
    world.away = False
    host.step()
    assert world.ticks("do_hourly") == ["13:00+"]
    assert world.ticks("do_often") == ["12:10", "12:20", "12:30", "12:40", "12:50", "13:00", "13:10"]
    world.away = True
    world.go_to("15:05")
    host.step()
    world.away = False
    host.step()
    world.go_to("15:10")
    host.step()
    assert world.ticks("do_hourly")[1:] == ["14:00+", "15:00+"]
    assert world.ticks("do_often")[7:] == ["15:10"]
    assert len(host.link.forgiven) == 2


def test_a_statement_whose_answer_is_lost_is_not_done_twice(world: World) -> None:
    host = world.host(OFTEN)
    host.step()
    world.go_to("12:20")
    host.link.lose_answers = True
    host.step()
    host.link.lose_answers = False
    host.step()
    assert world.ticks() == ["12:10", "12:20"]


def test_what_is_due_while_an_entry_is_paused_is_never_added(world: World) -> None:
    def pause(paused: bool) -> None:
        assert world.rows("select {gw}._pgtasks_pause_crontabs(array['hourly', 'none'], %s)", paused) == [("hourly",)]

    host = world.host(HOURLY)
    host.step()
    pause(True)
    world.go_to("13:00")
    host.step()
    world.go_to("13:30")
    pause(False)
    # The database's own clock says up to when nothing is made up for; here it is another than the simulated one.
    world.rows("update {gw}._private_known_crontabs set last_execution = '2026-05-04 13:30+00'")
    world.go_to("14:10")
    world.host(HOURLY).step()
    assert world.ticks() == ["14:00+"]


def test_resuming_leaves_out_what_was_due_while_no_worker_ran(world: World) -> None:
    world.host(HOURLY).step()
    world.rows("select {gw}._pgtasks_pause_crontabs(array['hourly'], true)")
    world.rows("select {gw}._pgtasks_pause_crontabs(array['hourly'], false)")
    [(last, now)] = world.rows("select last_execution, date_trunc('minute', now()) from {gw}._private_known_crontabs")
    assert last in (now, now - timedelta(minutes=1))  # another one may have begun
    assert world.rows("select paused_at from {gw}._pgtasks_crontabs") == [(None,)]


def test_plugins_may_change_jobs_and_refuse_them_for_good(world: World) -> None:
    host, other = world.host(OFTEN, HOURLY), world.host(OFTEN, HOURLY)
    host.step()
    other.step()
    spec = JobSpec(task="other", payload={"_cron": {"ts": "2026-05-04T23:00:00Z", "backfilled": False}}, delay=60)
    host.hooks.change = lambda ticks: [replace(tick, spec=spec) for tick in ticks if tick.entry.id == "hourly"]
    world.go_to("13:00")
    host.step()
    other.step()
    assert world.ticks() == ["23:00"]
    assert world.rows("select task_identifier, run_at from {gw}.jobs") == [("other", at("13:01"))]


def test_a_job_that_the_database_refuses_keeps_no_other_from_being_added(world: World) -> None:
    world.rows(
        "create function public.refuse() returns trigger language plpgsql as "
        "$$ begin if new.priority = 13 then raise 'unlucky'; end if; return new; end $$"
    )
    world.rows("create trigger refuse before insert on {gw}._private_jobs for each row execute function refuse()")
    host = world.host(entry("bad", "*/10 * * * *", priority=13), OFTEN)
    host.step()
    world.go_to("12:10")
    host.step()
    assert world.ticks() == ["12:10"]
    assert host.link.forgiven == []


def test_versions_with_other_entries_run_side_by_side(world: World) -> None:
    old = world.host(OFTEN, entry("moved", "15 * * * *"), entry("removed", "20 * * * *"))
    old.step()
    world.go_to("12:10")
    old.step()
    new = world.host(OFTEN, entry("moved", "25 * * * *"), entry("added", "20 * * * *", backfill=86400))
    new.step()
    for minute in ("12:15", "12:20", "12:25"):
        world.go_to(minute)
        old.step()
        new.step()
    old.scheduler.use([OFTEN])
    world.go_to("13:25")
    old.step()
    new.step()
    assert world.ticks("do_moved") == ["12:15", "12:25", "13:25"]
    assert world.ticks("do_removed") == ["12:20"]
    assert world.ticks("do_added") == ["12:20", "13:20"]
    assert world.ticks("do_often") == ["12:10", "12:20", "12:30", "12:40", "12:50", "13:00", "13:10", "13:20"]


def test_a_transaction_left_open_on_the_key_of_a_job_holds_up_its_entry_alone(world: World) -> None:
    locked, free = entry("locked", "*/10 * * * *", job_key="k", backfill=3600), entry("free", "*/10 * * * *")
    first, second = world.host(locked, free), world.host(locked, free)
    first.step()
    second.step()
    with psycopg.connect(world.conninfo) as connection:
        add = psycopg.sql.SQL("select {}.add_job('other', job_key => 'k')")
        connection.execute(add.format(psycopg.sql.Identifier(world.schema)))
        for minute in ("12:10", "12:20"):
            world.go_to(minute)
            first.step()
        assert world.ticks() == ["12:10", "12:20"]
        assert first.link.forgiven == []
        connection.rollback()
    world.go_to("12:21")
    first.step()
    second.step()
    assert world.ticks("do_free") == ["12:10", "12:20"]
    assert world.ticks("do_locked") == ["12:20"]  # in place of the one before, which has the same key
    assert [tick.at for tick in first.hooks.scheduled if tick.entry is locked] == [at("12:10"), at("12:20")]
    assert second.hooks.scheduled == []


def test_a_payload_that_only_json_tells_from_the_one_before_is_taken_over(world: World) -> None:
    host = world.host(entry("often", "*/10 * * * *", payload={"a": 1}))
    host.step()
    host.scheduler.use([entry("often", "*/10 * * * *", payload={"a": True})])
    world.go_to("12:10")
    host.step()
    assert world.rows("select payload::jsonb -> 'a' from {gw}._private_jobs") == [(True,)]


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
def test_an_entry_that_somebody_has_put_off_for_ever_stops_no_other(world: World, moment: str) -> None:
    minutely = entry("odd", "* * * * *", backfill=60)
    world.host(minutely, OFTEN).step()
    world.rows("update {gw}._private_known_crontabs set last_execution = %s where identifier = 'odd'", moment)
    host = world.host(minutely, OFTEN)
    host.step()
    world.go_to("12:10")
    host.step()
    assert world.ticks("do_often") == ["12:10"]
    assert bool(world.ticks("do_odd")) == (moment == "-infinity")


def test_an_answer_that_takes_its_time_is_no_clock_that_has_jumped() -> None:
    time = Time()
    database = DatabaseTime(time)
    for took in (0, 25, 0, 0):
        told, asked = time.of_database(), time.monotonic()
        time.true += timedelta(seconds=took)
        assert database.note(told, asked) is None
        time.true += timedelta(seconds=30)
    time.database_ahead = timedelta(seconds=20)
    assert database.note(time.of_database(), time.monotonic()) == Skew("database", 20, "jumped")
