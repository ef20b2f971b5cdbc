"""Cron entries that code declares."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from pgtasks import App, CronError, JobContext, Registry, TaskDefinitionError
from pgtasks.cron.crontab import parse_crontab
from pgtasks.cron.declared import join_entries
from pgtasks.cron.schedule import Schedule
from pgtasks.files import add_file_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from pgtasks.cron.entry import CronEntry


@dataclass
class Period:
    days: int
    late: bool = False


@pytest.fixture
def app() -> App:
    return App(registry=Registry())


def the_entry(app: App) -> CronEntry:
    (entry,) = app.registry.cron_entries()
    return entry


def test_a_function_becomes_a_task_with_an_entry_that_says_where_it_stands(app: App) -> None:
    @app.task.cron(
        "30 4 * * mon",
        timezone="Europe/Berlin",
        payload=Period(7),
        id="weekly",
        backfill="2d",
        max_attempts=3,
        queue="reports",
        priority=-1,
        job_key="report",
        job_key_mode="preserve_run_at",
        flags=["slow"],
    )
    def report(period: Period, ctx: JobContext) -> None: ...

    entry = the_entry(app)
    assert app.registry["report"] is report
    assert (entry.id, entry.task) == ("weekly", "report")
    assert entry.schedule == Schedule("30 4 * * mon", "Europe/Berlin")
    assert entry.payload == {"days": 7, "late": False}
    assert (entry.backfill, entry.max_attempts, entry.queue, entry.priority) == (172_800, 3, "reports", -1)
    assert (entry.job_key, entry.job_key_mode, entry.flags) == ("report", "preserve_run_at", ("slow",))
    assert entry.source.startswith("tests/cron/test_declared.py:") or "/test_declared.py:" in entry.source


def test_entries_are_stacked_and_take_from_the_task_what_they_do_not_say(app: App) -> None:
    @app.task.cron("0 18 * * *", id="evening", payload={"text": "good evening"}, queue="late")
    @app.task.cron("0 6 * * *", payload={"text": "good morning"}, backfill=timedelta(hours=1))
    @app.task(queue="greetings", max_attempts=2, priority=4, flags=["mail"])
    def greet(*, text: str) -> None: ...

    morning, evening = app.registry.cron_entries()
    assert (morning.id, morning.queue, morning.max_attempts, morning.priority) == ("greet", "greetings", 2, 4)
    assert (morning.backfill, morning.flags) == (3600, ("mail",))
    assert (evening.id, evening.queue, evening.max_attempts) == ("evening", "late", 2)
    assert greet.cron("@daily", id="nightly", payload={"text": "good night"}) is greet
    assert [entry.id for entry in app.registry.cron_entries()] == ["greet", "evening", "nightly"]


def test_an_app_takes_tasks_and_names_of_tasks_that_are_elsewhere(app: App) -> None:
    @app.task
    def report() -> None: ...

    app.cron("@daily", report)
    app.cron("@hourly", "report", id="hourly")
    app.cron("@weekly", "elsewhere", payload={"a": 1})
    assert [(each.id, each.task) for each in app.registry.cron_entries()] == [
        ("report", "report"),
        ("hourly", "report"),
        ("elsewhere", "elsewhere"),
    ]
    with pytest.raises(CronError, match=r"task 'report' is not one of this App; give its name instead"):
        App(registry=Registry()).cron("@daily", report)


def test_an_id_is_given_once_in_all_and_both_places_are_named(app: App) -> None:
    @app.task.cron("@daily")
    def report() -> None: ...

    with pytest.raises(CronError, match=r"cron entry 'report' is there twice: at .*:\d+ and at .*:\d+; give one of"):
        report.cron("@hourly")
    crontab = parse_crontab("@daily first\n@daily report\n").entries()
    with pytest.raises(CronError, match=r"cron entry 'report' is there twice: at crontab:2 and at .*test_declared"):
        join_entries(crontab, app.registry.cron_entries())
    assert [entry.id for entry in join_entries(crontab[:1], app.registry.cron_entries())] == ["first", "report"]


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    a: int = 1


def takes_keys(*, days: int) -> None: ...
def takes_list(items: list[int]) -> None: ...
def takes_strict(payload: Strict) -> None: ...


@pytest.mark.parametrize(
    ("handler", "payload", "message"),
    [
        (takes_keys, None, "task 'takes_keys' cannot take this payload: 'days' is missing"),
        (takes_keys, {"days": "x"}, "'days' should be a valid integer"),
        (takes_keys, {"days": 1, "hours": 2}, "'hours' is not one of its keys"),
        (takes_list, [1], "has to be an object, since '_cron' is added to it, not list"),
        (takes_strict, {"a": 2}, "cron adds '_cron' to the payload, and task 'takes_strict' cannot take this payload"),
    ],
)
def test_a_payload_that_the_task_does_not_take_is_refused_where_it_is_declared(
    app: App, handler: Any, payload: Any, message: str
) -> None:
    with pytest.raises(CronError, match=r"test_declared.py:\d+: ") as error:
        app.task.cron("@daily", payload=payload)(handler)
    assert message in str(error.value)
    assert app.registry.cron_entries() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timezone": "berlin"}, "there is no time zone 'berlin'; did you mean 'Europe/Berlin'?"),
        ({"backfill": "2 days"}, "backfill='2 days' is no time phrase"),
        ({"backfill": ""}, "backfill='' is no time phrase"),
        ({"backfill": None}, "backfill=None must be a time phrase like '2d', a timedelta or a number of seconds"),
        ({"max_attempts": 0}, "max_attempts=0 is out of range"),
        ({"priority": 40_000}, "priority=40000 is out of range"),
        ({"queue": ""}, "queue must not be empty"),
        ({"job_key": "k", "job_key_mode": "unsafe_dedupe"}, "job_key_mode='unsafe_dedupe' is none of 'replace',"),
        ({"job_key_mode": "replace"}, "does nothing without a job_key"),
        ({"flags": "slow"}, "write flags=['slow']"),
        ({"id": ""}, "id='' must be the name of the entry"),
        ({"max_attemps": 3}, "@task.cron has no option 'max_attemps'; did you mean 'max_attempts'?"),
        ({"fill": "2d"}, "@task.cron has no option 'fill'; did you mean 'backfill'?"),
        ({"timeout": 3}, "has no option 'timeout', which is the task's: say @task(timeout=…) below"),
        ({"run_at": 3}, "has no option 'run_at', since the schedule says when"),
        ({"zzz": 3}, "has no option 'zzz'; it has timezone, payload, id, backfill,"),
    ],
)
def test_an_option_that_cannot_be_used_is_an_error_with_its_place_and_the_fix(
    app: App, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CronError, match=r"test_declared.py:\d+: ") as error:
        app.task.cron("@daily", **options)
    assert message in str(error.value)


def test_times_that_cannot_be_read_are_an_error_with_their_place(app: App) -> None:
    with pytest.raises(CronError, match=r"test_declared.py:\d+: hour 25 is out of range: it is from 0 to 23"):
        app.task.cron("0 25 * * *")
    with pytest.raises(CronError, match=r"test_declared.py:\d+: a timetable has five fields, .* here are 4"):
        app.task.cron("0 25 * *")
    with pytest.raises(CronError, match=r"test_declared.py:\d+: .*, without seconds; here are 6"):
        app.cron("0 0 4 * * *", "x")
    with pytest.raises(CronError, match=r"test_declared.py:\d+: <built-in function print> is no task, nor the name"):
        app.cron("0 4 * * *", print)  # type: ignore[arg-type]


def test_task_above_the_times_is_refused_with_the_right_order(app: App) -> None:
    @app.task.cron("@daily")
    def report() -> None: ...

    with pytest.raises(TaskDefinitionError, match=r"put @task\(…\) below @task.cron\(…\)"):
        app.task(queue="x")(report)


LATER = """
from __future__ import annotations
from pgtasks import App, Registry
app = App(registry=Registry())
@app.task.cron("@daily", payload={"days": %s})
def report(period: Period): ...
import dataclasses
@dataclasses.dataclass
class Period:
    days: int
