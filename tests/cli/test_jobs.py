from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from pgtasks.cli import UNWRITTEN
from tests.cli.running import PGTASKS, Done, run, run_on_terminal
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import psycopg

    Command = Callable[..., Done]
    Connection = psycopg.Connection[tuple[Any, ...]]

ASKING = [("complete",), ("fail",)]
BY_ID = [*ASKING, ("reschedule", "--priority", "1"), ("retry",)]


@pytest.fixture
def jobs(database: str, tmp_path: Path) -> Command:
    """`pgtasks jobs` on the test's database."""
    return partial(run, "jobs", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


@pytest.fixture
def jobs_on_terminal(database: str, tmp_path: Path) -> Command:
    """`pgtasks jobs` on the test's database and on a terminal."""
    return partial(run_on_terminal, "jobs", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


def add(connection: Connection, number: int = 1, **options: object) -> None:
    """Add jobs of the task `t`, with options of `add_job`."""
    given = "".join(f", {name} => %({name})s" for name in options)
    query = f"SELECT graphile_worker.add_job('t'{given}) FROM generate_series(1, {number})"
    connection.execute(query.encode(), options)


def change(connection: Connection, job_id: int, what: str) -> None:
    connection.execute(f"UPDATE graphile_worker._private_jobs SET {what} WHERE id = {job_id}".encode())


def lock(connection: Connection, job_id: int, worker: str = "w1") -> None:
    change(connection, job_id, f"locked_by = '{worker}', locked_at = now(), attempts = 1")


def exhaust(connection: Connection, job_id: int, error: str = "no mail") -> None:
    change(connection, job_id, f"attempts = max_attempts, last_error = '{error}'")


def rows(connection: Connection, what: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {what} FROM graphile_worker._private_jobs ORDER BY id".encode()).fetchall()


def ids(connection: Connection) -> list[int]:
    return [row[0] for row in rows(connection, "id")]


def shown_ids(done: Done) -> list[int]:
    return [json.loads(line)["id"] for line in done.out.splitlines()]


# Without a command


def test_without_a_command_the_help_goes_to_stderr(tmp_path: Path) -> None:
    done = run("jobs", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: pgtasks jobs ")


def test_a_misspelt_command_is_told_with_the_nearest(tmp_path: Path) -> None:
    done = run("jobs", "lst", cwd=tmp_path)
    assert done.code == 2
    assert done.error == "there is no command 'lst'; did you mean 'list'? See 'pgtasks jobs --help'."


# Listing


def test_jobs_are_listed_as_aligned_text_where_no_terminal_is(jobs: Command, connection: Connection) -> None:
    add(connection, job_key="k", queue_name="mail", run_at="2100-01-01Z")
    add(connection, run_at="2000-01-01Z")
    exhaust(connection, 2, "first\nsecond")
    done = jobs("list")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "id  state      task  queue  priority  attempts  run at                key  last error\n"
        " 2  failed     t                   0     25/25  2000-01-01T00:00:00Z       first\n"
        " 1  scheduled  t     mail          0      0/25  2100-01-01T00:00:00Z  k\n"
    )


def test_what_a_terminal_would_obey_is_shown_as_an_escape(
    jobs: Command, jobs_on_terminal: Command, connection: Connection
) -> None:
    add(connection, job_key="\x1b[2Jk\tz")
    assert r"\x1b[2Jk\tz" in jobs("list").out
    for command in ("list",), ("show", "1"):
        done = jobs_on_terminal(*command)
        assert r"\x1b[2Jk" in done.out
        assert "\x1b[2J" not in done.out


def test_a_terminal_gets_a_table_with_times_as_people_say_them(
    jobs_on_terminal: Command, connection: Connection
) -> None:
    add(connection, run_at="2000-01-01Z")
    done = jobs_on_terminal("list")
    header, line, row = done.out.split("\n")[1:4]
    assert header.split() == ["id", "state", "task", "priority", "attempts", "run", "at"]  # what is in no row is not
    assert set(line.strip()) == {"─"}
    assert " d ago" in row


def test_no_line_of_a_table_is_wider_than_the_terminal(jobs_on_terminal: Command, connection: Connection) -> None:
    add(connection, job_key="k" * 100, queue_name="q" * 100)
    exhaust(connection, 1, "e" * 300)
    done = jobs_on_terminal("list", columns=80)
    assert max(map(len, done.out.splitlines())) <= 80
    assert done.out.split().count("failed") == 1
    assert (done.out.count("k"), done.out.count("q")) == (102, 101)  # with the headings


def test_jobs_for_programs_are_one_object_a_line(jobs: Command, connection: Connection) -> None:
    add(connection, payload='{"n": 1e400,\n "s": "\\ud800"}', flags=["b", "a"])
    lock(connection, 1)
    done = jobs("list", "--json")
    assert done.out.count("\n") == 1
    assert '"payload":{"n": 1e400,  "s": "\\ud800"}' in done.out
    shown = json.loads(done.out)
    assert (shown["id"], shown["state"], shown["locked_by"], shown["flags"]) == (1, "running", "w1", ["a", "b"])


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--task", "t"], [5, 4, 3, 2, 1]),
        (["--queue", "mail"], [2]),
        (["--state", "ready"], [3, 2]),
        (["--state", "scheduled"], [1]),
        (["--state", "running"], [4]),
        (["--state", "failed"], [5]),
        (["--key", "k"], [3]),
        (["--flag", "smtp"], [2]),
        (["--locked-by", "w1"], [4]),
        (["--queue", "mail", "--flag", "smtp"], [2]),
        (["--queue", "mail", "--key", "k"], []),
    ],
)
def test_filters_are_joined_by_and(jobs: Command, connection: Connection, filters: list[str], found: list[int]) -> None:
    add(connection, run_at="2100-01-01Z")
    add(connection, queue_name="mail", flags=["smtp"])
    add(connection, job_key="k")
    add(connection, 2)
    lock(connection, 4)
    exhaust(connection, 5)
    assert shown_ids(jobs("list", "--json", *filters)) == found


def test_pages_follow_one_another_with_what_stderr_says(jobs: Command, connection: Connection) -> None:
    add(connection, 5)
    first = jobs("list", "--json", "--limit", "2")
    assert shown_ids(first) == [5, 4]
    told, _, option = first.err.rstrip("\n").rpartition(" ")
    assert told == "pgtasks: there is more; go on with"
    add(connection)  # which a position does not mind
    second = jobs("list", "--json", "--limit", "2", option)
    assert shown_ids(second) == [3, 2]
    last = jobs("list", "--json", "--limit", "2", second.err.split()[-1])
    assert (shown_ids(last), last.err) == ([1], "")


def test_an_empty_page_that_has_a_next_one_says_so(jobs: Command, connection: Connection) -> None:
    add(connection, queue_name="mail")
    add(connection, 20_000)
    done = jobs("list", "--queue", "mail")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("pgtasks: nothing so far; go on looking with --after=")
    assert " mail " in jobs("list", "--queue", "mail", done.err.split()[-1]).out


def test_an_empty_list_says_so_on_stderr(jobs: Command, connection: Connection) -> None:
    assert jobs("list").err == "pgtasks: there are no jobs\n"
    add(connection)
    assert jobs("list", "--key", "k").err == "pgtasks: there are no such jobs\n"
    done = jobs("list", "--key", "k", "--json")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_task_that_is_not_known_is_told_with_the_nearest(jobs: Command, connection: Connection) -> None:
    connection.execute("SELECT graphile_worker.add_job('send_email')")
    done = jobs("list", "--task", "send_mial")
    assert (done.code, done.err) == (0, "pgtasks: there is no task 'send_mial'; did you mean 'send_email'?\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--state", "done"], "invalid value for '--state': 'done' is not one of 'ready', 'scheduled', 'running', "),
        (["--limit", "0"], "invalid value for '--limit': 0 is not in the range 1<=x<=10000."),
        (["--limit", "ten"], "invalid value for '--limit': 'ten' is not a whole number."),
        (["--after", "42"], "--after '42' is not the `next` of a page."),
        (["--stat", "failed"], "there is no option '--stat'; did you mean '--state'?"),
        (["failed"], "got unexpected extra argument (failed)."),
    ],
)
def test_an_option_of_a_list_that_cannot_be_used_is_refused(jobs: Command, arguments: list[str], error: str) -> None:
    done = jobs("list", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)


