"""Timetables that are kept in the database: putting them, and adding their jobs, each time exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest

from pgtasks import App, JobOptionError, PayloadError, Timetable
from pgtasks.cron.timetables import TimetableScheduler
from pgtasks.errors import CronError
from tests.queue.conftest import Admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.database import Operation
    from tests.sql.queue import Queue

T = TypeVar("T")


class Clock:
    """What time it is, until it is told otherwise; it begins soon, when what was just put is in the past."""

    def __init__(self) -> None:
        self.now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=1)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += dt.timedelta(**span)


class Link:
    """The database as a host sees it."""

    def __init__(self, app: App, host: str) -> None:
        self.app = app
        self.statements = app.statements
        self.worker_id = host
        self.asked = 0
        self.asked_often = asyncio.Event()

    async def insist(self, operation: Operation[T], unless: Callable[[Exception], bool] | None = None) -> tuple[T, int]:
        self.asked += 1
        if self.asked > 6:
            self.asked_often.set()
        return await self.app.run_async(operation), 1

    def forgiving(self, statement: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Hosts:
    """Hosts that schedule, at times that the test says."""

    def __init__(self, app: App, runner: asyncio.Runner) -> None:
        self.clock = Clock()
        self.links = [Link(app, name) for name in ("host-a", "host-b", "host-c")]
        self.schedulers = [TimetableScheduler(link, self.clock) for link in self.links]
        self._runner = runner

    def tick(self, hosts: int = 1) -> None:
        async def ticks() -> None:
            await asyncio.gather(*(scheduler.tick() for scheduler in self.schedulers[:hosts]))

        self._runner.run(ticks())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def hosts(app: App, runner: asyncio.Runner) -> Iterator[Hosts]:
    yield Hosts(app, runner)
    runner.run(app.aclose())


@pytest.fixture(params=["blocking", "asyncio"])
def timetables(request: pytest.FixtureRequest, app: App, runner: asyncio.Runner) -> Admin:
    return Admin(app.timetables if request.param == "blocking" else app.timetables_async, runner)


def jobs(queue: Queue) -> list[tuple[str, str, bool]]:
    """Task, minute, and whether it is backfilled, of each job, in the order in which they were added."""
    found = queue.rows(
        "select identifier, payload from {gw}._private_jobs as jobs "
        "join {gw}._private_tasks as tasks on tasks.id = task_id order by jobs.id"
    )
    crons = [(row["identifier"], json.loads(row["payload"])["_cron"]) for row in found]
    return [(task, cron["ts"][11:16], cron["backfilled"]) for task, cron in crons]


def test_a_timetable_is_made_changed_paused_and_removed(timetables: Admin, queue: Queue) -> None:
    options = {"queue": "reports", "max_attempts": 3, "priority": -1, "job_key": "report:7", "flags": ["slow"]}
    made = timetables.put(
        "report:7", "report", "30  4 * * mon", timezone="Europe/Berlin", payload={"user": 7},
        backfill=dt.timedelta(days=2), job_key_mode="preserve_run_at", **options,
    )  # fmt: skip
    assert isinstance(made, Timetable)
    assert (made.payload, made.backfill, made.flags, made.paused, made.next_at) == (
        {"user": 7},
        172_800,
        ("slow",),
        False,
        None,
    )
    assert timetables.get("report:7") == made
    changed = timetables.put("report:7", "report", "@daily")
    assert (changed.schedule, changed.timezone, changed.payload, changed.queue) == ("@daily", "UTC", {}, None)
    other = timetables.put("report:8", "other", "* * * * *")
    assert timetables.list() == [changed, other]
    assert timetables.list(task="other", ids=["report:7", "report:8"]) == timetables.list(after="report:7") == [other]

    assert timetables.pause("report:7")
    assert timetables.get("report:7").paused
    assert timetables.put("report:7", "report", "@daily").paused
    assert timetables.resume("report:7")
    assert not timetables.get("report:7").paused
    job = timetables.run("report:7")
    assert (job.task, job.payload["_cron"]["backfilled"]) == ("report", False)

    assert timetables.remove("report:7")
    assert timetables.get("report:7") is None
    assert not any([timetables.remove("report:7"), timetables.pause("report:7"), timetables.resume("report:7")])
    assert timetables.run("report:7") is None
    assert queue.values("select count(*) from {gw}._private_jobs") == [1]


def test_a_mistake_is_told_at_once(app: App) -> None:
    @app.task(queue="mail", priority=3)
    def greet(n: int, loud: bool = False) -> None: ...

    put = app.timetables.put
    made = put("right", greet, "@daily", payload={"n": 1}, priority=4, backfill="2d")
    assert (made.task, made.queue, made.priority, made.backfill) == ("greet", "mail", 4, 172_800)
    assert app.timetables.remove("right")
    for schedule, timezone in (("61 * * * *", "UTC"), ("* * * *", "UTC"), ("@never", "UTC"), ("@daily", "Mars/Base")):
        with pytest.raises(CronError):
            put("a", "greet", schedule, timezone=timezone)
    with pytest.raises(PayloadError):
        put("a", greet, "@daily", payload={"n": "many"})
    with pytest.raises(PayloadError, match="has to be an object"):
        put("a", "other", "@daily", payload=[1])
    with pytest.raises(JobOptionError, match="_cron"):
        put("a", "other", "@daily", payload={"_cron": 1})
    with pytest.raises(CronError, match="backfill"):
        put("a", "other", "@daily", backfill=-1)
    with pytest.raises(JobOptionError, match="id="):
        put("", "other", "@daily")
    wrong: Any = put
    with pytest.raises(JobOptionError, match="<built-in function print> is no task, nor the name of one"):
        wrong("a", print, "@daily")
    with pytest.raises(TypeError, match=r"^put\(\) got an unexpected keyword argument 'max'"):
        wrong("a", "other", "@daily", max=3)
    assert app.timetables.list() == []


def test_each_time_gives_one_job_on_any_number_of_hosts_and_one_for_all_that_was_missed(
    app: App, hosts: Hosts, queue: Queue
) -> None:
    for number in range(450):  # more than one statement settles
        app.timetables.put(f"many-{number}", "many", "*/15 * * * *", payload={"n": number})
    app.timetables.put("hourly", "hourly", "5 * * * *", backfill=3 * 3600)
    app.timetables.put("daily", "daily", "10 3 * * *")
    app.timetables.put("paused", "paused", "* * * * *")
    app.timetables.pause("paused")
    hosts.clock.now = hosts.clock.now.replace(hour=0) + dt.timedelta(days=1)
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s", hosts.clock.now)
    hosts.tick(3)
    assert jobs(queue) == []

    hosts.clock.forward(minutes=15, seconds=0.2)
    hosts.tick(3)
    hosts.tick(3)
    assert sorted(jobs(queue)) == [("hourly", "00:05", True)] + [("many", "00:15", False)] * 450
    assert len(set(queue.values("select payload::jsonb ->> 'n' from {gw}._private_jobs"))) == 451

    queue.run("delete from {gw}._private_jobs")
    hosts.clock.forward(hours=5)  # all were away
    hosts.tick(3)
    done = jobs(queue)
    backfilled = [("hourly", f"0{hour}:05", True) for hour in (3, 4, 5)]
    assert [job for job in done if job[0] == "hourly"] == backfilled
    assert sorted(done) == sorted([*backfilled, ("daily", "03:10", True), *[("many", "05:15", False)] * 450])
    hourly = app.timetables.get("hourly")
    assert hourly is not None
    assert hourly.last_at == hosts.clock.now.replace(minute=5, second=0, microsecond=0)
    assert hourly.scheduled_by in {"host-a", "host-b", "host-c"}

    # A long backfill takes several statements, and loses nothing.
    queue.run("delete from {gw}._private_jobs")
    app.timetables.put("minutely", "minutely", "* * * * *", backfill=86_400)
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s where id = 'minutely'", hosts.clock.now)
    hosts.clock.forward(minutes=120)
    hosts.tick(3)
    minutely = [minute for task, minute, _ in jobs(queue) if task == "minutely"]
    assert minutely == [f"{minute // 60:02}:{minute % 60:02}" for minute in range(316, 436)]


def test_a_changed_schedule_begins_anew_and_an_unchanged_one_goes_on(
    app: App, hosts: Hosts, queue: Queue, runner: asyncio.Runner
) -> None:
    put = app.timetables.put
    for name in ("same", "changed", "paused", "idle"):
        put(name, name, "*/10 * * * *")
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s", hosts.clock.now)
    hosts.tick()
    hosts.clock.forward(minutes=12)

    async def while_somebody_changes() -> None:
        ticking = asyncio.create_task(hosts.schedulers[0].tick())
        await hosts.links[0].asked_often.wait()  # it looks again and again, and has to leave them alone
        connection.commit()
        await ticking

    with psycopg.connect(queue.conn.info.dsn) as connection:
        put("same", "same", "*/10 * * * *", payload={"new": 1}, connection=connection)
        put("changed", "changed", "30 3 1 1 *", connection=connection)
        put("new", "new", "@daily", connection=connection)
        app.timetables.pause("paused", connection=connection)
        hosts.links[0].asked = 0
        runner.run(while_somebody_changes())
    ten = hosts.clock.now.strftime("%H:10")
    assert jobs(queue) == [("idle", ten, True), ("same", ten, True)]
    assert [timetable.id for timetable in app.timetables.list() if timetable.next_at is None] == []
    app.timetables.resume("paused")
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s where id = 'paused'", hosts.clock.now)
    hosts.tick()
    assert len(jobs(queue)) == 2


def test_what_sql_has_put_is_planned_and_what_is_wrong_is_told(
    app: App, hosts: Hosts, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    put = "select ({gw}.pgtasks_put_timetable(%s, %s, %s)).id"
    queue.value(put, "good", "good", " 5  *\t* * * ")
    queue.value(put, "bad", "bad", "61 * * * *")
    queue.value(put, "never", "never", "0 0 30 2 *")
    for schedule in ("* * * *", "1 2 3 4 ?", None):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="five fields"):
            queue.value(put, "worse", "worse", schedule)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="Mars"):
        queue.value("select {gw}.pgtasks_put_timetable('a', 'a', '@daily', 'Mars/Base')")
    with pytest.raises(psycopg.errors.CheckViolation):  # Python has no such time, and would settle it for ever
        queue.run("update {gw}._pgtasks_timetables set settled_until = 'infinity'")
    queue.value(
        "select {gw}.pgtasks_put_timetable('hostile', 'hostile', '* * * * *', payload => %s)",
        '{"big": 123456789012345678901234567890, "nul": "\\u0000", "nested": {}} ',
    )
    queue.value(put, "refused", "refused", "* * * * *")
    queue.run(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end $$"
    )
    queue.run(
        "create trigger refuse before insert on {gw}._private_jobs for each row "
        "when (new.payload::text like '%%\"refused\"%%') execute function refuse()"
    )
    queue.run("update {gw}._pgtasks_timetables set payload = '{\"refused\": 1}' where id = 'refused'")
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s", hosts.clock.now)
    hosts.tick()
    hosts.clock.forward(minutes=5)
    hosts.tick()
    hosts.tick()
    assert sorted(task for task, *_ in jobs(queue)) == ["good", "hostile"]
    [hostile] = queue.values("select payload::text from {gw}._private_jobs where payload::text like '%%nul%%'")
    assert json.loads(hostile)["nul"] == "\0"
    assert json.loads(hostile)["big"] == 123456789012345678901234567890
    errors = {timetable.id: timetable.error for timetable in app.timetables.list() if timetable.error}
    assert list(errors) == ["bad", "never"]
    told = [record.getMessage() for record in caplog.records if "timetable_" in record.getMessage()]
    assert [line.partition(" ")[0] for line in told] == ["timetable_invalid"] * 2 + ["timetable_failed"]
    queue.value(put, "bad", "bad", "6 * * * *")
    hosts.tick()
    bad = app.timetables.get("bad")
    assert bad is not None
    assert (bad.error, bad.next_at is None) == (None, False)


def test_a_transaction_left_open_on_the_key_of_a_job_holds_up_its_timetable_alone(
    app: App, hosts: Hosts, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    app.timetables.put("locked", "locked", "*/10 * * * *", job_key="k")
    app.timetables.put("free", "free", "*/10 * * * *")
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s", hosts.clock.now)
    hosts.tick()
    hosts.clock.forward(minutes=10)
    with psycopg.connect(queue.conn.info.dsn) as connection:
        app.add_job("other", job_key="k", connection=connection)
        hosts.tick()
        assert [task for task, *_ in jobs(queue)] == ["free"]
        connection.rollback()
    assert [record.levelname for record in caplog.records if "timetable_failed" in record.getMessage()] == ["ERROR"]
    hosts.schedulers[0]._put_off.clear()
    hosts.tick()
    assert sorted(task for task, *_ in jobs(queue)) == ["free", "locked"]


def test_a_transaction_left_open_on_many_timetables_does_not_hide_others(app: App, hosts: Hosts, queue: Queue) -> None:
    many = (
        "select {gw}.pgtasks_put_timetable('many-' || n, 'many', '1 * * * *', priority => 1) "
        "from generate_series(1, 200) as n"
    )
    queue.run(many)
    app.timetables.put("free", "free", "5 * * * *")
    queue.value("select ({gw}.pgtasks_put_timetable('ever', 'ever', '7-8 * * * *', backfill => '10000 years')).id")
    queue.run("update {gw}._pgtasks_timetables set settled_until = %s", hosts.clock.now)
    hosts.tick()
    hosts.clock.forward(minutes=10)
    with psycopg.connect(queue.conn.info.dsn) as connection:
        connection.execute(f"select from {queue.name}._pgtasks_timetables where task = 'many' for update".encode())
        hosts.tick()
        assert [task for task, *_ in jobs(queue)] == ["free", "ever", "ever"]
    hosts.schedulers[0]._put_off.clear()
    hosts.tick()
    assert len(jobs(queue)) == 203
