from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.running import PGTASKS, Done, clean_environment, run, run_on_terminal, run_script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg

    Command = Callable[..., Done]
    Connection = psycopg.Connection[tuple[Any, ...]]

WORKER_FACTS = (
    "host",
    "pid",
    "version",
    "started_at",
    "heartbeat_at",
    "heartbeat_age",
    "succeeded",
    "failed",
    "running",
)
COMMANDS = [("queues",), ("tasks",), ("workers", "list"), ("workers", "unlock", "w1", "--yes"), ("cleanup",)]


@pytest.fixture
def pgtasks(database: str, tmp_path: Path) -> Command:
    """`pgtasks` on the test's database."""
    return partial(run, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


@pytest.fixture
def pgtasks_on_terminal(database: str, tmp_path: Path) -> Command:
    """`pgtasks` on the test's database and on a terminal."""
    return partial(run_on_terminal, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


def add(connection: Connection, task: str = "t", queue: str | None = None, number: int = 1) -> None:
    query = "SELECT graphile_worker.add_job(%s, queue_name => %s) FROM generate_series(1, %s)"
    connection.execute(query, (task, queue, number))


def lock(connection: Connection, job_id: int, worker: str = "w1") -> None:
    connection.execute(
        "UPDATE graphile_worker._private_jobs SET locked_by = %s, locked_at = '2020-01-01Z' WHERE id = %s",
        (worker, job_id),
    )


def exhaust(connection: Connection, job_id: int) -> None:
    connection.execute("UPDATE graphile_worker._private_jobs SET attempts = max_attempts WHERE id = %s", (job_id,))


def lock_queue(connection: Connection, queue: str, worker: str = "w1") -> None:
    connection.execute(
        "UPDATE graphile_worker._private_job_queues SET locked_by = %s, locked_at = '2020-01-01Z' "
        "WHERE queue_name = %s",
        (worker, queue),
    )


def values(connection: Connection, column: str, table: str) -> list[Any]:
    query = f"SELECT {column} FROM graphile_worker._private_{table} ORDER BY id"
    return [row[0] for row in connection.execute(query.encode()).fetchall()]


def objects(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


# Queues and tasks


def test_queues_are_listed_by_name_with_who_has_them(pgtasks: Command, connection: Connection) -> None:
    add(connection, queue="mail", number=2)
    add(connection, queue="a")
    lock_queue(connection, "mail")
    done = pgtasks("queues")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "queue  waiting  locked by  locked\na            1\nmail         2  w1         2020-01-01T00:00:00Z\n"
    )
    assert objects(pgtasks("queues", "--json"))[1] == {
        "name": "mail",
        "locked_by": "w1",
        "locked_at": "2020-01-01T00:00:00Z",
        "waiting": 2,
    }


def test_tasks_are_listed_by_name_with_how_their_jobs_stand(pgtasks: Command, connection: Connection) -> None:
    add(connection, "resize", number=3)
    add(connection, "greet")
    lock(connection, 1)
    exhaust(connection, 2)
    done = pgtasks("tasks")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "task    waiting  running  failed\ngreet         1        0       0\nresize        1        1       1\n"
    )
    assert objects(pgtasks("tasks", "--json"))[1] == {"name": "resize", "waiting": 1, "running": 1, "failed": 1}


def test_a_count_that_was_not_finished_says_so(pgtasks: Command, connection: Connection) -> None:
    add(connection, queue="mail", number=1_001)
    assert pgtasks("queues").out.splitlines()[1].split() == ["mail", "1000+"]


@pytest.mark.parametrize("command", ["queues", "tasks"])
def test_names_are_listed_page_by_page(pgtasks: Command, connection: Connection, command: str) -> None:
    for name in ("a", "b 'b'", "c"):
        add(connection, name, name)
    first = pgtasks(command, "--limit", "2", "--json")
    assert [item["name"] for item in objects(first)] == ["a", "b 'b'"]
    assert first.err == """pgtasks: there is more; go on with --after='b '"'"'b'"'"''\n"""
    second = pgtasks(command, "--limit", "2", "--json", "--after=b 'b'")
    assert [item["name"] for item in objects(second)] == ["c"]
    assert second.err == ""


@pytest.mark.parametrize("command", ["queues", "tasks"])
def test_no_names_at_all_is_told_on_stderr(pgtasks: Command, command: str) -> None:
    done = pgtasks(command)
    assert (done.code, done.out, done.err) == (0, "", f"pgtasks: there are no {command}\n")


# Workers


def test_without_a_command_the_help_goes_to_stderr(tmp_path: Path) -> None:
    done = run("workers", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: pgtasks workers ")


def test_a_misspelt_command_is_told_with_the_nearest(tmp_path: Path) -> None:
    done = run("workers", "unlok", cwd=tmp_path)
    assert done.code == 2
    assert done.error == "there is no command 'unlok'; did you mean 'unlock'? See 'pgtasks workers --help'."


def test_workers_that_hold_jobs_are_listed(pgtasks: Command, connection: Connection) -> None:
    add(connection, number=4)
    for job_id, worker in ((1, "w2"), (2, "w1"), (3, "w1")):
        lock(connection, job_id, worker)
    connection.execute("select graphile_worker._pgtasks_register_worker('w2', 'h', 'web3', 77, '1.2')")
    connection.execute("select graphile_worker._pgtasks_register_worker('w3', 'h', 'web3', 78, '1.2')")
    connection.execute("update graphile_worker._pgtasks_workers set heartbeat_at = '2026-02-03Z', succeeded = 4")
    done = pgtasks("workers", "list")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == [
        "worker",
        "host",
        "pid",
        "version",
        "started",
        "heartbeat",
        "succeeded",
        "failed",
        "jobs",
        "oldest",
        "lock",
    ]
    assert lines[1] == ["w1", "2", "2020-01-01T00:00:00Z"]
    assert lines[2][:4] + lines[2][5:] == [
        "w2",
        "web3",
        "77",
        "1.2",
        "2026-02-03T00:00:00Z",
        "4",
        "0",
        "1",
        "2020-01-01T00:00:00Z",
    ]
    assert lines[3][:4] + lines[3][5:] == ["w3", "web3", "78", "1.2", "2026-02-03T00:00:00Z", "4", "0", "0"]
    first, second, _ = objects(pgtasks("workers", "list", "--json"))
    assert second["heartbeat_age"] > 0
    assert first == {
        "id": "w1",
        "jobs": 2,
        "oldest_lock": "2020-01-01T00:00:00Z",
        **dict.fromkeys(WORKER_FACTS),
    }
    assert (second["host"], second["pid"], second["heartbeat_at"]) == ("web3", 77, "2026-02-03T00:00:00Z")
    cut = pgtasks("workers", "list", "--limit", "1")
    assert cut.err == "pgtasks: there may be more than the first 1; list more with a higher --limit\n"


def test_no_worker_at_all_is_told_on_stderr(pgtasks: Command) -> None:
    done = pgtasks("workers", "list")
    assert (done.code, done.out, done.err) == (0, "", "pgtasks: no worker is running or holds a job\n")


def held(connection: Connection) -> tuple[list[Any], list[Any]]:
    return values(connection, "locked_by", "jobs"), values(connection, "locked_by", "job_queues")


def test_unlocking_takes_jobs_and_queues_from_the_workers_that_are_named(
    pgtasks: Command, connection: Connection
) -> None:
    add(connection, queue="mail", number=2)
    add(connection)
    lock(connection, 1)
    lock(connection, 3, "w2")
    lock_queue(connection, "mail")
    done = pgtasks("workers", "unlock", "w1", "--yes")
    assert (done.code, done.out) == (0, "w1: 1 job unlocked\n")
    assert done.err.startswith("pgtasks: warning: 'w1' holds 1 job (the oldest lock is of ")
    assert done.err.endswith("make sure that its process is gone\n")
    assert held(connection) == ([None, None, "w2"], [None])


def test_a_queue_without_a_job_is_unlocked_too(pgtasks: Command, connection: Connection) -> None:
    add(connection, queue="mail")
    lock_queue(connection, "mail")
    assert pgtasks("workers", "unlock", "w1", "--yes").out == "w1: queues without a job unlocked\n"
    assert held(connection) == ([None], [None])


def test_unlocking_asks_even_for_one_job(pgtasks_on_terminal: Command, connection: Connection) -> None:
    add(connection)
    lock(connection, 1)
    refused = pgtasks_on_terminal("workers", "unlock", "w1", answer="n\n")
    assert refused.code == 10
    assert refused.out.startswith("pgtasks: warning: 'w1' holds 1 job")
    assert "\nTake 1 job from 1 worker? [y/N]: n\n" in refused.out
    assert held(connection)[0] == ["w1"]
    assert pgtasks_on_terminal("workers", "unlock", "w1", answer="y\n").code == 0
    assert held(connection)[0] == [None]


def test_nothing_is_unlocked_where_nobody_can_be_asked(pgtasks: Command, connection: Connection) -> None:
    add(connection)
    lock(connection, 1)
    done = pgtasks("workers", "unlock", "w1")
    assert (done.code, done.out) == (2, "")
    assert "pgtasks: error: this would take 1 job from 1 worker, and there is no terminal to ask on: give " in done.err
    assert held(connection)[0] == ["w1"]


def test_a_dry_run_unlocks_nothing(pgtasks: Command, connection: Connection) -> None:
    add(connection)
    lock(connection, 1)
    done = pgtasks("workers", "unlock", "w1", "--dry-run")
    assert (done.code, done.out, done.err) == (0, "w1: 1 job would be unlocked\n", "")
    assert held(connection)[0] == ["w1"]


def test_workers_that_hold_nothing_are_told_and_the_others_unlocked(pgtasks: Command, connection: Connection) -> None:
    add(connection)
    lock(connection, 1)
    done = pgtasks("workers", "unlock", "-", "--yes", "--json", stdin="w1\nw9\n")
    assert done.code == 10
    assert done.err.splitlines()[-1] == "pgtasks: error: 1 of 2 workers was not unlocked: 'w9' (it holds nothing)"
    assert [(worker["id"], worker["jobs"]) for worker in objects(done)] == [("w1", 1), ("w9", 0)]
    assert held(connection)[0] == [None]


def test_a_worker_that_holds_nothing_is_not_asked_about(pgtasks: Command) -> None:
    done = pgtasks("workers", "unlock", "w9")
    assert (done.code, done.error) == (10, "worker 'w9' was not unlocked: it holds nothing")


@pytest.mark.parametrize(("age", "alive"), [("0 seconds", True), ("2 hours", False)])
def test_whether_a_worker_is_alive_is_told_by_the_databases_clock(
    database: str, tmp_path: Path, connection: Connection, age: str, alive: bool
) -> None:
    fast = """
import datetime, types
import pgtasks.cli.tables, pgtasks.cli.workers
class Fast(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(hours=3)
module = types.SimpleNamespace(**{**vars(datetime), "datetime": Fast})
pgtasks.cli.tables.dt = pgtasks.cli.workers.dt = module
"""
    add(connection)
    lock(connection, 1)
    connection.execute("select graphile_worker._pgtasks_register_worker('w1', 'h', 'web3', 77, '1.2')")
    connection.execute(f"update graphile_worker._pgtasks_workers set heartbeat_at = now() - interval '{age}'".encode())
    env = {"PGTASKS_DATABASE_URL": database}
    done = run_script(fast, "workers", "unlock", "w1", "--yes", cwd=tmp_path, env=env)
    assert done.code == 0
    assert done.err.startswith("pgtasks: warning: 'w1' is alive: it was heard of ") is alive
    assert " 3 h ago" not in done.err


def test_more_workers_than_one_call_takes_are_told_as_the_argument_they_are(pgtasks: Command) -> None:
    done = pgtasks("workers", "unlock", "-", stdin="".join(f"w{number}\n" for number in range(10_001)))
    assert done.code == 2
    assert done.error == (
        "argument WORKER holds 10001, one call takes at most 10000. See 'pgtasks workers unlock --help'."
    )


def test_no_worker_on_standard_input_is_nothing_to_do(pgtasks: Command) -> None:
    done = pgtasks("workers", "unlock", "-")
    assert (done.code, done.err) == (0, "pgtasks: no ids on standard input: nothing to do\n")


# Cleaning up


def known(connection: Connection) -> tuple[list[Any], list[Any], list[Any]]:
    return (
        values(connection, "identifier", "tasks"),
        values(connection, "queue_name", "job_queues"),
        values(connection, "id", "jobs"),
    )


@pytest.fixture
def litter(connection: Connection) -> None:
    """Job 1 of `t1` in `q1` waits, 2 of `t2` in `q2` has failed, and of `t3` and `q3` nothing is left."""
    for number in (1, 2, 3):
        add(connection, f"t{number}", f"q{number}")
    exhaust(connection, 2)
    connection.execute("SELECT graphile_worker.complete_jobs('{3}')")


@pytest.mark.usefixtures("litter")
def test_by_default_unused_tasks_and_queues_are_forgotten(pgtasks: Command, connection: Connection) -> None:
    done = pgtasks("cleanup")
    assert (done.code, done.out, done.err) == (0, "1 task forgotten\n1 queue forgotten\n", "")
    assert known(connection) == (["t1", "t2"], ["q1", "q2"], [1, 2])


@pytest.mark.usefixtures("litter")
def test_where_add_job_is_graphile_workers_a_forgotten_task_is_warned_about(
    pgtasks: Command, connection: Connection
) -> None:
    connection.execute("UPDATE graphile_worker._pgtasks_functions SET public = false")
    for options in (["--dry-run"], []):
        done = pgtasks("cleanup", *options)
        assert done.code == 0
        assert done.err.startswith("pgtasks: warning: add_job is Graphile Worker's in this schema, and gives a task")
    assert pgtasks("cleanup").err == ""


@pytest.mark.usefixtures("litter")
def test_only_what_is_named_is_done(pgtasks: Command, connection: Connection) -> None:
    assert pgtasks("cleanup", "GC_JOB_QUEUES").out == "1 queue forgotten\n"
    assert known(connection) == (["t1", "t2", "t3"], ["q1", "q2"], [1, 2])


@pytest.mark.usefixtures("litter")
def test_failed_jobs_are_deleted_before_their_tasks_are_looked_at(pgtasks: Command, connection: Connection) -> None:
    done = pgtasks("cleanup", "GC_TASK_IDENTIFIERS,DELETE_PERMAFAILED_JOBS", "--yes", "--json")
    assert objects(done) == [{"tasks": 2, "queues": 0, "jobs": 1, "busy": []}]
    assert known(connection) == (["t1"], ["q1", "q2", "q3"], [1])


@pytest.mark.usefixtures("litter")
def test_failed_jobs_are_not_deleted_unasked(
    pgtasks: Command, pgtasks_on_terminal: Command, connection: Connection
) -> None:
    before = known(connection)
    done = pgtasks("cleanup", "DELETE_PERMAFAILED_JOBS")
    assert done.code == 2
    assert done.error.startswith("this would delete all jobs that are permanently failed, and there is no terminal to")
    assert pgtasks_on_terminal("cleanup", "DELETE_PERMAFAILED_JOBS", answer="n\n").code == 10
    assert known(connection) == before
    assert pgtasks_on_terminal("cleanup", "DELETE_PERMAFAILED_JOBS", answer="y\n").out == (
        "Delete all jobs that are permanently failed? [y/N]: y\n1 failed job deleted\n"
    )
    assert known(connection)[2] == [1]


@pytest.mark.usefixtures("litter")
def test_a_dry_run_cleans_up_nothing(pgtasks: Command, connection: Connection) -> None:
    before = known(connection)
    done = pgtasks("cleanup", "DELETE_PERMAFAILED_JOBS", "GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.out == "1 failed job would be deleted\n2 tasks would be forgotten\n2 queues would be forgotten\n"
    assert known(connection) == before


def test_more_than_one_call_clears_away_is_cleared_away(pgtasks: Command, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO graphile_worker._private_job_queues (queue_name) SELECT 'q' || n FROM generate_series(1, 20003) n"
    )
    assert pgtasks("cleanup", "GC_JOB_QUEUES", "--dry-run").out == "10000 queues would be forgotten, and more\n"
    assert pgtasks("cleanup", "GC_JOB_QUEUES").out == "20003 queues forgotten\n"


@pytest.mark.usefixtures("litter")
def test_what_is_busy_is_told_and_the_rest_is_done(database: str, pgtasks: Command, connection: Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE graphile_worker._private_job_queues IN ACCESS SHARE MODE")
    done = pgtasks("cleanup")
    connection.execute("COMMIT")
    assert (done.code, done.out) == (10, "1 task forgotten\n")
    assert done.error == (
        "GC_JOB_QUEUES had to be left undone: a transaction that has added jobs, or another cleanup, stays open; "
        "try again when it has ended"
    )
    assert known(connection) == (["t1", "t2"], ["q1", "q2", "q3"], [1, 2])


@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ACCESS EXCLUSIVE"])
def test_what_stays_busy_is_given_up_however_much_of_it_there_is(
    pgtasks: Command, connection: Connection, mode: str
) -> None:
    for table, column in (("_private_job_queues", "queue_name"), ("_private_tasks", "identifier")):
        query = f"INSERT INTO graphile_worker.{table} ({column}) SELECT n FROM generate_series(1, 10001) n"
        connection.execute(query.encode())
    connection.execute("BEGIN")
    connection.execute(f"LOCK TABLE graphile_worker._private_job_queues IN {mode} MODE".encode())
    done = pgtasks("cleanup")
    connection.execute("COMMIT")
    assert (done.code, done.out) == (10, "10001 tasks forgotten\n")
    assert done.error.startswith("GC_JOB_QUEUES had to be left undone: ")


@pytest.mark.usefixtures("litter")
def test_what_is_busy_is_tried_again(database: str, tmp_path: Path, connection: Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE graphile_worker._private_job_queues IN ACCESS SHARE MODE")
    cleaning = subprocess.Popen(
        [*PGTASKS, "cleanup", "GC_JOB_QUEUES"],
        cwd=tmp_path,
        env=clean_environment({"PGTASKS_DATABASE_URL": database}),
        stdout=subprocess.PIPE,
        text=True,
    )
    waiting = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
    wait_until(lambda: connection.execute(waiting).fetchone() is not None)
    connection.execute("COMMIT")
    assert cleaning.communicate(timeout=60)[0] == "1 queue forgotten\n"
    assert cleaning.returncode == 0


@pytest.mark.parametrize(
    ("operation", "hint"),
    [("GC_QUEUES", "; did you mean 'GC_JOB_QUEUES'?"), ("gc_job_queues", "; did you mean 'GC_JOB_QUEUES'?"), ("x", "")],
)
def test_an_operation_that_does_not_exist_is_refused(pgtasks: Command, operation: str, hint: str) -> None:
    done = pgtasks("cleanup", "GC_TASK_IDENTIFIERS", operation)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(
        f"{operation!r} is none of GC_TASK_IDENTIFIERS, GC_JOB_QUEUES, DELETE_PERMAFAILED_JOBS{hint}"
    )


# Databases that cannot be used


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_without_the_schema(empty_database: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert (done.code, done.out) == (4, "")
    assert done.error.startswith("the schema 'graphile_worker' holds no queue: run `pgtasks migrate`")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_role_without_rights(database: str, connection: Connection, tmp_path: Path, command: tuple[str, ...]) -> None:
    connection.execute("CREATE ROLE pgtasks_stranger LOGIN")
    try:
        url = make_conninfo(database, user="pgtasks_stranger")
        done = run(*command, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    finally:
        connection.execute("DROP ROLE pgtasks_stranger")
    assert (done.code, done.out) == (3, "")
    assert "permission denied for schema graphile_worker" in done.error
