"""Real workers: what is paused does not start anywhere, the rest goes on, and resuming lets it run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import JobSpec
from pgtasks_pause import Weekly, pause, paused, resume
from tests.worker.conftest import prepared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgtasks import App
    from tests.worker.conftest import Database, StartWorker, Worker

HOSTS = 2
PROCESSES = 2
MIGRATE = "run `pgtasks migrate` with the plugin loaded"
SECONDS = 0.02


def add(app: App, task: str, count: int, **options: Any) -> list[int]:
    payload = {"seconds": SECONDS} if task == "work" else {}
    return [job.id for job in app.add_jobs([JobSpec(task=task, payload=payload, **options)] * count)]


def ran(db: Database, ids: list[int]) -> list[int]:
    return [job_id for job_id in db.effects() if job_id in set(ids)]


def running(db: Database, ids: list[int]) -> int:
    found = db.value("select count(*) from graphile_worker.jobs where id = any(%s) and locked_at is not null", ids)
    return int(found)


def wait_until_known(workers: list[Worker], what: str) -> None:
    """Return when every process of every host knows what is paused."""
    for worker in workers:
        worker.wait_for(f"paused: {what}", PROCESSES)


@pytest.mark.parametrize(
    ("subject", "what", "count", "options"),
    [
        ({"task": "work"}, "task 'work'", 1000, {}),
        ({"queue": "q"}, "queue 'q'", 250, {"queue": "q"}),
        ({"flag": "slow"}, "flag 'slow'", 1000, {"flags": ["slow"]}),
    ],
    ids=["task", "queue", "flag"],
)
def test_what_is_paused_starts_nowhere_and_the_rest_goes_on(
    app: App,
    db: Database,
    start_worker: StartWorker,
    with_plugin: Mapping[str, str],
    subject: dict[str, str],
    what: str,
    count: int,
    options: dict[str, Any],
) -> None:
    held = add(app, "work", count, **options)
    others = add(app, "note", 50, priority=1, queue="other") + add(app, "note", 200, priority=1)
    options_of_host = ("--processes", str(PROCESSES), "--concurrency", "2")
    workers = [start_worker(*options_of_host, env=with_plugin) for _ in range(HOSTS)]
    db.wait(lambda: ran(db, held), "the first of the jobs")

    pause(app, **subject)
    wait_until_known(workers, what)
    db.wait(lambda: running(db, held) == 0, "the end of those that were running")
    before = ran(db, held)
    assert len(before) < count, "the pause came too late to tell anything"

    more = add(app, "note", 50)
    db.wait(lambda: len(ran(db, others + more)) == len(others + more), "the others")
    assert ran(db, held) == before
    left = db.rows("select attempts, locked_at from graphile_worker.jobs where id = any(%s)", held)
    assert left == [(0, None)] * (count - len(before))

    resume(app, **subject)
    db.wait_until_empty()
    assert sorted(ran(db, held)) == held
    if "queue" in subject:
        assert ran(db, held) == held, "the queue has kept its order"
    assert {attempt for (attempt,) in db.rows("select attempt from effects")} == {1}


def test_an_idle_worker_runs_what_is_resumed(
    app: App, db: Database, start_worker: StartWorker, with_plugin: Mapping[str, str]
) -> None:
    pause(app, task="note")
    worker = start_worker("--processes", "1", "--poll-interval", "3600", env=with_plugin)
    worker.wait_for("worker_ready")
    add(app, "note", 3)
    worker.wait_for("paused: task 'note'")
    resume(app, task="note")
    db.wait_until_empty()
    assert len(db.effects()) == 3


@pytest.mark.parametrize("kind", ["until", "weekly"])
def test_when_its_window_has_ended_a_task_runs_without_anybody_doing_anything(
    app: App, db: Database, start_worker: StartWorker, with_plugin: Mapping[str, str], kind: str
) -> None:
    pause(app, queue="q", weekly=Weekly("mon-sun", "00:00", "24:00", "Asia/Tokyo") if kind == "weekly" else None)
    held = add(app, "note", 5, queue="q")
    worker = start_worker("--processes", "1", env=with_plugin)
    worker.wait_for("paused: queue 'q'")
    add(app, "note", 1)
    db.wait_for_effects(1)
    assert ran(db, held) == []
    ended = {
        "until": "until = now() + interval '1 second'",
        "weekly": "starts = (now() at time zone timezone)::time + interval '1 hour', "
        "ends = (now() at time zone timezone)::time + interval '2 hours'",
    }[kind]
    db.rows(f"update graphile_worker._pgtasks_pause_pauses set {ended} returning id")
    db.wait_until_empty()
    assert ran(db, held) == held
    assert [one.holds for one in paused(app)] == ([False] if kind == "weekly" else [])


def test_when_its_window_begins_a_task_is_paused(
    app: App, db: Database, start_worker: StartWorker, with_plugin: Mapping[str, str]
) -> None:
    add(app, "note", 1)
    # What it read just before the window, in a look at jobs that came by chance, would do for another second.
    forgetful = prepared("import pgtasks_pause.held as h; h.FRESH_SECONDS = 0.0")
    worker = start_worker("--processes", "1", env=with_plugin, before=forgetful)
    db.wait_until_empty()
    [(soon,)] = db.rows("select now() + interval '1 second'")
    pause(app, task="note", since=soon)
    db.wait(lambda: paused(app)[0].holds, "the window")
    # An idle process learns of it when it looks for jobs.
    held = add(app, "note", 1)
    worker.wait_for("paused: task 'note'")
    add(app, "work", 1)
    db.wait_for_effects(2)
    assert ran(db, held) == []


def test_when_the_table_goes_workers_keep_to_what_they_know(
    app: App, db: Database, start_worker: StartWorker, with_plugin: Mapping[str, str]
) -> None:
    pause(app, task="note")
    held = add(app, "note", 3)
    worker = start_worker("--processes", "1", env=with_plugin)
    worker.wait_for("paused: task 'note'")
    db.connection.execute("drop table graphile_worker._pgtasks_pause_pauses cascade")
    told = f"plugin 'pause' has no table in schema 'graphile_worker', and so task 'note' stays paused: {MIGRATE}"
    worker.wait_for(told)
    add(app, "work", 3)
    db.wait_for_effects(3)
    assert ran(db, held) == []
    assert worker.stop() == 0
    assert len(worker.records(told)) == 1


def test_once_ends_where_only_what_is_paused_is_left(
    app: App, db: Database, start_worker: StartWorker, with_plugin: Mapping[str, str]
) -> None:
    for subject in ({"task": "work"}, {"queue": "q"}, {"flag": "slow"}):
        pause(app, **subject)
    held = add(app, "work", 2) + add(app, "note", 2, queue="q") + add(app, "note", 2, flags=["slow"])
    others = add(app, "note", 2)
    worker = start_worker("--once", "--processes", "2", env=with_plugin)
    assert worker.wait() == 0
    assert sorted(db.effects()) == others
    assert db.count() == len(held)
    assert [record for record in worker.records() if "Traceback" in str(record) or "destroyed" in str(record)] == []


def test_a_starting_worker_makes_the_table(
    db: Database, app: App, start_worker: StartWorker, with_plugin: Mapping[str, str]
) -> None:
    db.connection.execute("""
        drop table graphile_worker._pgtasks_pause_pauses cascade;
        drop function graphile_worker._pgtasks_pause_holds, graphile_worker._pgtasks_pause_subject;
        delete from graphile_worker._pgtasks_plugin_migrations;
    """)
    worker = start_worker("--once", "--processes", "1", env=with_plugin)
    assert worker.wait() == 0
    assert paused(app) == []
