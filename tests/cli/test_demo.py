"""`pgtasks demo`, run as a user runs it: the real command, with workers of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from pgtasks.demo.source import library, library_files
from pgtasks.demo.worker import Worker
from pgtasks.embedded.postmaster import find_postmaster
from tests.cli.running import PGTASKS, Done, clean_environment, run
from tests.conftest import ODD_SCHEMA
from tests.servers import memory_disk
from tests.waiting import wait_until
from tests.worker.conftest import alive, parent_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

FILES = 12


@dataclass(frozen=True)
class Finished:
    """A demo that has run to its end."""

    done: Done
    database: str
    mark: str

    def row(self, name: str) -> list[int]:
        """The numbers in the table's row that begins with `name`."""
        [numbers] = re.findall(rf"^ *{name}((?: +[\d,]+)+) *$", self.done.out, re.MULTILINE)
        return [int(number.replace(",", "")) for number in numbers.split()]


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    name, mark = server.create_database(), f"DEMO_MARK={uuid4()}"
    database = server.conninfo(name)
    arguments = ["demo", "--files", str(FILES), "--processes", "2", "--database-url", database]
    done = run(*arguments, cwd=tmp_path_factory.mktemp("demo"), env=dict([mark.split("=")]))
    yield Finished(done, database, mark)
    server.drop_database(name)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any account may enter: for root the server runs under one of its own."""
    made = Path(tempfile.mkdtemp(prefix="pgtasks-demo-test-", dir=memory_disk()))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


class Running:
    """A demo that is stopped half-way."""

    def __init__(self, database: str, cwd: Path) -> None:
        self.mark = f"DEMO_MARK={uuid4()}"
        self.process = subprocess.Popen(
            [*PGTASKS, "demo", "--processes", "2"],
            cwd=cwd,
            env=clean_environment(
                {"PGTASKS_DATABASE_URL": database, "TMPDIR": str(cwd), **dict([self.mark.split("=")])}
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def signal_all(self, number: int) -> None:
        """Send a signal as a terminal does: to all processes of the command's group."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to stderr."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@pytest.fixture
def running(empty_database: str, tmp_path: Path) -> Iterator[Running]:
    """A demo whose workers have begun."""
    demo = Running(empty_database, tmp_path)
    try:
        wait_until(partial(has_begun, empty_database), timeout=60, what="the first job")
        yield demo
    finally:
        demo.process.kill()
        demo.process.communicate()


def has_begun(database: str) -> bool:
    with psycopg.connect(database) as conn:
        try:
            return conn.execute("select from pgtasks_demo.runs").fetchone() is not None
        except psycopg.errors.UndefinedTable:
            return False


