"""`pgtasks cron`: what runs at which times, and steering it, whatever hosts there are."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry
from pgtasks.cron.entry import CronEntry
from pgtasks.cron.schedule import Schedule
from pgtasks.queue.crontabs import record_crontabs
from tests.cli.running import Done, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    Command = Callable[..., Done]
    Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def pgtasks(database: str, tmp_path: Path) -> Command:
    """`pgtasks cron` on the test's database."""
    return partial(run, "cron", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database)
    entry = CronEntry(
        id="nightly", task="clean_up", schedule=Schedule("30 4 * * *", "Europe/Berlin"), source="crontab:1",
        payload={"all": True}, queue="night", flags=("slow",), max_attempts=3,
    )  # fmt: skip
    app.run(record_crontabs(app.statements, "host-1", [entry]))
    app.timetables.put("report:7", "report", "0 12 1 1 *", payload={"user": 7})
    yield app
    app.close()


def objects(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_entries_and_timetables_are_listed_with_their_times(pgtasks: Command, app: App, connection: Connection) -> None:
    connection.execute("INSERT INTO graphile_worker._private_known_crontabs VALUES ('theirs', now(), '2026-01-01Z')")
    connection.execute(
        "UPDATE graphile_worker._pgtasks_timetables SET settled_until = now() - interval '400 days', last_at = "
        "'2024-01-01 12:00Z', scheduled_at = '2024-01-01 12:00:03Z', scheduled_by = 'host-2'"
    )
    done = pgtasks("list", "--json")
    assert (done.code, done.err) == (0, "")
    nightly, report, theirs = objects(done)
    assert (nightly["id"], nightly["kind"], nightly["task"], nightly["payload"]) == (
        "nightly",
        "crontab",
        "clean_up",
        {"all": True},
    )
    upcoming = Schedule("30 4 * * *", "Europe/Berlin").next_after(dt.datetime.now(dt.UTC))
    assert upcoming is not None
    assert (nightly["next_at"], nightly["last_at"], nightly["lag"], nightly["overdue"]) == (
        f"{upcoming:%Y-%m-%dT%H:%M:%SZ}",
        None,
        None,
        None,
    )
    assert (report["kind"], report["lag"], report["scheduled_by"]) == ("timetable", 3, "host-2")
    assert report["overdue"] > 30 * 86_400
    assert (theirs["last_at"], theirs["next_at"]) == ("2026-01-01T00:00:00Z", None)

    lines = pgtasks("list").out.splitlines()
    assert lines[0].split() == ["id", "kind", "task", "schedule", "next", "last", "lag", "by", "state"]
    assert "30 4 * * * Europe/Berlin" in lines[1]
    assert "3 s  host-2  overdue for" in lines[2]
    assert lines[3].endswith("only Graphile Workers have it")
    done = pgtasks("list", "nightli", "report:7")
    assert (done.code, len(done.out.splitlines())) == (10, 2)
    assert "did you mean 'nightly'?" in done.err
    connection.execute(
        "UPDATE graphile_worker._private_known_crontabs SET last_execution = '2999-01-01Z' WHERE identifier = 'nightly'"
    )
    assert objects(pgtasks("list", "nightly", "--json"))[0]["next_at"] == "2999-01-01T03:30:00Z"


def test_the_next_times_come_in_order_and_without_what_is_paused(pgtasks: Command, app: App) -> None:
    app.timetables.put("minutely", "tick", "* * * * *")
    times = objects(pgtasks("next", "1600", "--json"))
    assert [each["time"] for each in times] == sorted(each["time"] for each in times)
    assert {each["id"] for each in times} == {"minutely", "nightly"}
    assert len(objects(pgtasks("next", "3", "report:7", "--json"))) == 3
    assert len(objects(pgtasks("next", "report:7", "--json"))) == 10
    done = pgtasks("next", "0")
    assert (done.code, done.err.partition(". See")[0]) == (
        2,
        "pgtasks: error: the number of times is from 1 to 10000, not 0",
    )
    app.timetables.pause("minutely")
    done = pgtasks("next", "2")
    assert [line.split()[-2:] for line in done.out.splitlines()[1:]] == [["nightly", "clean_up"]] * 2
    assert done.err == "pgtasks: left out: 1 paused entry\n"


def test_a_job_is_added_now(pgtasks: Command, app: App) -> None:
    [job] = objects(pgtasks("run", "nightly", "--json"))
    assert (job["task"], job["queue"], job["flags"], job["max_attempts"]) == ("clean_up", "night", ["slow"], 3)
    assert job["payload"]["all"] is True
    assert job["payload"]["_cron"]["backfilled"] is False
    assert abs((dt.datetime.fromisoformat(job["payload"]["_cron"]["ts"]) - dt.datetime.now(dt.UTC)).days) <= 1
    done = pgtasks("run", "report:7")
    assert (done.code, done.out) == (0, f"added job {job['id'] + 1} of task 'report'\n")
    assert app.jobs.list(task="report").jobs[0].payload["user"] == 7
    done = pgtasks("run", "report:8")
    assert (done.code, "did you mean 'report:7'?" in done.error) == (10, True)


def test_entries_are_paused_and_resumed_for_all_hosts(pgtasks: Command, app: App) -> None:
    done = pgtasks("pause", "nightly", "report:7", "nightlies")
    assert (done.code, done.out) == (10, "2 entries paused: nightly, report:7\n")
    assert done.error.endswith("did you mean 'nightly'?)")
    assert [entry["paused"] for entry in objects(pgtasks("list", "--json"))] == [True, True]
    assert objects(pgtasks("resume", "-", "--json", stdin="nightly\nreport:7\n")) == [
        {"id": "nightly", "done": True, "reason": None},
        {"id": "report:7", "done": True, "reason": None},
    ]
    assert [entry["paused"] for entry in objects(pgtasks("list", "--json"))] == [False, False]