# Showing


def test_all_that_is_known_about_a_job_is_shown(jobs: Command, connection: Connection) -> None:
    add(connection, payload='{"to": "Ada"}', queue_name="mail", job_key="k", flags=["smtp"], priority=3)
    exhaust(connection, 1, "Traceback:\n  no mail\n")
    done = jobs("show", "1")
    facts = dict(line.split(maxsplit=1) for line in done.out.splitlines()[:8])
    assert "\nrun at      2" in done.out
    assert facts == {
        "id": "1",
        "state": "failed",
        "task": "t",
        "queue": "mail",
        "key": "k",
        "flags": "smtp",
        "priority": "3",
        "attempts": "25 of 25",
    }
    assert 'payload     {"to": "Ada"}\nlast error\n  Traceback:\n    no mail\n' in done.out


def test_a_long_payload_is_set_over_several_lines(jobs: Command, connection: Connection) -> None:
    add(connection, payload=json.dumps({"names": ["Ada", "Grace"] * 10}))
    assert 'payload\n  {\n    "names": [\n      "Ada",\n' in jobs("show", "1").out


def test_jobs_that_are_there_are_shown_and_the_others_told(jobs: Command, connection: Connection) -> None:
    add(connection, 2)
    done = jobs("show", "2", "99", "1", "--json")
    assert (done.code, shown_ids(done)) == (10, [2, 1])
    assert done.error == "1 of 3 jobs was not found: 99 (there is no such job)"


