from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.running import Done, run
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg

    Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def add(database: str, tmp_path: Path) -> Callable[..., Done]:
    """`pgtasks add` on the test's database."""
    return partial(run, "add", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


def job(connection: Connection, what: str) -> object:
    row = connection.execute(f"SELECT {what} FROM graphile_worker.jobs".encode()).fetchone()
    return row[0] if row is not None and len(row) == 1 else row


def jobs(connection: Connection) -> object:
    return job(connection, "count(*)")


def test_a_job_without_options_has_the_defaults(add: Callable[..., Done], connection: Connection) -> None:
    done = add("greet")
    assert (done.code, done.out, done.err) == (0, "added job 1 of task 'greet'\n", "")
    columns = "task_identifier, queue_name, priority, max_attempts, key, flags, run_at = created_at"
    assert job(connection, columns) == ("greet", None, 0, 25, None, None, True)


def test_every_option_reaches_the_job(add: Callable[..., Done], connection: Connection) -> None:
    options = ["--queue", "mail", "--priority", "-3", "--max-attempts", "7", "--job-key", "k", "--run-at"]
    done = add("greet", *options, "2100-01-01T01:00+01:00", "--flag", "b", "--flag", "a")
    assert (done.code, done.err) == (0, "")
    columns = "queue_name, priority, max_attempts, key, flags, run_at = '2100-01-01Z'"
    assert job(connection, columns) == ("mail", -3, 7, "k", {"a": True, "b": True}, True)


def test_a_delay_counts_from_now(add: Callable[..., Done], connection: Connection) -> None:
    assert add("greet", "--delay", "2h").out == "added job 1 of task 'greet', to run in 2 h\n"
    assert job(connection, "run_at - created_at = '2 hours'") is True


def payload(connection: Connection) -> object:
    row = connection.execute("SELECT payload::text FROM graphile_worker._private_jobs").fetchone()
    return row and row[0]


def test_a_payload_may_be_an_argument(add: Callable[..., Done], connection: Connection) -> None:
    assert add("greet", '{"name": "Zoë", "n": 123456789012345678901234567890}').code == 0
    assert json.loads(str(payload(connection))) == {"name": "Zoë", "n": 123456789012345678901234567890}


def test_a_payload_may_come_from_standard_input(add: Callable[..., Done], connection: Connection) -> None:
    assert add("greet", "-", stdin='\n{"name":\n "Ada"}\n').code == 0
    assert payload(connection) == '{"name":"Ada"}'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"name": Ada}', "the payload is not JSON: expecting value, at line 1, column 10"),
        ("", "the payload is not JSON: expecting value, at line 1, column 1"),
        ("NaN", "the payload is not JSON: it has no NaN"),
        ("null", "the payload is null, which stands for no payload: leave it out, and the job gets {}"),
        ('{"a":1,"a":2}', "the payload has the key 'a' twice in one object: only one of them would count"),
        ("[" * 100_000, "the payload is nested too deeply"),
    ],
    ids=["malformed", "empty", "nan", "null", "twice", "deep"],
)
def test_a_payload_that_is_not_what_it_should_be_is_refused(
    add: Callable[..., Done], connection: Connection, text: str, error: str
) -> None:
    done = add("greet", text)
    assert (done.code, done.out, done.error) == (2, "", error)
    assert jobs(connection) == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"", "standard input is empty: no payload"),
        (b"{", "the payload on standard input is not JSON: expecting property name enclosed in double quotes, "),
        (b"\xff{}", "standard input is not UTF-8, at byte 1"),
    ],
)
def test_a_payload_on_standard_input_that_is_none_is_refused(
    add: Callable[..., Done], given: bytes, error: str
) -> None:
    done = add("greet", "-", stdin=given)
    assert done.code == 2
    assert done.error.startswith(error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--run-at", "tomorrow"], "invalid value for '--run-at': 'tomorrow' is not a time: write it as 2"),
        (["--run-at", "2030-02-30T00:00Z"], "invalid value for '--run-at': '2030-02-30T00:00Z' is not a time (day "),
        (["--run-at", "2030-01-01T00:00"], "invalid value for '--run-at': '2030-01-01T00:00' has no time zone: write"),
        (["--delay", "soon"], "invalid value for '--delay': 'soon' is not a time span: write 90 or 90s for seconds"),
        (["--delay", "1000000000d"], "--delay 86400000000000.0 is longer than PostgreSQL's calendar."),
        (["--delay", "1m", "--run-at", "2030-01-01T00:00Z"], "--run-at and --delay both say when the job runs; give"),
        (["--priority", "high"], "invalid value for '--priority': 'high' is not a valid integer."),
        (["--priority", "99999"], "--priority 99999 is out of range: it must be from -32768 to 32767."),
        (["--max-attempts", "0"], "--max-attempts 0 is out of range: it must be from 1 to 32767."),
        (["--flag", ""], "--flag must not be empty."),
        (["--queue", "q" * 129], "--queue has 129 characters, at most 128 can be stored: 'q"),
        (["--job-key-mode", "replace"], "--job-key-mode does nothing without --job-key; give both or neither."),
        (["--job-key", "k", "--job-key-mode", "replase"], "invalid value for '--job-key-mode': 'replase' is not one"),
        (["--prioriy", "1"], "there is no option '--prioriy'; did you mean '--priority'?"),
    ],
)
def test_an_option_that_cannot_be_stored_is_named_as_it_was_written(
    add: Callable[..., Done], connection: Connection, arguments: list[str], error: str
) -> None:
    done = add("greet", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)
    assert jobs(connection) == 0


