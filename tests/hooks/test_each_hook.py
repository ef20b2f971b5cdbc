"""Each hook is called by a real worker, or by who adds jobs, with what its documentation says: a test of its name."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, JobSpec, Registry, hookimpl
from pgtasks.cron.ticks import due
from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import CronEntry, CronTick, HostInfo, Metric, Schedule
from pgtasks.worker.host_hooks import HostHooks
from tests.waiting import wait_until
from tests.worker.conftest import LONG, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hooks.conftest import Recorded
    from tests.worker.conftest import Database

    Record = Callable[..., Recorded]


def test_every_hook_has_a_test_of_its_name() -> None:
    assert set(HOOKS) <= {name.removeprefix("test_") for name in globals() if name.startswith("test_")}


@pytest.fixture
def ran(record: Record, db: Database) -> Callable[..., Recorded]:
    """Runs one job of a task to its end."""

    def run(task: str | None, **options: Any) -> Recorded:
        if task is not None:
            db.app.add_job(task, **options)
        recorded = record("--once", "--processes", "1")
        assert recorded.worker.wait() == 0
        return recorded

    return run


# Loading


def test_configure(ran: Callable[..., Recorded]) -> None:
    assert {call["role"] for call in ran("works").calls("configure")} == {"supervisor", "worker"}


def test_a_plugin_that_has_nothing_to_do_says_so_and_is_not_called() -> None:
    class Idle:
        @hookimpl
        def configure(self) -> bool:
            return False

        @hookimpl
        def collect_metrics(self) -> list[Metric]:
            return [Metric("visits", 1)]

    app = App(registry=Registry(), plugins=[Idle], database_url="")
    assert app.hooks.collect("collect_metrics", list) == []


def test_a_plugin_may_use_the_database_while_it_is_configured(database: str) -> None:
    calls = []

    class Reader:
        @hookimpl
        def configure(self, app: App) -> None:
            with app.connection() as connection:
                calls.append(connection.execute("select 1").fetchone())

    app = App(registry=Registry(), plugins=[Reader], database_url=database)
    _ = app.hooks
    app.close()
    assert calls == [(1,)]


def test_register_tasks(ran: Callable[..., Recorded]) -> None:
    assert {call["role"] for call in ran("works").calls("register_tasks")} == {"worker"}


def test_tasks_of_plugins_are_run() -> None:
    class Plugin:
        @hookimpl
        def register_tasks(self, app: App) -> None:
            def work() -> None: ...

            app.task(name="of_plugin")(work)

    app = App(registry=Registry(), plugins=[Plugin], database_url="")
    _ = app.hooks
    assert list(app.registry.names) == ["of_plugin"]


def test_register_migrations(ran: Callable[..., Recorded]) -> None:
    assert {call["role"] for call in ran("works").calls("register_migrations")} == {"supervisor"}


def test_setup_logging(ran: Callable[..., Recorded]) -> None:
    calls = ran("works").calls("setup_logging")
    assert {call["role"] for call in calls} == {"supervisor", "worker"}
    assert calls[0]["given"] == {"level": "info", "format": "json"}


def test_prepare_connection(db: Database, database: str) -> None:
    class Plugin:
        @hookimpl
        def prepare_connection(self) -> list[str]:
            return ["set application_name = 'prepared'"]

    app = App(registry=Registry(), plugins=[Plugin], database_url=database)
    with app.connection() as connection:
        assert connection.execute("show application_name").fetchone() == ("prepared",)
    app.close()


def command(arguments: list[str], database: str, file: Any) -> str:
    environment = {"PGTASKS_DATABASE_URL": database, "HOOK_CALLS": str(file), "PGTASKS_PLUGINS": "tests.hooks.recorder"}
    done = subprocess.run(
        [sys.executable, "-m", "pgtasks", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    return done.stdout + done.stderr


def test_register_commands(database: str, tmp_path: Any) -> None:
    command(["--help"], database, tmp_path / "calls")
    assert '"register_commands"' in (tmp_path / "calls").read_text()


def test_register_checks(database: str, tmp_path: Any) -> None:
    command(["doctor"], database, tmp_path / "calls")
    assert '"register_checks"' in (tmp_path / "calls").read_text()


# Adding


class Producer:
    """Marks what is added, and remembers it."""

    def __init__(self) -> None:
        self.told: list[int] = []

    @hookimpl
    def before_defer(self, specs: list[JobSpec]) -> list[JobSpec]:
        if any(spec.payload == "refused" for spec in specs):
            raise PermissionError("not this one")
        return [replace(spec, flags=("marked",)) for spec in specs]

    @hookimpl
    def after_defer(self, jobs: list[Any]) -> None:
        self.told += [job.id for job in jobs]


@pytest.fixture
def producer(db: Database, database: str) -> Any:
    plugin = Producer()
    app = App(registry=Registry(), plugins=[plugin], database_url=database)
    yield app, plugin
    app.close()


def test_before_defer(producer: Any, db: Database) -> None:
    app, _ = producer
    one = app.add_job("works")
    many = app.add_jobs(JobSpec(task="works") for _ in range(250))
    assert one.flags == ("marked",)
    assert {tuple(job.flags) for job in many} == {("marked",)}
    assert db.value("select count(*) from graphile_worker.jobs where flags = '{\"marked\": true}'") == 251
    with pytest.raises(PermissionError, match="not this one"):
        app.add_job("works", "refused")
    with pytest.raises(PermissionError, match="not this one"):
        app.add_jobs([JobSpec(task="works"), JobSpec(task="works", payload="refused")])
    assert db.count() == 251


def test_after_defer(producer: Any) -> None:
    app, plugin = producer
    added = [app.add_job("works"), *app.add_jobs([JobSpec(task="works")] * 3)]
    app.hooks.flush(LONG)
    assert plugin.told == [job.id for job in added]


class Mirror:
    @hookimpl
    def payload_codec(self) -> Any:
        return self

    def encode(self, text: str) -> str:
        return json.dumps({"hidden": text[::-1]})

    def decode(self, text: str) -> str:
        return str(json.loads(text).get("hidden", text[::-1]))[::-1]


def test_payload_codec(db: Database, database: str) -> None:
    app = App(registry=Registry(), plugins=[Mirror], database_url=database)
    app.add_job("works", {"to": "ada", "nothing": None})
    app.add_jobs([JobSpec(task="works", payload=[1, None]), JobSpec(task="works")])
    stored = [row[0] for row in db.rows("select payload from graphile_worker._private_jobs order by id")]
    assert [json.loads(payload["hidden"][::-1]) for payload in stored] == [
        {"to": "ada", "nothing": None},
        [1, None],
        {},
    ]
    app.close()


MIRROR = """
import json
from pgtasks.plugins import hookimpl

