"""The command: what it writes, and how it ends. What is found is tested in tests/queue."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.running import Done, run, run_on_terminal, run_script
from tests.servers import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., Done]
    Connection = psycopg.Connection[tuple[Any, ...]]

FOUND = 13


@pytest.fixture
def pgtasks(database: str, tmp_path: Path) -> Command:
    """`pgtasks` on the test's database."""
    return partial(run, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the account of the embedded server may enter, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="pgtasks-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def objects(done: Done) -> dict[str, dict[str, Any]]:
    return {(finding := json.loads(line))["name"]: finding for line in done.out.splitlines()}


def test_nothing_is_found_where_all_is_well_and_notes_need_no_action(open_directory: Path) -> None:
    env = {"PGTASKS_EMBEDDED_DIR": "server"}
    embedded = partial(run, cwd=open_directory, env=env)
    announced = "pgtasks: using the embedded PostgreSQL 18 in server\n"
    missing = embedded("doctor")
    assert (missing.code, missing.err) == (
        FOUND,
        f"{announced}pgtasks: error: 1 problem in schema 'graphile_worker' or on its server\n",
    )
    assert embedded("migrate").code == 0
    done = embedded("doctor")
    assert (done.code, done.out, done.err) == (0, "schema 'graphile_worker': nothing was found\n", announced)
    assert embedded("doctor", "--json").out == ""
    embedded("add", "greet", "--run-at", "2100-01-01T00:00Z")
    assert embedded("jobs", "fail", "1").code == 0
    noted = embedded("doctor")
    assert (noted.code, noted.err) == (0, announced)
    assert noted.out == (
        "note: 1 job has failed permanently [failed_jobs]\n"
        "  why:  they stay until somebody acts on them\n"
        "  cure: see why, and retry or complete them\n"
        "        pgtasks jobs list --state failed\n"
        "\n"
        "schema 'graphile_worker': nothing else was found\n"
    )


def test_each_finding_says_what_why_and_what_to_do(pgtasks: Command, connection: Connection) -> None:
    connection.execute("drop index graphile_worker.jobs_main_index")
    done = pgtasks("doctor")
    assert done.code == FOUND
    assert (
        "warning: the index jobs_main_index on graphile_worker._private_jobs is missing [index_missing]\n"
        "  why:  what it is for, a claim or another look at jobs, reads the whole table\n"
        "  cure: make it again; that needs time on a large table, and nobody waits for it\n"
        "        create index concurrently jobs_main_index on graphile_worker._private_jobs "
        "using btree (priority, run_at) INCLUDE (id, task_id, job_queue_id) WHERE (is_available = true);\n"
    ) in done.out
    assert done.error == "3 warnings in schema 'graphile_worker' or on its server"  # two are the test server's own


def test_findings_for_programs_are_an_object_a_line(pgtasks: Command, connection: Connection) -> None:
    connection.execute("select graphile_worker.add_job('greet')")
    done = pgtasks("doctor", "--json")
    assert done.code == FOUND
    found = objects(done)["no_worker"]
    assert list(found) == ["name", "level", "what", "why", "cure", "commands", "facts"]
    assert (found["level"], found["commands"]) == ("problem", ["pgtasks worker MODULE"])
    assert found["facts"]["tasks"] == {"greet": 1}
    assert done.error == "1 problem and 2 warnings in schema 'graphile_worker' or on its server"


def test_what_is_long_can_be_said(pgtasks: Command, database: str, connection: Connection) -> None:
    url = make_conninfo(database, application_name="a\x1b[31mb")
    with psycopg.connect(url) as holder:
        holder.execute("insert into graphile_worker._private_tasks (identifier) values ('x')")
        assert "long_transaction" not in objects(pgtasks("doctor", "--json"))
        done = pgtasks("doctor", "--older-than", "0s")
        assert f"warning: a transaction of session {holder.info.backend_pid} (" in done.out
    assert "\x1b" not in done.out
    refused = pgtasks("doctor", "--older-than", "long")
    assert (refused.code, refused.out) == (2, "")
    assert "is not a time span" in refused.error


def test_a_schema_of_another_name_is_named_in_what_to_do(database: str, tmp_path: Path) -> None:
    done = run("doctor", "--schema", "my jobs", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})
    assert done.code == FOUND
    assert "problem: schema 'my jobs' does not exist [schema_missing]\n" in done.out
    assert "        pgtasks migrate --schema 'my jobs'\n" in done.out
    assert done.error == "1 problem and 2 warnings in schema 'my jobs' or on its server"