# Changing


def test_completed_jobs_are_gone(jobs: Command, connection: Connection) -> None:
    add(connection, 3)
    done = jobs("complete", "1", "3", "3", "--yes")
    assert (done.code, done.out, done.err) == (0, "2 jobs completed: 1, 3\n", "")
    assert ids(connection) == [2]


def test_failed_jobs_stay_with_the_reason(jobs: Command, connection: Connection) -> None:
    add(connection)
    assert jobs("fail", "1", "--reason", "no mail").out == "job 1 marked as failed\n"
    assert rows(connection, "attempts, max_attempts, last_error") == [(25, 25, "no mail")]


def test_a_retry_gives_all_attempts_again_and_now(jobs: Command, connection: Connection) -> None:
    add(connection, run_at="2100-01-01Z")
    exhaust(connection, 1)
    assert jobs("retry", "1").out == "job 1 set to run again\n"
    assert rows(connection, "attempts, run_at <= now()") == [(0, True)]


def test_a_job_is_rescheduled_in_what_is_given_and_nothing_else(jobs: Command, connection: Connection) -> None:
    add(connection, 2, priority=4)
    options = ["--run-at", "2100-01-01T00:00Z", "--attempts", "2", "--max-attempts", "3"]
    assert jobs("reschedule", "1", "2", *options).out == "2 jobs rescheduled: 1, 2\n"
    assert rows(connection, "run_at = '2100-01-01Z', attempts, max_attempts, priority") == [(True, 2, 3, 4)] * 2
    jobs("reschedule", "1", "--delay", "1d", "--priority", "-1")
    assert rows(connection, "run_at = updated_at + '1 day', priority")[0] == (True, -1)


def test_a_failed_job_that_is_rescheduled_is_told_to_stay_failed(jobs: Command, connection: Connection) -> None:
    add(connection, 3)
    exhaust(connection, 1)
    exhaust(connection, 3)
    done = jobs("reschedule", "1", "2", "--delay", "0")
    assert (done.code, done.out) == (0, "2 jobs rescheduled: 1, 2\n")
    assert done.err == (
        "pgtasks: job 1 has failed permanently and will not run: 'pgtasks jobs retry', or --attempts 0, gives all "
        "attempts again\n"
    )
    assert jobs("reschedule", "1", "2", "3", "--delay", "0", "--dry-run").err == (
        "pgtasks: 2 jobs have failed permanently and will not run (1, 3): 'pgtasks jobs retry', or --attempts 0, gives "
        "all attempts again\n"
    )
    assert jobs("reschedule", "1", "--delay", "0", "--attempts", "0").err == ""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "nothing to change: give --run-at, --delay, --priority, --attempts or --max-attempts."),
        (["--run-at", "2100-01-01T00:00Z", "--delay", "1"], "--run-at and --delay both say when the jobs run; give"),
        (["--attempts", "-1"], "--attempts -1 is out of range: it must be from 0 to 32767."),
        (["--max-attempts", "0"], "--max-attempts 0 is out of range: it must be from 1 to 32767."),
        (["--priority", "1000000"], "--priority 1000000 is out of range: it must be from -32768 to 32767."),
        (["--run-at", "now"], "invalid value for '--run-at': 'now' is not a time: write it as "),
    ],
)
def test_a_job_is_not_rescheduled_to_what_cannot_be(
    jobs: Command, connection: Connection, options: list[str], error: str
) -> None:
    add(connection)
    before = rows(connection, "*")
    done = jobs("reschedule", "1", *options)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)
    assert rows(connection, "*") == before