class Codec:
    def encode(self, text):
        return text

    def decode(self, text):
        return json.loads(text)["hidden"][::-1]

@hookimpl
def payload_codec():
    return Codec()

@hookimpl
def admit_jobs(jobs):
    print("stored", [job.payload for job in jobs], flush=True)
"""


def test_a_handler_gets_a_decoded_payload_though_a_plugin_has_looked_at_what_is_stored(
    start_worker: Any, db: Database, tmp_path: Any
) -> None:
    (tmp_path / "mirror.py").write_text(MIRROR)
    job = db.app.add_job("fail", {"hidden": json.dumps({"message": "as decoded"})[::-1]})
    worker = start_worker("--once", "--processes", "1", "-p", "mirror", env={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == 0
    assert "stored [{'hidden'" in worker.text
    assert "as decoded" in db.job(job.id).last_error


# The supervisor


def test_supervisor_ready(ran: Callable[..., Recorded]) -> None:
    host = ran("works").given("supervisor_ready")["host"]
    assert (host["processes"], host["concurrency"], "works" in host["tasks"]) == (1, 10, True)


def test_worker_spawned(ran: Callable[..., Recorded]) -> None:
    recorded = ran("works")
    process = recorded.given("worker_spawned")["process"]
    started = recorded.worker.records("process_started")[0]
    assert (process["pid"], process["worker_id"], process["index"]) == (started["pid"], started["worker"], 0)


def test_worker_exited(ran: Callable[..., Recorded]) -> None:
    assert ran("works").given("worker_exited")["code"] == 0


def test_on_worker_lost(ran: Callable[..., Recorded]) -> None:
    recorded = ran("dies", max_attempts=1)
    given = recorded.given("on_worker_lost")
    assert (given["code"], given["reason"]) == (3, "exit code 3")
    assert [job["worker_id"] for job in given["jobs"]] == [given["process"]["worker_id"]]


def test_recover_job(ran: Callable[..., Recorded]) -> None:
    assert ran("dies", max_attempts=1).given("recover_job")["lost"]["error"].startswith("WorkerProcessDied")


def test_jobs_recovered(ran: Callable[..., Recorded]) -> None:
    given = ran("dies", max_attempts=1).given("jobs_recovered")
    assert (given["charged"], given["returned"]) == (1, 0)


def test_supervisor_tick(record: Record) -> None:
    recorded = record("--processes", "1")
    recorded.wait_for("supervisor_tick")
    assert recorded.worker.stop() == 0


def test_shutdown_requested(record: Record) -> None:
    recorded = record("--processes", "1")
    recorded.wait_for("worker_ready")
    assert recorded.worker.stop() == 0
    assert recorded.given("shutdown_requested") == {"reason": "a signal"}


def test_supervisor_stopped(ran: Callable[..., Recorded]) -> None:
    assert [call["role"] for call in ran(None).calls("supervisor_stopped")] == ["supervisor"]


def cut_off_listening(recorded: Recorded, db: Database) -> None:
    """End the session that listens, as soon as it does."""
    recorded.worker.wait_for("worker_ready")
    found = "application_name like 'pgtasks supervisor%%' and query ilike 'listen%%'"
    end = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {found} and %s"
    wait_until(lambda: db.value(end, True), LONG, "a listening session")


def test_listen_lost(record: Record, db: Database) -> None:
    recorded = record("--processes", "1")
    cut_off_listening(recorded, db)
    recorded.wait_for("listen_lost")
    assert recorded.given("listen_lost")["error"]


def test_listen_restored(record: Record, db: Database) -> None:
    recorded = record("--processes", "1")
    cut_off_listening(recorded, db)
    recorded.wait_for("listen_restored")


# Cron


def known_for_five_minutes(db: Database) -> None:
    known = "insert into graphile_worker._private_known_crontabs values ('often', now() - interval '5 minutes')"
    db.connection.execute(known)


def scheduling(record: Record) -> Recorded:
    recorded = record("--processes", "1", "-p", "tests.hooks.timetable")
    recorded.worker.wait_for("cron_started")
    for hook in ("cron_scheduled", "jobs_claimed"):
        recorded.wait_for(hook)
    assert recorded.worker.stop() == 0
    return recorded


def test_register_cron(ran: Callable[..., Recorded]) -> None:
    assert {call["role"] for call in ran(None).calls("register_cron")} == {"worker"}


def test_cron_backfill(record: Record, db: Database) -> None:
    known_for_five_minutes(db)
    recorded = scheduling(record)
    ticks = recorded.given("cron_backfill")["ticks"]
    assert len(ticks) in (5, 6)  # a minute may begin in between
    assert {(tick["entry"]["id"], tick["backfilled"], tick["job_id"]) for tick in ticks} == {("often", True, None)}
    assert recorded.given("before_cron_schedule")["ticks"] == ticks
    assert {call["role"] for call in recorded.calls("cron_backfill")} == {"supervisor"}


def test_before_cron_schedule() -> None:
    class Nonsense:
        @hookimpl(tryfirst=True)
        def before_cron_schedule(self) -> list[str]:
            return ["nonsense"]

    class Holiday:
        @hookimpl
        async def before_cron_schedule(self, ticks: list[CronTick]) -> list[CronTick]:
            return [replace(tick, spec=JobSpec(task="other")) for tick in ticks if tick.at.minute != 1]

    async def ask() -> list[tuple[int, str]]:
        app = App(registry=Registry(), plugins=[Nonsense, Holiday], database_url="")
        hooks = HostHooks(app, app.use_loop(), HostInfo("host", 1, 1, ()))
        entry = CronEntry(id="often", task="works", schedule=Schedule("* * * * *"), source="test")
        start = datetime(2026, 5, 4, 12, tzinfo=UTC)
        answered = await hooks.before_cron(list(due([entry], start, start + timedelta(minutes=3))))
        return [(tick.at.minute, tick.spec.task) for tick in answered]

    assert asyncio.run(ask()) == [(2, "other"), (3, "other")]


def test_cron_scheduled(record: Record, db: Database) -> None:
    known_for_five_minutes(db)
    recorded = scheduling(record)
    ticks = recorded.given("cron_scheduled")["ticks"]
    assert len(ticks) in (5, 6)
    assert {tick["entry"]["id"] for tick in ticks} == {"often"}
    assert ticks[0]["job_id"] == recorded.given("jobs_claimed")["jobs"][0]["id"]


def test_cron_clock_skew(record: Record, db: Database) -> None:
    recorded = record("--processes", "1", "-p", "tests.hooks.timetable")
    recorded.worker.wait_for("worker_ready")
    recorded.worker.wait_for("cron_started")
    # A worker that starts puts its functions in place; one that reloads entries asks what time it is.
    [(definition,)] = db.rows("select pg_get_functiondef('graphile_worker._pgtasks_record_crontabs'::regproc)")
    db.connection.execute(definition.replace("clock_timestamp()", "clock_timestamp() + interval '1 hour'").encode())
    recorded.worker.signal(signal.SIGHUP)
    recorded.wait_for("cron_clock_skew")
    told = recorded.given("cron_clock_skew")
    assert (told["clock"], round(told["seconds"] / 60), told["reason"]) == ("database", 60, "jumped")
    recorded.worker.wait_for("cron_clock_skew", clock="database")


# Worker processes


def test_worker_process_init(ran: Callable[..., Recorded]) -> None:
    recorded = ran("works")
    [call] = recorded.calls("worker_process_init")
    assert call["pid"] == call["given"]["process"]["pid"] == recorded.worker.process_ids()[0]


def test_worker_ready(ran: Callable[..., Recorded]) -> None:
    assert ran(None).given("worker_ready")["process"]["index"] == 0


def test_forbidden_flags(ran: Callable[..., Recorded]) -> None:
    assert ran("works").calls("forbidden_flags", role="worker")


def test_before_claim(ran: Callable[..., Recorded]) -> None:
    plan = ran("works").given("before_claim")["plan"]
    assert (plan["free_slots"], plan["forbidden_flags"], plan["forbidden_queues"]) == (10, [], [])
    assert "works" in plan["tasks"]


def test_jobs_claimed(ran: Callable[..., Recorded]) -> None:
    assert [job["task"] for job in ran("works").given("jobs_claimed")["jobs"]] == ["works"]


def test_admit_jobs(ran: Callable[..., Recorded]) -> None:
    assert [job["task"] for job in ran("works").given("admit_jobs")["jobs"]] == ["works"]


def test_resolve_task(ran: Callable[..., Recorded]) -> None:
    assert ran("works").given("resolve_task")["job"]["task"] == "works"


def test_job_context(ran: Callable[..., Recorded]) -> None:
    given = ran("works").given("job_context")
    assert (given["job"]["task"], given["task"]) == ("works", "task works")


def test_job_started(ran: Callable[..., Recorded]) -> None:
    assert ran("works").given("job_started")["job"]["attempt"] == 1


def test_job_timed_out(ran: Callable[..., Recorded]) -> None:
    given = ran("overruns").given("job_timed_out")
    assert (given["job"]["task"], given["timeout"]) == ("overruns", 0.2)


def test_retry_decision(ran: Callable[..., Recorded]) -> None:
    given = ran("raises").given("retry_decision")
    assert given["exception"] == "ValueError: it does"
    assert given["error"].startswith("ValueError: it does")


def fields(end: dict[str, Any]) -> tuple[Any, ...]:
    return end["job"]["task"], end["outcome"], end["state"], end["exception"], end["timed_out"]


def test_job_succeeded(ran: Callable[..., Recorded]) -> None:
    end = ran("works").given("job_succeeded")["end"]
    assert fields(end) == ("works", "success", "deleted", None, False)
    assert end["seconds"] >= 0


def test_job_retrying(ran: Callable[..., Recorded]) -> None:
    end = ran("raises").given("job_retrying")["end"]
    assert fields(end) == ("raises", "retry", "retrying", "ValueError: it does", False)


def test_job_failed(ran: Callable[..., Recorded]) -> None:
    end = ran("raises", max_attempts=1).given("job_failed")["end"]
    assert fields(end) == ("raises", "retry", "failed", "ValueError: it does", False)


def test_job_finished(ran: Callable[..., Recorded]) -> None:
    end = ran("overruns").given("job_finished")["end"]
    assert fields(end)[:3] == ("overruns", "retry", "retrying")
    assert end["timed_out"]


def aborted(record: Record, db: Database) -> Recorded:
    db.app.add_job("waits")
    recorded = record("--processes", "1")
    recorded.wait_for("job_started")
    for event in ("worker_draining", "worker_aborting"):
        recorded.worker.signal(signal.SIGTERM)
        recorded.worker.wait_for(event)
    recorded.worker.wait()
    return recorded


def test_job_aborted(record: Record, db: Database) -> None:
    end = aborted(record, db).given("job_aborted")["end"]
    assert fields(end)[:3] == ("waits", "return", "returned")


def test_worker_draining(record: Record, db: Database) -> None:
    assert aborted(record, db).given("worker_draining")["process"]["index"] == 0


def test_worker_process_shutdown(ran: Callable[..., Recorded]) -> None:
    calls = ran("works").calls(role="worker")
    assert calls[-1]["hook"] == "worker_process_shutdown"


# Both


def test_database_error(record: Record, db: Database) -> None:
    db.connection.execute("""
        create function fail() returns trigger language plpgsql as $$
        begin
            raise 'the disk is full' using errcode = 'disk_full';
        end $$;
        create trigger fail before update on graphile_worker._private_jobs for each row execute function fail();
    """)
    db.app.add_job("works")
    recorded = record("--processes", "1")
    recorded.wait_for("database_error")
    assert recorded.given("database_error")["error"] == "the disk is full"


def test_collect_metrics() -> None:
    class Plugin:
        @hookimpl
        def collect_metrics(self) -> list[Metric]:
            return [Metric("visits", 3, "counter")]

    app = App(registry=Registry(), plugins=[Plugin], database_url="")
    assert app.hooks.collect("collect_metrics", list) == [("Plugin", [Metric("visits", 3, "counter")])]


def test_health_check(record: Record) -> None:
    recorded = record("--processes", "1", "--health-port", "0")
    port = recorded.worker.wait_for("health_served")["port"]
    recorded.worker.wait_for("worker_ready")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=LONG) as answer:
        assert answer.status == 200
    assert recorded.calls("health_check")


def test_what_a_health_check_finds_makes_a_worker_unready(record: Record) -> None:
    recorded = record("--processes", "1", "--health-port", "0", env={"PGTASKS_PLUGINS": "tests.hooks.unhealthy"})
    port = recorded.worker.wait_for("health_served")["port"]
    recorded.worker.wait_for("worker_ready")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=LONG)
    with refused.value as answer:
        assert json.load(answer)["problems"] == ["the shop is closed"]


def test_hook_error() -> None:
    told = []

    class Broken:
        @hookimpl
        def collect_metrics(self) -> None:
            raise ValueError("broken")

    class Listener:
        @hookimpl
        def hook_error(self, plugin: str, hook: str, error: str) -> None:
            told.append((plugin, hook, error))

    app = App(registry=Registry(), plugins=[Broken, Listener], database_url="")
    assert app.hooks.collect("collect_metrics", list) == []
    app.hooks.flush(LONG)
    assert told == [("Broken", "collect_metrics", "ValueError: broken")]