def processes_with(mark: str) -> list[str]:
    """The processes that have `mark` in their environment, each as its number and its command."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if mark in line]


def assert_nothing_is_left(database: str, mark: str) -> None:
    with psycopg.connect(database) as conn:
        assert conn.execute("select nspname from pg_namespace where nspname like '%demo%'").fetchall() == []
        assert conn.execute("select task_identifier from graphile_worker.jobs").fetchall() == []
    wait_until(lambda: processes_with(mark) == [], what="the end of all processes")


def test_it_ends_well(finished: Finished) -> None:
    assert (finished.done.code, "error" in finished.done.err) == (0, False), finished.done


def test_each_file_is_indexed_once_and_the_broken_one_is_tried_twice(finished: Finished) -> None:
    runs, parsed, linked, summaries = finished.row("all")
    assert (parsed, linked) == (FILES + 2, FILES)
    assert summaries >= 1
    assert runs == parsed + linked + summaries


def test_the_summary_counts_what_was_found(finished: Finished) -> None:
    out = " ".join(finished.done.out.split())
    assert f"{FILES} modules with" in out
    assert "indexed by 2 processes" in out
    assert f"asked for {FILES} times" in out


def test_the_largest_module_leads_its_table(finished: Finished) -> None:
    lines = {file.module: len(file.path.read_bytes().splitlines()) for file in library_files(library(), FILES)}
    largest = max(lines, key=lines.__getitem__)
    [first] = re.findall(r"Largest modules.*\n.*\n.*module +lines.*\n.*\n *(\S+ +\S+)", finished.done.out)
    assert first.split() == [largest, f"{lines[largest]:,}"]


def test_a_permanent_failure_shows_its_reason(finished: Finished) -> None:
    out = " ".join(finished.done.out.split())
    assert "broken.py.txt was tried twice, then its job was kept as permanently failed: SyntaxError: " in out


def test_it_says_what_it_touches_on_a_database_of_the_user(finished: Finished) -> None:
    assert "touches only a schema of its own, 'pgtasks_demo'" in finished.done.err
    assert "installed one in schema 'graphile_worker', which stays" in finished.done.err


def test_without_a_terminal_it_writes_a_few_plain_lines(finished: Finished) -> None:
    written = finished.done.out + finished.done.err
    assert not set(written) & {"\x1b", "\r"}
    assert finished.done.err.count("\n") < 12
    assert f"{FILES + 1} of {FILES + 1} files" in finished.done.err


def test_it_leaves_nothing_behind(finished: Finished) -> None:
    assert_nothing_is_left(finished.database, finished.mark)


def test_what_it_suggests_works_as_it_stands(finished: Finished, tmp_path: Path) -> None:
    _, _, suggested = finished.done.out.partition("Try next:\n")
    commands = [line.strip() for line in suggested.splitlines() if not line.lstrip().startswith("#")]
    quick = [command for command in commands if " demo " not in command]
    assert len(quick) == len(commands) - 1 == 4  # the demo itself is what this test has run
    done = run("-e", "-c", "\n".join(quick), cwd=tmp_path, command=("/bin/sh",))
    assert (done.code, done.out) == (0, "hello Ada\n"), done


def test_it_ends_with_130_after_ctrl_c_and_leaves_nothing(running: Running, empty_database: str) -> None:
    running.signal_all(signal.SIGINT)
    code, err = running.end()
    assert code == 130
    assert err.endswith("Stopping the worker, then removing what the demo has made\n")
    assert_nothing_is_left(empty_database, running.mark)


def test_a_second_ctrl_c_does_no_harm(running: Running, empty_database: str) -> None:
    running.signal_all(signal.SIGINT)
    assert running.process.stderr is not None
    for line in running.process.stderr:
        if line.startswith("Stopping"):
            running.signal_all(signal.SIGINT)
    assert running.process.wait(60) == 130
    assert_nothing_is_left(empty_database, running.mark)


def test_killed_it_takes_its_worker_along_and_the_next_run_clears_up(
    running: Running, empty_database: str, tmp_path: Path
) -> None:
    running.process.kill()
    wait_until(lambda: processes_with(running.mark) == [], timeout=60, what="the end of the worker")
    done = run("demo", "--files", "1", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert done.code == 0, done
    assert_nothing_is_left(empty_database, running.mark)


def test_a_worker_that_dies_ends_it_with_the_end_of_the_log(running: Running, empty_database: str) -> None:
    pids = {int(line.split()[0]) for line in processes_with(running.mark) if "-m pgtasks worker" in line}
    [supervisor] = [pid for pid in pids if parent_of(pid) not in pids]
    os.kill(supervisor, signal.SIGKILL)
    code, err = running.end()
    assert code == 1, err
    assert re.search(r"^  \d{4}-\d\d-\d\dT.* host=|^  \d{4}-\d\d-\d\dT.* worker=", err, re.MULTILINE), err
    assert err.endswith(
        "pgtasks: error: the worker ended with exit code -9 before its work was done; the end of its log is above\n"
    )
    assert_nothing_is_left(empty_database, running.mark)


def test_processes_that_have_lost_their_supervisor_are_waited_for(database: str, tmp_path: Path) -> None:
    worker = Worker(1, {"PGTASKS_DATABASE_URL": database}, tmp_path / "log")
    wait_until(lambda: "worker_ready" in worker.log.read_text(), what="the worker")
    [pid] = map(int, re.findall(r"process_started .* pid=(\d+)", worker.log.read_text()))
    os.kill(pid, signal.SIGSTOP)  # it does not notice by itself
    os.kill(worker._process.pid, signal.SIGKILL)
    worker.stop()
    assert not alive(pid)


def test_a_second_demo_on_the_same_database_is_refused(running: Running, empty_database: str, tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert done.code == 1
    assert "another 'pgtasks demo' runs on this database" in done.err
    running.signal_all(signal.SIGINT)
    assert running.end()[0] == 130


def test_a_schema_that_is_not_its_own_is_left_alone(empty_database: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("create schema pgtasks_demo")
        done = run("demo", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
        assert done.code == 1
        assert "has a schema 'pgtasks_demo' that 'pgtasks demo' did not make; nothing was changed" in done.err
        schemas = conn.execute("select nspname from pg_namespace where nspname ~ 'pgtasks|graphile'").fetchall()
    assert schemas == [("pgtasks_demo",)]


def test_the_queues_schema_may_have_any_name(empty_database: str, tmp_path: Path) -> None:
    arguments = ["demo", "--files", "1", "--schema", ODD_SCHEMA]
    done = run(*arguments, cwd=tmp_path, env={"PGTASKS_DATABASE_URL": empty_database})
    assert done.code == 0, done
    assert "1 module with" in done.out


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="no embedded PostgreSQL there")
def test_with_nothing_configured_it_runs_on_the_embedded_server_and_stops_it(place: Path) -> None:
    done = run("demo", "--files", "3", cwd=place, env={"PGTASKS_EMBEDDED_DIR": str(place / "embedded")})
    assert done.code == 0, done
    assert "using the embedded PostgreSQL" in done.err
    assert find_postmaster(place / "embedded" / "postgres") is None