def test_jobs_are_removed_by_their_keys(jobs: Command, connection: Connection) -> None:
    add(connection, job_key="welcome 1")
    add(connection, job_key="welcome 2")
    add(connection)
    done = jobs("remove", "-", "--yes", stdin="welcome 1\n\nwelcome 2\r\n")
    assert (done.code, done.out) == (0, "2 jobs removed: 1, 2\n")
    assert ids(connection) == [3]


def test_a_running_job_that_is_removed_is_not_tried_again(jobs: Command, connection: Connection) -> None:
    add(connection, job_key="k")
    lock(connection, 1)
    done = jobs("remove", "k")
    assert (done.code, done.out) == (0, "job 1 kept from another attempt, while this one runs to its end\n")
    assert rows(connection, "key, attempts = max_attempts, locked_by") == [(None, True, "w1")]


def test_keys_that_no_job_has_are_told_and_the_others_removed(jobs: Command, connection: Connection) -> None:
    add(connection, job_key="k")
    done = jobs("remove", "k", "z", "--json", "--yes")
    assert done.code == 10
    assert done.error == "1 of 2 keys was not found: 'z' (no job has it)"
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["key"], line["done"], line["reason"]) for line in told] == [
        ("k", True, None),
        ("z", False, "unknown"),
    ]
    assert told[0]["job"]["id"] == 1
    assert ids(connection) == []


def test_jobs_are_cancelled_wherever_they_are(jobs: Command, connection: Connection) -> None:
    add(connection, 5)
    connection.execute("SELECT graphile_worker._pgtasks_register_worker('w1', 'h', 'h', 1, '1')")
    for job_id, worker in ((2, "w1"), (3, "graphile"), (4, "w1")):
        lock(connection, job_id, worker)
    for before, were in (("would be ", "would not be"), ("", "was not")):
        done = jobs("cancel", "1", "2", "3", "4", "99", "--yes", *(["--dry-run"] if before else []))
        assert done.code == 10
        assert done.error == f"1 of 5 jobs {were} cancelled: 99 (there is no such job)"
        assert done.out.splitlines() == [
            f"job 1 {before}removed",
            f"2 jobs {before}asked to stop on w1: 2, 4",
            f"job 3 {before}kept from another attempt, while it runs to its end on graphile",
        ]
    assert ids(connection) == [2, 3, 4, 5]
    done = jobs("cancel", "5", "4", "--reason", "no more", "--yes", "--json")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["id"], line["done"], line["state"], line["job"]["locked_by"]) for line in told] == [
        (5, True, "removed", None),
        (4, True, "stopping", "w1"),
    ]
    assert done.code == 0


# What cannot be done


@pytest.mark.parametrize("command", BY_ID)
def test_what_cannot_be_done_is_told_and_the_rest_is_done(
    jobs: Command, connection: Connection, command: tuple[str, ...]
) -> None:
    add(connection, 2)
    exhaust(connection, 1)
    lock(connection, 2)
    before = rows(connection, "*")
    done = jobs(*command, "1", "2", "99", *(["--yes"] if command in ASKING else []))
    assert done.code == 10
    assert done.out.startswith("job 1 ")
    assert done.error == "2 of 3 jobs were not changed: 2 (locked by w1), 99 (there is no such job)"
    after = rows(connection, "*")
    assert before[0] not in after
    assert before[1] in after


@pytest.mark.parametrize("command", BY_ID)
def test_a_single_job_that_is_not_there_is_told_in_a_sentence(jobs: Command, command: tuple[str, ...]) -> None:
    done = jobs(*command, "99")
    assert (done.code, done.out) == (10, "")
    assert done.error == "job 99 was not changed: there is no such job"


def test_a_retry_leaves_jobs_alone_that_have_not_failed(jobs: Command, connection: Connection) -> None:
    add(connection, run_at="2100-01-01Z")
    before = rows(connection, "*")
    done = jobs("retry", "1")
    assert (done.code, done.error) == (10, "job 1 was not changed: not failed")
    assert rows(connection, "*") == before


def test_changes_for_programs_are_an_object_for_each_id_in_their_order(jobs: Command, connection: Connection) -> None:
    add(connection, 2)
    lock(connection, 1)
    done = jobs("fail", "99", "2", "1", "--json", "--yes")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["id"], line["done"], line["reason"]) for line in told] == [
        (99, False, "unknown"),
        (2, True, None),
        (1, False, "locked by w1"),
    ]
    assert told[1]["job"]["state"] == "failed"
    assert told[0]["job"] is None