def test_a_task_without_a_name_is_refused(add: Callable[..., Done]) -> None:
    assert add("").error == "argument TASK must not be empty. See 'pgtasks add --help'."


# Keys


def test_a_job_with_the_key_is_changed(add: Callable[..., Done], connection: Connection) -> None:
    assert add("greet", "1", "--job-key", "k").out == "added job 1 of task 'greet'\n"
    assert add("greet", "2", "--job-key", "k").out == "changed job 1 of task 'greet'\n"
    assert payload(connection) == "2"


def test_a_job_with_the_key_may_be_left_as_it_is(add: Callable[..., Done], connection: Connection) -> None:
    add("greet", "1", "--job-key", "k")
    done = add("greet", "2", "--job-key", "k", "--job-key-mode", "unsafe_dedupe")
    assert done.out == "left as it is, since it has this key: job 1 of task 'greet'\n"
    assert payload(connection) == "1"


# What is not known


def test_an_unknown_task_is_added_with_a_warning_that_names_the_nearest(
    add: Callable[..., Done], connection: Connection
) -> None:
    add("send_email")
    done = add("send_mial")
    assert (done.code, done.out) == (0, "added job 2 of task 'send_mial'\n")
    assert done.err == (
        "pgtasks: warning: the job was added, but no worker has had a task 'send_mial' yet, and no job of it was added "
        "before; did you mean 'send_email'?\n"
    )
    assert jobs(connection) == 2


def test_the_first_job_of_all_has_no_warning_and_a_known_task_neither(add: Callable[..., Done]) -> None:
    assert add("greet").err == ""
    assert add("greet").err == ""


def test_a_job_for_programs_is_one_object_on_one_line(add: Callable[..., Done]) -> None:
    done = add("greet", '{"n": 1e2}', "--json", "--flag", "smtp")
    assert done.out.count("\n") == 1
    shown = json.loads(done.out)
    assert shown["id"] == 1
    assert shown["state"] == "ready"
    assert (shown["payload"], shown["flags"], shown["key"]) == ({"n": 100}, ["smtp"], None)
    assert shown["run_at"].endswith("Z")


# Databases that cannot be used


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    url = f"postgresql://ada:s3cret@127.0.0.1:{free_port()}/shop"
    done = run("add", "greet", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert done.code == 3
    assert done.error.startswith("no server answers at host=127.0.0.1 port=")
    assert "s3cret" not in done.error


def test_a_database_without_the_schema(empty_database: str, tmp_path: Path) -> None:
    done = run("add", "greet", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert done.code == 4
    assert done.error.startswith("the schema 'graphile_worker' holds no queue: run `pgtasks migrate`, or start a work")


def test_a_role_without_rights(database: str, connection: Connection, tmp_path: Path) -> None:
    connection.execute("CREATE ROLE pgtasks_stranger LOGIN")
    try:
        url = make_conninfo(database, user="pgtasks_stranger")
        done = run("add", "greet", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    finally:
        connection.execute("DROP ROLE pgtasks_stranger")
    assert done.code == 3
    assert "permission denied for schema graphile_worker" in done.error