def test_lines_fit_a_terminal_and_commands_stay_whole(database: str, tmp_path: Path, connection: Connection) -> None:
    connection.execute("drop index graphile_worker.jobs_main_index")
    done = run_on_terminal("doctor", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database}, columns=60)
    lines = done.out.splitlines()
    start = lines.index("warning: the index jobs_main_index on")
    assert lines[start + 1] == "  graphile_worker._private_jobs is missing [index_missing]"
    assert lines[start + 2 : start + 4] == [
        "  why:  what it is for, a claim or another look at jobs,",
        "        reads the whole table",
    ]
    assert lines[start + 4 : start + 6] == [
        "  cure: make it again; that needs time on a large table, and",
        "        nobody waits for it",
    ]
    assert lines[start + 6].startswith("        create index concurrently jobs_main_index on ")
    assert lines[start + 6].endswith("WHERE (is_available = true);")


def test_the_clock_is_compared_with_that_of_this_host(database: str, tmp_path: Path) -> None:
    fast = """
import datetime, types
import pgtasks.queue.doctor
class Fast(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(hours=3)
pgtasks.queue.doctor.dt = types.SimpleNamespace(**{**vars(datetime), "datetime": Fast})
"""
    done = run_script(fast, "doctor", "--json", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})
    assert objects(done)["clock"]["facts"]["lead"] == pytest.approx(-10_800, abs=30)


def test_settings_say_whether_and_where_workers_listen(
    start_pgbouncer: Callable[..., Any], database: str, tmp_path: Path
) -> None:
    env = {"PGTASKS_DATABASE_URL": start_pgbouncer("transaction").conninfo}
    assert "unheard_notifications" in objects(run("doctor", "--json", cwd=tmp_path, env=env))
    for setting in ({"PGTASKS_LISTEN": "false"}, {"PGTASKS_LISTEN_URL": database}):
        assert "pooler" in objects(run("doctor", "--json", cwd=tmp_path, env={**env, **setting}))


def test_settings_say_when_a_worker_is_stale(database: str, tmp_path: Path, connection: Connection) -> None:
    connection.execute("select graphile_worker._pgtasks_register_worker('w1', 'h', 'web3', 77, '1.2')")
    connection.execute("update graphile_worker._pgtasks_workers set heartbeat_at = now() - interval '2 minutes'")
    for stale_after, told in (("30", True), ("600", False)):
        env = {"PGTASKS_DATABASE_URL": database, "PGTASKS_STALE_AFTER": stale_after}
        assert ("stale_worker" in objects(run("doctor", "--json", cwd=tmp_path, env=env))) is told


# Databases that cannot be looked at


def test_what_could_not_be_looked_at_is_told_by_the_exit_code(
    database: str, tmp_path: Path, connection: Connection
) -> None:
    connection.execute("create role pgtasks_looker login bypassrls")
    try:
        url = make_conninfo(database, user="pgtasks_looker")
        script = """
import pgtasks.queue.doctor as doctor
from pgtasks.database import Operation
doctor.server = lambda sql, thresholds: Operation("doctor_server", "select 1", (), lambda rows: [])
"""  # the test server's settings are not what this is about
        done = run_script(script, "doctor", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    finally:
        connection.execute("drop role pgtasks_looker")
    assert done.code == 10
    assert "unseen: not looked at: what the schema lacks, jobs that nobody runs, " in done.out
    assert done.error == "nothing that needs action was found, but not everything could be looked at"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    done = run("doctor", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": f"postgresql://127.0.0.1:{free_port()}/shop"})
    assert (done.code, done.out) == (3, "")
    assert done.error.startswith("no server answers at host=127.0.0.1 port=")


def test_a_session_that_is_ended_meanwhile(database: str, tmp_path: Path, connection: Connection) -> None:
    ended = """
import pgtasks.queue.doctor as doctor
from pgtasks.database import Operation
kill = "select pg_terminate_backend(pg_backend_pid())"
doctor.server = lambda sql, thresholds: Operation("doctor_server", kill, (), list)
"""
    done = run_script(ended, "doctor", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})
    assert (done.code, done.out) == (3, "")
    assert "terminating connection" in done.error


def test_a_lock_in_the_way_is_told(pgtasks: Command, database: str, connection: Connection) -> None:
    with psycopg.connect(database) as holder:
        holder.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        found = objects(pgtasks("doctor", "--json"))
        assert found["table_lock"]["facts"]["pid"] == holder.info.backend_pid
        assert found["unseen"]["level"] == "unseen"
    wait_until(lambda: "table_lock" not in objects(pgtasks("doctor", "--json")))