def test_a_few_of_many_problems_are_named(jobs: Command) -> None:
    done = jobs("retry", *map(str, range(1, 16)))
    assert done.error.startswith("15 of 15 jobs were not changed: 1 (there is no such job), 2 (")
    assert done.error.endswith("10 (there is no such job) and 5 more")


@pytest.mark.parametrize("given", ["x", "4.2", "0", "9223372036854775808", "٣", ""])
def test_what_is_no_id_is_refused(jobs: Command, connection: Connection, given: str) -> None:
    add(connection)
    done = jobs("complete", "1", given)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(f"{given!r} is not the id of a job, which is a whole number such as 42.")
    assert ids(connection) == [1]


# Standard input


def test_ids_come_from_standard_input(jobs: Command, connection: Connection) -> None:
    add(connection, 3)
    assert jobs("complete", "-", "--yes", stdin="1\n\n 3 \r\n").out == "2 jobs completed: 1, 3\n"


def test_a_list_for_programs_can_be_piped_into_a_change(jobs: Command, connection: Connection) -> None:
    add(connection, 3)
    for number in (1, 3):
        exhaust(connection, number)
    listed = jobs("list", "--state", "failed", "--json")
    assert jobs("retry", "-", stdin=listed.out).out == "2 jobs set to run again: 3, 1\n"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"1\nx\n", "line 2 of standard input: 'x' is not the id of a job"),
        (b'1\n{"key": 1}\n', "line 2 of standard input: '{\"key\": 1}' is not a job in JSON, with its 'id'."),
        (b"1\n{1\n", "line 2 of standard input: '{1' is not a job in JSON, with its 'id'."),
        (b"1\n\xff\n", "standard input is not UTF-8, at byte 3."),
    ],
)
def test_standard_input_that_holds_something_else_changes_nothing(
    jobs: Command, connection: Connection, given: bytes, error: str
) -> None:
    add(connection)
    done = jobs("complete", "-", "--yes", stdin=given)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)
    assert ids(connection) == [1]


@pytest.mark.parametrize("command", [*BY_ID, ("cancel",), ("remove",), ("show",)])
def test_nothing_on_standard_input_is_nothing_to_do(jobs: Command, command: tuple[str, ...]) -> None:
    done = jobs(*command, "-")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("pgtasks: no ")
    assert " on standard input: nothing to " in done.err


def test_a_bulk_change_may_be_larger_than_one_call(jobs: Command, connection: Connection) -> None:
    add(connection, 10_003)
    done = jobs("complete", "-", "--yes", stdin="\n".join(map(str, range(1, 10_003))))
    assert done.out.startswith("10002 jobs completed: 1, 2, 3, ")
    assert done.out.endswith("10 and 9992 more\n")
    assert ids(connection) == [10_003]


# Dry runs


@pytest.mark.parametrize("command", [*BY_ID, ("remove",)])
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    jobs: Command, connection: Connection, command: tuple[str, ...]
) -> None:
    for key in ("1", "2"):
        add(connection, job_key=key)
        exhaust(connection, int(key))
    before = rows(connection, "*")
    done = jobs(*command, "1", "2", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("2 jobs would be ")
    assert rows(connection, "*") == before


def test_a_dry_run_tells_what_could_not_be_done(jobs: Command) -> None:
    assert jobs("complete", "99", "--dry-run").error == "job 99 would not be changed: there is no such job"


# The question


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("complete", "delete 2 jobs, as if they had succeeded"),
        ("fail", "mark 2 jobs as permanently failed"),
        ("cancel", "cancel 2 jobs"),
        ("remove", "remove 2 jobs"),
    ],
)
def test_several_jobs_are_not_changed_where_nobody_can_be_asked(
    jobs: Command, connection: Connection, command: str, what: str
) -> None:
    for key in ("1", "2"):
        add(connection, job_key=key)
    before = rows(connection, "*")
    done = jobs(command, "1", "2")
    assert (done.code, done.out) == (2, "")
    assert done.error == (
        f"this would {what}, and there is no terminal to ask on: give --yes, or --dry-run to look first. "
        f"See 'pgtasks jobs {command} --help'."
    )
    assert rows(connection, "*") == before


