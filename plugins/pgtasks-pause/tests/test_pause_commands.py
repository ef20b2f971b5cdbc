"""`pgtasks pause`, `pgtasks resume` and `pgtasks paused`, as they are run."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from pgtasks_pause import pause, paused
from tests.cli.running import Done, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pgtasks import App


@pytest.fixture
def call(database: str, with_plugin: Mapping[str, str], tmp_path: Path) -> Callable[..., Done]:
    def call(*arguments: str) -> Done:
        return run(*arguments, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database, **with_plugin})

    return call


def test_a_task_is_paused_listed_and_resumed(app: App, call: Callable[..., Done]) -> None:
    app.add_job("send")
    done = call("pause", "task", "send", "--for", "1h30m", "--reason", "the provider is down", "--by", "ada")
    assert (done.code, done.err) == (0, "")
    [made] = paused(app)
    assert made.until is not None
    assert (made.until - made.since).total_seconds() == 5400
    until = made.until.isoformat(timespec="seconds").replace("+00:00", "Z")
    assert done.out == f"paused: task send, {made.when}, by ada (the provider is down) [1]\n"
    assert made.when.endswith(f"until {until}")

    listed = call("paused").out.splitlines()
    assert listed[0].split() == ["id", "what", "name", "now", "when", "by", "reason"]
    assert re.fullmatch(r"1 +task +send +paused +since \S+ until \S+ +ada +the provider is down", listed[1])
    assert json.loads(call("paused", "--json").out) == {
        "id": 1,
        "what": "task",
        "name": "send",
        "holds": True,
        "since": made.since.isoformat(),
        "until": made.until.isoformat(),
        "weekly": None,
        "reason": "the provider is down",
        "by": "ada",
    }

    assert call("resume", "task", "send").out.startswith("resumed: task send, since ")
    assert call("paused").out == "Nothing is paused.\n"
    assert call("paused", "--json").out == ""


def test_a_window_stays_when_its_queue_is_resumed(app: App, call: Callable[..., Done]) -> None:
    app.add_job("send", queue="mail")
    done = call("pause", "queue", "mail", "--weekly", "mon-sun 00:00-24:00", "--timezone", "Europe/Berlin")
    assert (done.code, done.err) == (0, "")
    assert "queue mail, mon,tue,wed,thu,fri,sat,sun 00:00-00:00 Europe/Berlin, by " in done.out
    pause(app, queue="mail")
    done = call("resume", "queue", "mail")
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["resumed: queue mail", "still paused: queue mail"]
    done = call("resume", "queue", "mail")
    assert done.code == 2
    assert done.err == "pgtasks: error: queue 'mail' is not paused now; end its windows with --windows\n"
    assert json.loads(call("paused", "--json").out)["weekly"] == {
        "days": [1, 2, 3, 4, 5, 6, 7],
        "start": "00:00",
        "end": "00:00",
        "timezone": "Europe/Berlin",
    }
    assert call("resume", "queue", "mail", "--windows").code == 0
    assert paused(app) == []


def test_a_pause_is_ended_by_its_id(app: App, call: Callable[..., Done]) -> None:
    made = pause(app, flag="slow")
    assert call("resume", "--id", str(made.id)).out.startswith("resumed: flag slow, ")
    done = call("resume", "--id", str(made.id))
    assert (done.code, done.error) == (2, f"pause {made.id} is not paused now")


def test_a_name_that_no_job_has_is_paused_with_a_warning(app: App, call: Callable[..., Done]) -> None:
    done = call("pause", "task", "sned")
    assert done.code == 0
    assert "warning: no job has been added for a task 'sned' yet; is it spelt so?" in done.err
    assert [one.name for one in paused(app)] == ["sned"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["pause", "task", "a", "--for", "soon"], "'soon' is not a time span"),
        (["pause", "task", "a", "--until", "2030-01-31T12:00"], "'2030-01-31T12:00' has no time zone"),
        (["pause", "task", "a", "--until", "2001-01-31T12:00Z"], "the pause would be over before it begins"),
        (["pause", "task", "a", "--for", "1h", "--until", "2030-01-31T12:00Z"], "--for and --until say the same"),
        (["pause", "task", "a", "--weekly", "mon 1:00-2:00"], "--weekly and --timezone belong together"),
        (["pause", "task", "a", "--weekly", "mon", "--timezone", "UTC"], "'mon' is no window"),
        (["pause", "task", "a", "--weekly", "mon 1:00-2:00", "--timezone", "X"], "the server knows no time zone 'X'"),
        (["pause", "job", "a"], "'job' is not one of 'task', 'queue', 'flag'"),
        (["resume"], "say what to resume"),
        (["resume", "task"], "say what to resume"),
        (["resume", "task", "a", "--id", "1"], "say what to resume"),
        (["resume", "task", "a"], "task 'a' is not paused now"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    app: App, call: Callable[..., Done], arguments: list[str], error: str
) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert error in done.error
    assert paused(app) == []


def test_what_a_terminal_would_obey_is_shown_as_an_escape(app: App, call: Callable[..., Done]) -> None:
    pause(app, flag="red\x1b[31m", reason="one\ntwo", by="ada")
    assert "red\\x1b[31m" in call("paused").out
    assert "one\\ntwo" in call("paused").out


def test_without_the_table_it_says_what_to_run(app: App, call: Callable[..., Done]) -> None:
    with app.connection() as connection:
        connection.execute("drop table graphile_worker._pgtasks_pause_pauses cascade")
    done = call("paused")
    assert done.code == 2
    assert done.error.endswith("run `pgtasks migrate` with the plugin loaded")


def test_the_doctor_tells_what_is_paused(app: App, call: Callable[..., Done]) -> None:
    pause(app, task="send", reason="it is broken", by="ada")
    out = call("doctor", "--json").out
    [found] = [found for found in map(json.loads, out.splitlines()) if found.get("name") == "pause.held"]
    assert found["level"] == "note"
    assert found["what"].endswith("by ada: it is broken")
