"""Real workers run for tests, with the plugins that these name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks import App, Registry
from pgtasks.testing import HookRecorder, run_worker, start_worker
from tests.testing import visits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeApp = Callable[..., App]
    MakeRecorder = Callable[..., HookRecorder]

JOBS = "tests.testing.jobs"
pytestmark = pytest.mark.timeout(180)


def test_a_worker_runs_what_there_is_and_tells_how_it_went(pgtasks_app: MakeApp, pgtasks_database: str) -> None:
    app = pgtasks_app()
    app.add_job("greet", {"name": "Ada"})
    app.add_job("fail", max_attempts=1)
    run = run_worker(JOBS, database=pgtasks_database)
    assert (run.code, run.error, run.output) == (0, None, "hello Ada\n")
    assert [record["task"] for record in run.records("job_succeeded")] == ["greet"]
    assert run.records("job_failed", task="fail")
    assert not run.records("job_failed", task="greet")
    assert len(run.records("process_started")) == 1


@pytest.mark.parametrize("plugin", ["tests.testing.visits", visits], ids=["by its name", "as a module"])
def test_a_worker_has_the_plugins_and_the_settings_that_it_is_given(
    plugin: object, pgtasks_app: MakeApp, pgtasks_database: str
) -> None:
    app = pgtasks_app()
    app.add_job("greet", {"name": "Ada"})
    app.add_job("fail", max_attempts=1)
    run = run_worker(
        JOBS,
        database=pgtasks_database,
        plugins=[plugin],
        plugin={"visits": {"greeting": "here was", "only": ["greet"]}},
        log_level="info",
    )
    assert [record["event"] for record in run.records(logger="tests.testing.visits")] == ["here was: greet"]


def test_a_recorder_records_what_happens_in_all_processes_of_a_worker(
    pgtasks_app: MakeApp, pgtasks_database: str, pgtasks_recorder: MakeRecorder
) -> None:
    app = pgtasks_app()
    for _ in range(3):
        app.add_job("greet", {"name": "Ada"})
    recorder = pgtasks_recorder("supervisor_ready", "job_started", "job_finished", "supervisor_stopped")
    run = run_worker(JOBS, database=pgtasks_database, plugins=[recorder], processes=2)
    assert run.code == 0, run.log
    calls = recorder.calls()
    assert [calls[0].hook, calls[-1].hook] == ["supervisor_ready", "supervisor_stopped"]
    assert [calls[0].role, recorder.calls("job_started")[0].role] == ["supervisor", "worker"]
    assert sorted(call.given["end"]["state"] for call in recorder.calls("job_finished")) == 3 * ["deleted"]
    assert recorder.calls("job_started")[0].given["job"]["payload"] == {"name": "Ada"}


def test_a_module_of_the_working_directory_can_be_named(
    pgtasks_app: MakeApp, pgtasks_database: str, tmp_path: Path
) -> None:
    (tmp_path / "shop_jobs.py").write_text("from pgtasks import task\n\n@task\ndef sell():\n    print('sold')\n")
    pgtasks_app().add_job("sell")
    assert run_worker("shop_jobs", database=pgtasks_database, cwd=tmp_path).output == "sold\n"


def test_a_worker_that_cannot_start_tells_why(pgtasks_database: str) -> None:
    run = run_worker("tests.testing.jbos", database=pgtasks_database)
    assert run.code == 6
    assert run.error is not None
    assert run.error.startswith("there is no module 'tests.testing.jbos'")
    run = run_worker(JOBS, database=pgtasks_database, plugins=["shop"])
    assert run.code == 14
    assert "plugin 'shop' is neither installed" in (run.error or "")


def test_a_worker_does_not_see_what_the_environment_sets(
    pgtasks_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTASKS_PLUGINS", "shop")
    monkeypatch.setenv("PGDATABASE", "shop")
    assert run_worker(JOBS, database=pgtasks_database).code == 0
    assert run_worker(JOBS, database=pgtasks_database, env={"PGTASKS_PLUGINS": "shop"}).code == 14


def test_a_worker_that_does_not_end_in_time_is_killed_and_its_log_told(
    pgtasks_app: MakeApp, pgtasks_database: str
) -> None:
    pgtasks_app().add_job("stay")
    with pytest.raises(AssertionError, match=r"the worker did not end within 0\.5 s:\n"):
        run_worker(JOBS, database=pgtasks_database, timeout=0.5)


def test_an_object_cannot_be_a_plugin_of_a_worker(pgtasks_database: str) -> None:
    class Shop: ...

    with pytest.raises(TypeError, match="is an object, which a worker cannot be given"):
        run_worker(JOBS, database=pgtasks_database, plugins=[Shop()])


def test_a_worker_can_be_watched_while_it_runs(pgtasks_app: MakeApp, pgtasks_database: str) -> None:
    app = pgtasks_app()
    with start_worker(JOBS, database=pgtasks_database, poll_interval=0.1) as worker:
        worker.wait_for("process_started")
        app.add_job("greet", {"name": "Ada"})
        (record,) = worker.wait_for("job_succeeded", task="greet")
        assert record["level"] == "info"
        run = worker.stop()
    assert (run.code, run.output) == (0, "hello Ada\n")
    with pytest.raises(AssertionError, match="the worker ended with code 0 without 1 records 'job_lost'"):
        worker.wait_for("job_lost")


def test_the_schema_can_be_another_one(pgtasks_database: str) -> None:
    run = run_worker(JOBS, database=pgtasks_database, schema="my jobs")
    assert run.records("schema_migrated", schema="my jobs")
    app = App(registry=Registry(), database_url=pgtasks_database, schema="my jobs")
    assert app.jobs.list().jobs == ()
    app.close()
