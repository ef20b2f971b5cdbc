"""The plugin in real workers, and the commands."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgtasks_history import history
from tests.cli.running import Done, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks import App
    from pgtasks_history import Entry
    from tests.sql.queue import Queue
    from tests.worker.conftest import Database, StartWorker, Worker

PACKAGE = str(Path(__file__).parents[1])
ENV = {"PYTHONPATH": PACKAGE, "PGTASKS_PLUGINS": "pgtasks_history"}


@pytest.fixture
def start(start_worker: StartWorker) -> Callable[..., Worker]:
    """Start a worker with the plugin, and settings of the plugin by name."""

    def start(*options: str, **settings: str) -> Worker:
        own = {f"PGTASKS_PLUGIN_HISTORY__{name.upper()}": value for name, value in settings.items()}
        return start_worker(*options, env={**ENV, **own})

    return start


@pytest.fixture
def pgtasks(database: str, tmp_path: Path) -> Callable[..., Done]:
    """`pgtasks` with the plugin, on the test's database."""
    return partial(run, cwd=tmp_path, env={**ENV, "PGTASKS_DATABASE_URL": database})


def ends(app: App) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for entry in history(app, limit=10_000):
        found.setdefault(entry.job_id, []).append(entry)
    return found


def test_all_ways_in_which_workers_end_jobs_are_recorded(db: Database, app: App, start: Callable[..., Worker]) -> None:
    notes = [db.app.add_job("note", {}).id for _ in range(50)]
    turns = [db.app.add_job("note_async", {}, queue="q").id for _ in range(10)]
    paid = [db.app.add_job("pay", {}).id for _ in range(3)]
    failed = db.app.add_job("fail", {"message": "no luck"}, max_attempts=1).id
    assert start("--once").wait() == 0
    found = ends(app)
    assert {job_id: [entry.outcome for entry in entries] for job_id, entries in found.items()} == {
        **{job_id: ["succeeded"] for job_id in (*notes, *turns, *paid)},
        failed: ["failed"],
    }
    [entry] = found[failed]
    assert (entry.task, entry.attempts) == ("fail", 1)
    assert "no luck" in (entry.error or "")
    assert {entry.queue for job_id in turns for entry in found[job_id]} == {"q"}


def test_a_job_that_takes_its_process_down_is_recorded_once(
    db: Database, app: App, start: Callable[..., Worker]
) -> None:
    killer = db.app.add_job("die", {"how": "signal", "signal": int(signal.SIGKILL)}, max_attempts=1).id
    after = db.app.add_job("note", {}, priority=5).id
    assert start("--once", "--processes", "1", "--concurrency", "1").wait() == 0
    found = ends(app)
    assert [(entry.outcome, entry.attempts) for entry in found[killer]] == [("failed", 1)]
    assert "SIGKILL" in (found[killer][0].error or "")
    assert [entry.outcome for entry in found[after]] == ["succeeded"]


def test_a_job_whose_worker_was_killed_is_recorded_when_it_has_ended(
    db: Database, app: App, start: Callable[..., Worker]
) -> None:
    job_id = db.app.add_job("hold", {"seconds": 600}).id
    worker = start("--processes", "1")
    db.wait_for_effects(1, "began")
    os.kill(worker.process_ids()[0], signal.SIGKILL)
    db.wait_for_effects(2, "began")
    assert ends(app) == {}
    db.rows("update graphile_worker._private_jobs set max_attempts = attempts returning id")
    os.kill(worker.process_ids(2)[-1], signal.SIGKILL)
    db.wait(lambda: ends(app), "the end to be recorded")
    assert [entry.outcome for entry in ends(app)[job_id]] == ["failed"]


def test_workers_say_whether_payloads_are_recorded(db: Database, app: App, start: Callable[..., Worker]) -> None:
    setting = "select payload from graphile_worker._pgtasks_history_settings"
    for given, expected in (("true", '{"n": 1}'), ("false", None)):
        worker = start("--processes", "1", payload=given)
        db.wait(lambda given=given: db.value(setting) == (given == "true"), f"payload = {given}")  # type: ignore[misc]
        job_id = db.app.add_job("note", {"n": 1}).id
        db.wait_until_empty()
        assert worker.stop() == 0
        payload = ends(app)[job_id][0].payload_json
        assert (None if payload is None else json.loads(payload)) == (None if expected is None else {"n": 1})


def test_workers_delete_what_is_old(db: Database, app: App, start: Callable[..., Worker]) -> None:
    for _ in range(2):
        db.app.add_job("note", {})
    assert start("--once").wait() == 0
    old, young = sorted(ends(app))
    db.connection.execute(
        "update graphile_worker._pgtasks_history_jobs set finished_at = now() - interval '2 days' where job_id = %s",
        (old,),
    )
    start("--processes", "1", keep="1d")
    db.wait(lambda: list(ends(app)) == [young], "what is old to be deleted")


def test_a_setting_that_cannot_be_used_keeps_the_worker_from_starting(start: Callable[..., Worker]) -> None:
    worker = start("--once", keep="some days")
    assert worker.wait() == 2
    assert "PGTASKS_PLUGIN_HISTORY__KEEP" in worker.text
    assert "30d" in worker.text


# Commands


def test_the_command_shows_how_jobs_have_ended(
    db: Database, queue: Queue, start: Callable[..., Worker], pgtasks: Callable[..., Done]
) -> None:
    queue.run("update {gw}._pgtasks_history_settings set payload = true")
    assert pgtasks("history").out == "Nothing was found.\n"
    failed = db.app.add_job("fail", {"message": "no luck"}, max_attempts=1).id
    db.app.add_job("note", {}, flags=["a"])
    assert start("--once", payload="true").wait() == 0
    shown = pgtasks("history")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0].split()[:4] == ["finished", "job", "task", "outcome"]
    assert "ValueError: no luck" in shown.out
    assert len(shown.out.splitlines()) == 3
    [only] = pgtasks("history", "--outcome", "failed", "--since", "1h", "--json").out.splitlines()
    found = json.loads(only)
    assert (found["job_id"], found["outcome"], found["payload"]) == (failed, "failed", {"message": "no luck"})
    assert pgtasks("history", "--task", "note", "--until", "2020-01-01T00:00Z").out == "Nothing was found.\n"
    wrong = pgtasks("history", "--since", "yesterday")
    assert wrong.code == 2
    assert "neither a time span" in wrong.err


def test_commands_delete_what_is_old_and_everything(
    db: Database, app: App, queue: Queue, start: Callable[..., Worker], pgtasks: Callable[..., Done]
) -> None:
    db.app.add_job("note", {})
    assert start("--once").wait() == 0
    queue.run("update {gw}._pgtasks_history_jobs set finished_at = now() - interval '40 days'")
    doctor = pgtasks("doctor", "--json")
    assert '"history.retention"' in doctor.out
    assert pgtasks("history", "prune", "--keep", "50d").out == "deleted 0 entries\n"
    assert pgtasks("history", "prune").out == "deleted 1 entry\n"
    queue.run("alter table {gw}._private_jobs disable trigger _pgtasks_history_failed")
    assert '"history.recording"' in pgtasks("doctor", "--json").out
    assert pgtasks("history", "uninstall", "--yes").code == 0
    nothing = pgtasks("history")
    assert nothing.code == 4
    assert "There is no history" in nothing.err
    assert pgtasks("migrate").out.splitlines()[0] == "step of a plugin taken: history 1"