def test_yes_on_a_terminal_does_it(jobs_on_terminal: Command, connection: Connection) -> None:
    add(connection, 2)
    done = jobs_on_terminal("complete", "1", "2", answer="y\n")
    assert done.code == 0
    assert done.out == "Delete 2 jobs, as if they had succeeded? [y/N]: y\n2 jobs completed: 1, 2\n"
    assert ids(connection) == []


@pytest.mark.parametrize("answer", ["n\n", "\n"])
def test_no_on_a_terminal_does_nothing(jobs_on_terminal: Command, connection: Connection, answer: str) -> None:
    add(connection, 2)
    done = jobs_on_terminal("complete", "1", "2", answer=answer)
    assert done.code == 10
    assert done.out.endswith("pgtasks: error: nothing was done, since the answer was no\n")
    assert ids(connection) == [1, 2]


def test_no_answer_at_all_does_nothing(jobs_on_terminal: Command, connection: Connection) -> None:
    add(connection, 2)
    ctrl_d = "\x04"
    assert jobs_on_terminal("complete", "1", "2", answer=ctrl_d).code == 130
    assert ids(connection) == [1, 2]


# Output that cannot be written


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [("complete", "1"), ("complete", "1", "--json"), ("show", "1"), ("show", "1", "--json"), ("list",), ("--help",)],
)
def test_output_that_cannot_be_written_is_told_and_what_was_done_stays_done(
    database: str, connection: Connection, tmp_path: Path, command: tuple[str, ...], unbuffered: str
) -> None:
    add(connection, payload=json.dumps({"long": "x" * 100_000}))
    env = {"PGTASKS_DATABASE_URL": database, "PYTHONUNBUFFERED": unbuffered}
    shell = ("/bin/sh", "-c", 'exec "$@" > /dev/full', "sh")
    done = run(*PGTASKS, "jobs", *command, cwd=tmp_path, env=env, command=shell)
    assert done.code == UNWRITTEN
    assert done.error == (
        "the output could not be written: No space left on device; what the command had changed by then stays changed"
    )
    assert ids(connection) == ([] if command[0] == "complete" else [1])


# Databases that cannot be used


@pytest.mark.parametrize("command", [("list",), ("show", "1"), ("complete", "1"), ("remove", "k")])
def test_a_database_without_the_schema(empty_database: str, tmp_path: Path, command: Iterable[str]) -> None:
    done = run("jobs", *command, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert done.code == 4
    assert done.error.startswith("the schema 'graphile_worker' holds no queue: run `pgtasks migrate`")


@pytest.mark.parametrize("command", [("list",), ("complete", "1")])
def test_a_server_that_is_not_there(tmp_path: Path, command: Iterable[str]) -> None:
    url = f"postgresql://127.0.0.1:{free_port()}/shop"
    done = run("jobs", *command, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert (done.code, done.out) == (3, "")
    assert done.error.startswith("no server answers at host=127.0.0.1 port=")


@pytest.mark.parametrize("command", [("list",), ("complete", "1"), ("remove", "k")])
def test_a_role_without_rights(database: str, connection: Connection, tmp_path: Path, command: Iterable[str]) -> None:
    add(connection, job_key="k")
    connection.execute("CREATE ROLE pgtasks_stranger LOGIN")
    try:
        url = make_conninfo(database, user="pgtasks_stranger")
        done = run("jobs", *command, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    finally:
        connection.execute("DROP ROLE pgtasks_stranger")
    assert (done.code, done.out) == (3, "")
    assert "permission denied for schema graphile_worker" in done.error
    assert ids(connection) == [1]


@pytest.mark.parametrize(
    ("when", "error"),
    [
        ("INITIALLY IMMEDIATE", "the database at host="),
        (
            "INITIALLY DEFERRED",
            "the connection to the database was lost while the change was committed: it is not known",
        ),
    ],
    ids=["before the commit", "in the commit"],
)
def test_a_connection_that_is_lost_on_the_way(jobs: Command, connection: Connection, when: str, error: str) -> None:
    add(connection)
    connection.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
    )
    trigger = "CREATE CONSTRAINT TRIGGER die AFTER DELETE ON graphile_worker._private_jobs DEFERRABLE"
    connection.execute(f"{trigger} {when} FOR EACH ROW EXECUTE FUNCTION die()".encode())
    done = jobs("complete", "1")
    assert (done.code, done.out) == (3, "")
    assert done.error.startswith(error)
    assert ids(connection) == [1]
