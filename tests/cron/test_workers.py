"""A worker schedules what its crontab, its code and its plugins name."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, Registry, hookimpl
from pgtasks.errors import CronError, PluginError
from pgtasks.plugins import CronEntry, Schedule
from pgtasks.worker.cron_entries import find_entries
from tests.worker.conftest import db, start_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

__all__ = ["db", "start_worker"]


def test_a_worker_schedules_its_crontab_and_takes_over_a_changed_one(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    crontab = tmp_path / "timetable"
    crontab.write_text('* * * * * elsewhere ?fill=1h {of: "file"}\n')
    known = "insert into graphile_worker._private_known_crontabs values ('elsewhere', now() - interval '3 minutes')"
    db.connection.execute(known)
    worker = start_worker("--processes", "1", "--crontab", str(crontab))
    worker.wait_for("worker_ready")
    started = worker.wait_for("cron_started")
    assert started["entries"] == 1
    assert started["backfilled"] in (3, 4)  # a minute may have begun since
    assert worker.records("crontab_questionable")[0]["place"] == f"{crontab}:1:11"
    jobs = (
        "select payload->>'of', payload->'_cron'->>'backfilled' from graphile_worker._private_jobs order by id limit 3"
    )
    assert db.rows(jobs) == [("file", "true")] * 3
    crontab.write_text("@daily elsewhere\n@daily new\n")
    worker.signal(signal.SIGHUP)
    worker.wait_for("application_reloaded")
    worker.wait_for("cron_started", entries=2)
    assert (
        db.value("select entry->>'schedule' from graphile_worker._pgtasks_crontabs where identifier = 'new'")
        == "@daily"
    )
    assert worker.stop() == 0


def test_two_entries_with_one_id_are_refused_wherever_they_are_from(tmp_path: Path) -> None:
    class Plugin:
        @hookimpl
        def register_cron(self) -> list[CronEntry]:
            return [CronEntry(id="work", task="work", schedule=Schedule("@daily"), source="plugin p")]

    (tmp_path / "crontab").write_text("@daily work\n")
    app = App(registry=Registry(), plugins=[Plugin], crontab=tmp_path / "crontab", database_url="")
    with pytest.raises(CronError, match=r"cron entry 'work' is there twice: at .*crontab:1 and at plugin p;"):
        find_entries(app)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"schedule": "@daily"}, "has to be a Schedule"),
        ({"id": "\ud800"}, "PostgreSQL cannot store"),
        ({"id": "x" * 513}, "at most 512"),
        ({"id": 5}, "id=5 must be the name"),
        ({"task": ""}, "task must not be empty"),
        ({"max_attempts": 0}, "max_attempts=0 is out of range"),
        ({"backfill": -1}, "backfill=-1 must be"),
        ({"payload": [1]}, "has to be an object"),
    ],
)
def test_what_a_plugin_makes_wrong_is_refused_before_the_database_does_with_all_other_entries(
    wrong: dict[str, Any], message: str
) -> None:
    class Plugin:
        @hookimpl
        def register_cron(self) -> list[CronEntry]:
            given: dict[str, Any] = {"id": "work", "task": "work", "schedule": Schedule("@daily"), "source": "p"}
            return [CronEntry(**given | wrong)]

    app = App(registry=Registry(), plugins=[Plugin], crontab=None, database_url="")
    with pytest.raises(PluginError, match=message):
        find_entries(app)