app.cron("@hourly", "other")
"""


def test_a_payload_type_that_is_defined_below_is_checked_when_the_entries_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "later_cron.py").write_text(LATER % "7")
    module = importlib.import_module("later_cron")
    assert [entry.payload for entry in module.app.registry.cron_entries()] == [{"days": 7}, None]

    (tmp_path / "later_wrong_cron.py").write_text(LATER % "'x'")
    module = importlib.import_module("later_wrong_cron")
    with pytest.raises(CronError, match=r"later_wrong_cron.py:5: task 'report' cannot take this payload: 'days'"):
        module.app.registry.cron_entries()


def test_a_module_that_is_loaded_again_replaces_its_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    registry = Registry()
    monkeypatch.setattr("pgtasks.app.default_registry", registry)
    own = App(registry=registry)
    monkeypatch.setattr("pgtasks.task", own.task)
    path = tmp_path / "again_cron.py"
    path.write_text("from pgtasks import task\n@task.cron('@daily')\n@task.cron('@daily', id='b')\ndef report(): ...\n")
    module = importlib.import_module("again_cron")
    path.write_text("from pgtasks import task\n\n@task.cron('@hourly')\ndef report(): ...\n\n\n")
    importlib.reload(module)
    assert [(each.id, each.schedule.text) for each in registry.cron_entries()] == [("report", "@hourly")]


def test_a_task_of_a_file_has_its_entries_under_its_own_name(app: App, tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "send.py").write_text("from pgtasks import task\n@task.cron('@daily')\ndef run(): ...\n")
    add_file_tasks(app, tmp_path, lambda path, name: lambda: None)
    entry = the_entry(app)
    assert (entry.id, entry.task) == ("mail/send", "mail/send")
