"""Crontab files: what they say, and each mistake with its place."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgtasks import CronError
from pgtasks.cron.crontab import load_crontab, parse_crontab
from pgtasks.cron.entry import CronEntry
from pgtasks.cron.schedule import Schedule
from tests.cli.running import run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_line_has_five_fields_a_task_options_and_a_payload() -> None:
    text = (
        "# comment\n"
        "\n"
        "   # another\r\n"
        "0 4 * * 7\ttask\r\n"
        "*/15 0-6,22 1 */2 *   shop:emails/send-out_2"
        " ?id=out&fill=4w3d2h1m&max=3&queue=mail%20out&jobKey=a+b&jobKeyMode=preserve_run_at&priority=-5"
        " {to: 'ada', n: [.5, 0x1F, +1, 1e3,], /* all */ \"exact\": 0.12345678901234567890, u: '\\u00e9'}\n"
        "@daily nightly ?tz=Europe/Berlin {}\n"
    )
    crontab = parse_crontab(text)
    assert crontab.problems == ()
    assert crontab.entries() == [
        CronEntry(id="task", task="task", schedule=Schedule("0 4 * * 7"), source="crontab:4"),
        CronEntry(
            id="out",
            task="shop:emails/send-out_2",
            schedule=Schedule("*/15 0-6,22 1 */2 *"),
            source="crontab:5",
            payload={"to": "ada", "n": [0.5, 31, 1, 1000.0], "exact": Decimal("0.12345678901234567890"), "u": "é"},
            backfill=2_685_660.0,
            max_attempts=3,
            queue="mail out",
            priority=-5,
            job_key="a b",
            job_key_mode="preserve_run_at",
        ),
        CronEntry(
            id="nightly",
            task="nightly",
            schedule=Schedule("@daily", "Europe/Berlin"),
            source="crontab:6",
            payload={},
        ),
    ]


MISTAKES = [
    # The times.
    ("60 * * * * t", 1, "minute 60 is out of range: it is from 0 to 59"),
    ("* 24 * * * t", 3, "hour 24 is out of range: it is from 0 to 23"),
    ("* * 0 * * t", 5, "day 0 is out of range: it is from 1 to 31"),
    ("* * * 1-13 * t", 9, "month 13 is out of range: it is from 1 to 12"),
    ("* * * * 8 t", 9, "weekday 8 is out of range: it is from 0 to 7 (0 and 7 are Sunday)"),
    ("* * * * 1,8 t", 11, "weekday 8 is out of range"),
    ("*/0 * * * * t", 3, "minute cannot go in steps of 0"),
    ("1-9/0 * * * * t", 5, "minute cannot go in steps of 0"),
    ("*/x * * * * t", 1, "minute '*/x' has no step that is a number, as in '*/2'"),
    ("5/10 * * * * t", 1, "minute '5/10' has no end; write '5-59/10'"),
    ("* 5-3 * * * t", 5, "hour '5-3' does not go up: write '5-23,0-3'"),
    ("* 5-5 * * * t", 5, "hour '5-5' does not go up: write '5'"),
    ("* * * * fri-mon t", 13, "weekday 'fri-mon' does not go up: write '5-6,0-1'"),
    ("* * * * 7-7 t", 11, "weekday '7-7' does not go up: write '7'"),
    ("1,,2 * * * * t", 3, "minute has an empty place in its list; leave out the comma"),
    ("1, * * * * t", 3, "minute has an empty place in its list"),
    ("-1 * * * * t", 1, "minute '-1' cannot be read; it takes numbers, ranges (1-5), '*', '*/2', and lists of these"),
    ("* * * jum * t", 7, "there is no month 'jum'; did you mean 'jun'?"),
    ("* * * * monday t", 9, "there is no weekday 'monday'; did you mean 'mon'?"),
    ("* * * xyz * t", 7, "there is no month 'xyz'; they are jan, feb, mar,"),
    ("* two * * * t", 3, "hour 'two' is no number; it takes numbers from 0 to 23, and *"),
    ("* * L * * t", 5, "is not of this dialect, which has no '?', 'L', 'W' or '#'"),
    ("* * 15W * * t", 5, "is not of this dialect"),
    ("* * * * 5#2 t", 9, "is not of this dialect"),
    ("* * ? * * t", 5, "is not of this dialect"),
    ("@dayly t", 1, "there is no '@dayly'; did you mean '@daily'?"),
    ("@noon t", 1, "there is no '@noon'; there are @hourly, @daily,"),
    ("@reboot t", 1, "@reboot is no time"),
    # The number of words.
    ("t", 1, "five fields come before the task, minute hour day month weekday, and here are 0"),
    ("0 4 * * t", 9, "five fields come before the task, minute hour day month weekday, and here are 4"),
    ("0 4 * * t {}", 9, "five fields come before the task, minute hour day month weekday, and here are 4"),
    ("0 4 * *", 8, "five fields come before the task, minute hour day month weekday, and here are 4"),
    ("0 4 * * *", 10, "a line names a task after the times, and here is none"),
    ("0 4 * * * ?max=1", 10, "a line names a task after the times, and here is none"),
    ("@daily", 7, "a line names a task after the times, and here is none"),
    ("@daily {}", 7, "a line names a task after the times, and here is none"),
    ("0 0 4 * * * t", 11, "'*' is no task: five fields come before it, without seconds"),
    # The task.
    ("* * * * * shop.send", 15, "'shop.send' cannot be a task here: names begin with a letter or _"),
    ("* * * * * 9t", 11, "'9t' cannot be a task here"),
    (f"* * * * * {'t' * 129}", 11, "task has 129 characters, at most 128 can be stored"),
    # Options.
    ("* * * * * t ?", 14, "'?' has to be followed by options, as in '?max=3&queue=mail'"),
    ("* * * * * t ?nax=3", 14, "there is no option 'nax'; did you mean 'max'?"),
    ("* * * * * t ?backfill=3d", 14, "there is no option 'backfill'; did you mean 'fill'?"),
    ("* * * * * t ?job_key=x", 14, "there is no option 'job_key'; did you mean 'jobKey'?"),
    (
        "* * * * * t ?often=x",
        14,
        "there is no option 'often'; there are id, fill, max, queue, jobKey, jobKeyMode, priority, tz",
    ),
    ("* * * * * t ?max=2&max=3", 20, "option 'max' is given twice; leave one of them out"),
    ("* * * * * t ?max", 17, "option 'max' has no value; write 'max=…'"),
    ("* * * * * t ?id=x&max=", 22, "option 'max' has no value; write 'max=…'"),
    ("* * * * * t ?max=0", 18, "max=0 is out of range: it must be from 1 to 32767"),
    ("* * * * * t ?max=x", 18, "max='x' must be a whole number"),
    ("* * * * * t ?priority=32768", 23, "priority=32768 is out of range"),
    ("* * * * * t ?priority=1.5", 23, "priority='1.5' must be a whole number"),
    ("* * * * * t ?fill=3", 19, "fill='3' is no time phrase; numbers have a unit (s, m, h, d, w): 3m, for example"),
    ("* * * * * t ?fill=3D", 19, "fill='3D' is no time phrase; units are lower-case: '3d'"),
    ("* * * * * t ?id=1x", 17, "id='1x' must begin with a letter or _"),
    ("* * * * * t ?jobKeyMode=unsafe_dedupe", 25, "jobKeyMode='unsafe_dedupe' is none of 'replace', 'preserve_run_at'"),
    (f"* * * * * t ?queue={'q' * 129}", 20, "queue has 129 characters, at most 128 can be stored"),
    (f"* * * * * t ?jobKey={'k' * 513}", 21, "job_key has 513 characters, at most 512 can be stored"),
    ("* * * * * t ?tz=Europe/Berln", 17, "there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'?"),
    # What comes after them.
    ("* * * * * t max=3", 13, "options begin with '?'; write '?max=3'"),
    ("* * * * * t ?max=3 &id=x", 20, "options have no spaces between them; write a space in a value as '+'"),
    ("* * * * * t # daily", 13, "a comment needs a line of its own"),
    ("* * * * * t [1]", 13, "a payload is one JSON5 object, {…}"),
    ("* * * * * t 'x'", 13, "a payload is one JSON5 object, {…}"),
    ("* * * * * t u", 13, "'u' cannot be read: after the task come '?options', and then a payload, '{…}'"),
    ("* * * * * t {} # daily", 16, "a comment needs a line of its own"),
    ("* * * * * t {} ?max=3", 16, "options stand before the payload, not after it"),
    ("* * * * * t {} {}", 16, "the payload is no JSON5: unexpected '{'"),
    ("* * * * * t {a: 1", 18, "the payload has no end: it is one object, {…}, on one line"),
    ("* * * * * t {a: 1 b: 2}", 19, "the payload is no JSON5: unexpected 'b'"),
    ("* * * * * t {a: NaN}", 13, "payload['a'] is nan, which JSON cannot hold"),
]


@pytest.mark.parametrize(("line", "column", "message"), MISTAKES, ids=[line[:40] for line, _, _ in MISTAKES])
def test_a_mistake_is_told_with_its_line_and_column_and_the_fix(line: str, column: int, message: str) -> None:
    crontab = parse_crontab(f"@daily first\n  {line}\n@daily last\n")
    (problem,) = crontab.problems
    assert (problem.line, problem.column, problem.level) == (2, column + 2, "error")
    assert message in problem.message
    assert [entry.entry.id for entry in crontab.lines] == ["first", "last"]


def test_an_id_that_is_taken_is_a_mistake_at_the_later_place() -> None:
    crontab = parse_crontab("@daily a\n@hourly b ?max=1&id=a\n@hourly a\n@hourly a ?id=c\n")
    assert [(problem.line, problem.column) for problem in crontab.problems] == [(2, 18), (3, 9)]
    assert crontab.problems[0].message.startswith("the entry 'a' is there already, at line 1; give one of them another")


def test_what_does_nothing_is_warned_of_and_keeps_no_file_from_being_used() -> None:
    crontab = parse_crontab("0 0 31 2,4 * never\n@daily a ?jobKeyMode=replace\n")
    assert [(each.line, each.column, each.level) for each in crontab.problems] == [
        (1, 1, "warning"),
        (2, 11, "warning"),
    ]
    assert [entry.id for entry in crontab.entries()] == ["never", "a"]


def test_an_unknown_task_is_warned_of_with_the_nearest_that_there_is() -> None:
    crontab = parse_crontab("@daily send_mial\n@daily send_email\n@daily x\n")
    found = crontab.unknown_tasks(["send_email", "resize"])
    assert [(each.line, each.column, each.message) for each in found] == [
        (1, 8, "task 'send_mial' is not registered; did you mean 'send_email'?"),
        (3, 8, "task 'x' is not registered; its jobs wait until a worker has it"),
    ]


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "crontab"
    path.write_text("@dayly a\n60 * * * * a\n" + "@dayly a\n" * 30)
    with pytest.raises(CronError) as error:
        load_crontab(path).entries()
    lines = str(error.value).splitlines()
    assert lines[:2] == [
        f"{path}:1:1: there is no '@dayly'; did you mean '@daily'?",
        f"{path}:2:1: minute 60 is out of range: it is from 0 to 59",
    ]
    assert lines[-1] == "and 12 more"


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CronError, match=r"nowhere cannot be read: No such file"):
        load_crontab(tmp_path / "nowhere")
    (tmp_path / "latin").write_bytes(b"@daily a {a: '\xe9'}")
    with pytest.raises(CronError, match=r"latin is not encoded in UTF-8: byte 15 cannot be read"):
        load_crontab(tmp_path / "latin")
    (tmp_path / "bom").write_text("@daily a", encoding="utf-8-sig")
    assert load_crontab(tmp_path / "bom").entries()[0].id == "a"


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_:/-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def entries(draw: st.DrawFn) -> CronEntry:
    text = draw(st.sampled_from(["* * * * *", "*/5 0-6/2 1,15 jan-mar *", "0 4 * * mon", "@daily", "@Yearly"]))
    key = draw(st.none() | texts)
    return CronEntry(
        id=draw(names),
        task=draw(names),
        schedule=Schedule(text, draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))),
        source="crontab:1",
        payload=draw(st.none() | st.dictionaries(texts, values, max_size=3)),
        backfill=float(draw(st.integers(0, 10_000_000))),
        max_attempts=draw(st.none() | st.integers(1, 32767)),
        queue=draw(st.none() | texts),
        priority=draw(st.none() | st.integers(-32768, 32767)),
        job_key=key,
        job_key_mode=None if key is None else draw(st.sampled_from([None, "replace", "preserve_run_at"])),
    )


def written(entry: CronEntry) -> str:
    options = {
        "id": entry.id,
        "fill": f"{entry.backfill:.0f}s",
        "max": entry.max_attempts,
        "queue": entry.queue,
        "jobKey": entry.job_key,
        "jobKeyMode": entry.job_key_mode,
        "priority": entry.priority,
        "tz": entry.schedule.timezone,
    }
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items() if value is not None)
    payload = "" if entry.payload is None else f" {json.dumps(entry.payload)}"
    return f"{entry.schedule.text} {entry.task} ?{query}{payload}"


@settings(max_examples=50, deadline=None)
@given(entry=entries())
def test_an_entry_that_was_written_is_read_as_the_same(entry: CronEntry) -> None:
    crontab = parse_crontab(written(entry))
    assert crontab.problems == ()
    assert crontab.entries() == [entry]


@settings(max_examples=150, deadline=None)
@given(line=st.lists(st.sampled_from([*"*0159/-,@?&={}#:'\" \tab", "mon", "@daily", "{a:1}", "?id=x"]), max_size=20))
def test_whatever_stands_in_a_line_is_read_or_is_a_mistake_within_the_line(line: list[str]) -> None:
    text = "".join(line)
    crontab = parse_crontab(text)
    assert len(crontab.lines) + len(crontab.errors) == (1 if text.strip() and not text.strip().startswith("#") else 0)
    assert all(problem.line == 1 and 1 <= problem.column <= len(text) + 1 for problem in crontab.problems)


def test_the_command_tells_mistakes_and_compares_a_file_with_an_application(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from pgtasks import task\n@task\ndef send_email(*, to: str): ...\n@task.cron('@daily')\ndef report(): ...\n"
    )
    (tmp_path / "crontab").write_text("0 4 * * * send_mial\n0 25 * * * report\n@daily send_email\n@hourly report\n")
    (tmp_path / "good").write_text("@daily report ?id=x\n")

    alone = run("cron", "check", cwd=tmp_path)
    assert alone.code == 13
    assert alone.out == "crontab:2:3: error: hour 25 is out of range: it is from 0 to 23\n"
    assert alone.err == "pgtasks: error: 1 mistake in crontab\n"

    both = run("cron", "check", "--json", "-m", "shop", cwd=tmp_path)
    assert both.code == 13
    found = [json.loads(line) for line in both.out.splitlines()]
    assert [(each["line"], each["column"], each["level"]) for each in found] == [
        (1, 11, "warning"),
        (2, 3, "error"),
        (3, 8, "warning"),
        (4, 9, "error"),
    ]
    assert found[0]["message"] == "task 'send_mial' is not registered; did you mean 'send_email'?"
    assert "'to' is missing" in found[2]["message"]
    assert "is there twice: at crontab:4 and at shop.py:4" in found[3]["message"]

    good = run("cron", "check", "good", "-m", "shop", cwd=tmp_path)
    assert (good.code, good.out) == (0, "good: 1 entry, no mistake\n")
    assert run("cron", "check", "nowhere", cwd=tmp_path).code == 2


def test_times_in_code_are_checked_without_a_crontab_too(tmp_path: Path) -> None:
    source = "from pgtasks import App, task\n@task.cron('@daily')\n@task\ndef report(*, days: int = 1): ...\n"
    (tmp_path / "shop.py").write_text(source)
    none = run("cron", "check", cwd=tmp_path)
    assert (none.code, none.err.partition(":")[2].partition(".")[0]) == (
        2,
        " error: there is no file 'crontab' here: name one, or a module with --module",
    )
    code = run("cron", "check", "-m", "shop", cwd=tmp_path)
    assert (code.code, code.out) == (0, "no crontab, and in code 1 entry: no mistake\n")
    (tmp_path / "times").write_text("@daily report\n")
    (tmp_path / "shop.py").write_text(source + "app = App(crontab='times')\n")
    of_app = run("cron", "check", "-m", "shop", cwd=tmp_path)
    assert (of_app.code, of_app.err) == (13, "pgtasks: error: 1 mistake in times\n")
    assert "is there twice: at times:1 and at shop.py:2" in of_app.out
