from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgtasks.errors import DatabaseUnavailableError, PgtasksError, SchemaPendingError, SchemaRefusedError
from pgtasks.queue import migrate as migrations
from pgtasks.queue.migrate import check, expect_current, fresh_install_sql, migrate
from pgtasks.sql import FUNCTIONS_REVISION, functions, steps
from tests.sql.crowd import at_once
from tests.sql.dump import PATH, dump, entries
from tests.sql.queue import Background, Queue, wait_until_blocked
from tests.sql.reference import install_reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

ROOT = Path(__file__).parents[2]
PUBLIC = tuple(function.name for function in functions("graphile_worker") if function.public)
ALL_STEPS = tuple(f"{step.id:04}_{step.name}" for step in steps())


@pytest.fixture
def conn(empty_database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to an empty database, in autocommit mode."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        yield connection


def is_as_fresh(conn: psycopg.Connection[Any], schema: str, *, adopted: bool = False) -> bool:
    """Whether a schema is as the dump has it; one that was adopted has the reference's indexes as they were."""
    expected = PATH.read_text(encoding="utf-8")
    if adopted:
        expected = re.sub(r" WITH \([^()]*\)", "", expected)
    return dump(conn, schema) == expected and not migrate(conn, schema).functions


def state(conn: psycopg.Connection[Any], schema: str) -> dict[str, list[str]]:
    """Everything in the schema, functions with their bodies."""
    return entries(conn, schema, bodies=True)


def function_rows(conn: psycopg.Connection[Any], schema: str) -> list[tuple[Any, ...]]:
    """The public functions as they are stored; any change to one, even to the same, gives it a new row."""
    return conn.execute(
        "select proname, oid, xmin::text, prosrc from pg_proc where pronamespace = %s::regnamespace "
        "and proname = any(%s) order by proname",
        (psycopg.sql.Identifier(schema).as_string(), list(PUBLIC)),
    ).fetchall()


# Installing


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_an_empty_database_gets_the_whole_schema_and_a_second_time_nothing(
    conn: psycopg.Connection[Any], schema: str
) -> None:
    report = migrate(conn, schema)
    assert (report.schema, report.steps) == (schema, ALL_STEPS)
    assert set(report.functions) == {function.name for function in functions(schema)}
    assert (report.status.kind, report.status.current, report.status.warnings) == ("own", True, ())
    assert (report.status.reference_revision, report.status.functions_revision) == (20, FUNCTIONS_REVISION)
    before = state(conn, schema)
    again = migrate(conn, schema, upgrade_functions=True)
    assert (again.steps, again.functions, again.status) == ((), (), report.status)
    assert (check(conn, schema), state(conn, schema)) == (report.status, before)


def test_a_schema_that_somebody_made_beforehand_is_filled(conn: psycopg.Connection[Any], schema: str) -> None:
    conn.execute("create schema graphile_worker")
    assert check(conn, schema).kind == "empty"
    migrate(conn, schema)
    assert is_as_fresh(conn, schema)


def test_each_step_is_recorded_and_notified_of(conn: psycopg.Connection[Any], schema: str) -> None:
    queue = Queue(conn, schema)
    conn.execute('listen "worker:migrate"')
    heard: list[str] = []
    conn.add_notify_handler(lambda note: heard.append(note.payload))
    migrate(conn, schema)
    conn.execute("select 1")
    assert heard == [f'{{"migrationNumber": {step.id}, "breaking": false}}' for step in steps()]
    recorded = queue.rows("select id, name, breaking, adopted from {gw}._pgtasks_migrations order by id")
    assert recorded == [
        {"id": step.id, "name": step.name, "breaking": step.breaking, "adopted": False} for step in steps()
    ]


def test_a_check_says_what_is_missing_and_changes_nothing(conn: psycopg.Connection[Any], schema: str) -> None:
    status = check(conn, schema)
    assert (status.kind, status.pending_steps, status.current) == ("missing", ALL_STEPS, False)
    with pytest.raises(SchemaPendingError, match="'graphile_worker' does not exist"):
        expect_current(conn, schema)
    assert conn.execute("select to_regnamespace('graphile_worker')").fetchone() == (None,)


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_the_script_of_a_fresh_install_leaves_the_same(
    conn: psycopg.Connection[Any], server: Server, schema: str
) -> None:
    conn.execute(fresh_install_sql(schema).encode())
    assert check(conn, schema).current
    with psycopg.connect(server.conninfo(server.create_database()), autocommit=True) as migrated:
        migrate(migrated, schema)
        assert state(conn, schema) == state(migrated, schema)
        queues = Queue(conn, schema), Queue(migrated, schema)
        for query in (
            "select id, breaking from {gw}.migrations order by id",
            "select id, name, breaking, adopted from {gw}._pgtasks_migrations order by id",
            "select only_row, revision, public from {gw}._pgtasks_functions",
        ):
            assert queues[0].rows(query) == queues[1].rows(query)
        name = migrated.info.dbname
    server.drop_database(name)


def test_the_script_fails_as_a_whole_where_a_queue_is_there(database: str, schema: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        before = state(conn, schema)
        with pytest.raises(psycopg.errors.DuplicateTable):
            conn.execute(fresh_install_sql(schema).encode())
        conn.rollback()
        assert state(conn, schema) == before


def test_a_connection_that_gives_bytes_for_texts_is_refused(empty_database: str) -> None:
    """As it does where the server's locale is C, unless it is told otherwise."""
    connecting = psycopg.connect(empty_database, client_encoding="SQL_ASCII", autocommit=True)
    with connecting as conn, pytest.raises(PgtasksError, match="client_encoding=utf8"):
        migrate(conn)


def test_the_connection_must_not_be_inside_a_transaction(conn: psycopg.Connection[Any]) -> None:
    with conn.transaction(), pytest.raises(PgtasksError, match="not inside one"):
        migrate(conn)


# Many at once, and crashes

MIGRATE_AT_ONCE = """
from pgtasks.queue.migrate import migrate
def take(conn):
    return len(migrate(conn).steps)
"""


def test_twenty_processes_that_start_at_once_leave_one_correct_schema(
    conn: psycopg.Connection[Any], empty_database: str, schema: str
) -> None:
    assert sum(at_once(20, MIGRATE_AT_ONCE, empty_database)) == len(steps())
    assert is_as_fresh(conn, schema)


class CrashError(Exception):
    pass


class Crashing(psycopg.Connection[Any]):
    """Breaks down instead of beginning one more transaction."""

    transactions_left = 0
    kill = False

    def transaction(self, *args: Any, **options: Any) -> Any:
        if self.transactions_left == 0:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise CrashError
        self.transactions_left -= 1
        return super().transaction(*args, **options)


@pytest.mark.long
def test_a_migration_that_crashed_between_any_two_transactions_goes_on(server: Server, schema: str) -> None:
    crashes = 0
    done = False
    while not done:
        name = server.create_database()
        with Crashing.connect(server.conninfo(name), autocommit=True) as crashing:
            crashing.transactions_left = crashes
            try:
                migrate(crashing, schema)
                done = True
            except CrashError:
                crashes += 1
        with psycopg.connect(server.conninfo(name), autocommit=True) as conn:
            migrate(conn, schema)
            assert is_as_fresh(conn, schema), f"after {crashes} transactions"
        server.drop_database(name)
    assert crashes > 2 * len(steps())


KILL_ITSELF = """
import sys
from pgtasks.queue.migrate import migrate
from tests.sql.test_migrate import Crashing
with Crashing.connect(sys.argv[1], autocommit=True) as conn:
    conn.kill = True
    conn.transactions_left = 5
    migrate(conn)
"""


def test_a_migration_that_was_killed_goes_on(conn: psycopg.Connection[Any], empty_database: str, schema: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILL_ITSELF, empty_database], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    status = check(conn, schema)
    assert 0 < len(status.pending_steps) < len(ALL_STEPS)
    with pytest.raises(SchemaPendingError, match="is not up to date; pending: "):
        expect_current(conn, schema)
    assert migrate(conn, schema).steps == status.pending_steps
    assert is_as_fresh(conn, schema)


def test_a_migration_whose_connection_is_lost_says_so_and_goes_on(
    conn: psycopg.Connection[Any], empty_database: str, schema: str
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as lost, psycopg.connect(empty_database) as holder:
        conn.execute("create schema graphile_worker")
        watcher, migrating = Queue(conn, schema), Queue(lost, schema)
        holder.execute("select pg_advisory_xact_lock(hashtextextended('pgtasks migrate graphile_worker', 0))")
        call = Background(lambda: migrate(lost, schema))
        wait_until_blocked(watcher, migrating)
        conn.execute("select pg_terminate_backend(%s)", (migrating.pid,))
        with pytest.raises(DatabaseUnavailableError, match="Run it again; it goes on where it stopped"):
            call.result()
    migrate(conn, schema)
    assert is_as_fresh(conn, schema)


# A schema of the reference


@pytest.mark.every_postgres
@pytest.mark.every_schema
@pytest.mark.parametrize("revision", [19, 20])
def test_a_schema_of_the_reference_is_adopted_and_its_own_parts_stay_untouched(
    conn: psycopg.Connection[Any], schema: str, revision: int
) -> None:
    install_reference(conn, schema, revision=revision)
    before, functions_before = state(conn, schema), function_rows(conn, schema)
    assert (check(conn, schema).kind, check(conn, schema).reference_revision) == ("adopted", revision)
    report = migrate(conn, schema)
    assert (report.steps, report.status.kind, report.status.current) == (ALL_STEPS, "adopted", True)
    assert all(name.startswith(("_pgtasks_", "pgtasks_")) for name in report.functions)
    assert (report.status.public_functions_ours, report.status.replaced_functions) == (False, ())
    assert function_rows(conn, schema) == functions_before
    after = state(conn, schema)
    for name, lines in before.items():
        kept = [
            line for line in after[name] if not line.startswith(("CREATE INDEX _pgtasks_", "CREATE TRIGGER _pgtasks_"))
        ]
        assert kept == lines, name
    assert all("pgtasks_" in name for name in after.keys() - before.keys())
    assert Queue(conn, schema).value("select count(*) from {gw}.migrations") == revision
    again = migrate(conn, schema)
    assert (again.steps, again.functions) == ((), ())


FIRST_TABLE = """
    create schema graphile_worker;
    create table graphile_worker.migrations (id int primary key, ts timestamptz default now() not null)
"""


def test_an_installation_of_the_reference_that_is_under_way_is_waited_for(
    conn: psycopg.Connection[Any], empty_database: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, wait = threading.Event(), migrations._Patience.wait

    def tell_and_wait(patience: Any, error: Exception) -> None:
        waiting.set()
        wait(patience, error)

    monkeypatch.setattr(migrations._Patience, "wait", tell_and_wait)
    conn.execute(FIRST_TABLE)
    with psycopg.connect(empty_database, autocommit=True) as ours:
        migrating = Background(lambda: migrate(ours, schema))
        assert waiting.wait(60)
        with conn.transaction():
            conn.execute("drop schema graphile_worker cascade")
            install_reference(conn, schema, revision=19)
        assert migrating.result().status.kind == "adopted"
    assert check(conn, schema).current


def test_an_installation_of_the_reference_that_commits_during_ours_is_adopted(
    conn: psycopg.Connection[Any], empty_database: str, schema: str
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as ours:
        with conn.transaction():
            install_reference(conn, schema, revision=19)
            migrating = Background(lambda: migrate(ours, schema))
            wait_until_blocked(Queue(conn, schema), Queue(ours, schema))
        assert migrating.result().status.kind == "adopted"
    assert check(conn, schema).current


@pytest.mark.parametrize(
    ("state_of_it", "message"),
    [
        ("select", "its installation has not ended; nothing was changed"),
        (
            "create table graphile_worker.jobs (); insert into graphile_worker.migrations values (1)",
            "is Graphile Worker's at revision 1, pgtasks needs 19 or later; nothing was changed",
        ),
    ],
    ids=["its first table", "its first migration"],
)
def test_an_installation_of_the_reference_that_gets_no_further_is_refused_in_the_end(
    conn: psycopg.Connection[Any], schema: str, monkeypatch: pytest.MonkeyPatch, state_of_it: str, message: str
) -> None:
    monkeypatch.setattr(migrations, "SETTLING_SECONDS", 0.2)
    conn.execute(FIRST_TABLE)
    conn.execute(state_of_it.encode())
    with pytest.raises(SchemaRefusedError, match=message):
        migrate(conn, schema)


def test_upgrade_functions_puts_ours_in_the_place_of_the_references(conn: psycopg.Connection[Any], schema: str) -> None:
    install_reference(conn, schema, revision=19)
    migrate(conn, schema)
    report = migrate(conn, schema, upgrade_functions=True)
    assert set(report.functions) == set(PUBLIC)
    assert report.status.public_functions_ours
    assert is_as_fresh(conn, schema, adopted=True)
    assert Queue(conn, schema).add_job("send")["attempts"] == 0


def test_once_put_in_place_functions_that_the_reference_replaced_are_told(
    conn: psycopg.Connection[Any], schema: str
) -> None:
    install_reference(conn, schema, revision=19)
    migrate(conn, schema, upgrade_functions=True)
    for function in functions(schema):
        if function.name in ("add_job", "add_jobs"):
            conn.execute(function.definition.replace(function.body, "\nbegin\n  raise 'theirs';\nend;\n").encode())
    assert check(conn, schema).replaced_functions == ("add_job", "add_jobs")
    assert migrate(conn, schema).functions == ()  # somebody wanted them so
    assert migrate(conn, schema, upgrade_functions=True).functions == ("add_job", "add_jobs")
    assert check(conn, schema).replaced_functions == ()


def test_a_later_migration_that_is_not_breaking_is_warned_of(conn: psycopg.Connection[Any], schema: str) -> None:
    install_reference(conn, schema, revision=21)
    report = migrate(conn, schema)
    assert (report.status.reference_revision, report.status.current) == (21, True)
    [warning] = report.status.warnings
    assert "revision 21; this release knows 20" in warning


# Refusals


@pytest.mark.parametrize(
    ("revision", "breaking", "message"),
    [
        (18, False, "at revision 18, pgtasks needs 19 or later; nothing was changed.*npx graphile-worker"),
        (21, True, "breaking migration 21, which this release does not know; nothing was changed"),
    ],
)
@pytest.mark.parametrize("upgrade_functions", [False, True])
def test_a_schema_that_cannot_be_adopted_is_left_as_it_is(
    conn: psycopg.Connection[Any], schema: str, revision: int, breaking: bool, message: str, upgrade_functions: bool
) -> None:
    install_reference(conn, schema, revision=revision, breaking=breaking)
    before, functions_before = state(conn, schema), function_rows(conn, schema)
    with pytest.raises(SchemaRefusedError, match=message):
        migrate(conn, schema, upgrade_functions=upgrade_functions)
    with pytest.raises(SchemaRefusedError, match=message):
        check(conn, schema)
    assert (state(conn, schema), function_rows(conn, schema)) == (before, functions_before)


@pytest.mark.parametrize(
    "content",
    [
        "create table graphile_worker.customers (id integer)",
        "create table graphile_worker.migrations (id integer, breaking boolean)",
        "create function graphile_worker.add_job() returns void language sql as 'select 1'",
        "create type graphile_worker.mood as enum ('good')",
    ],
)
def test_a_schema_that_is_no_queue_is_left_as_it_is(conn: psycopg.Connection[Any], schema: str, content: str) -> None:
    conn.execute("create schema graphile_worker")
    conn.execute(content.encode())
    before = state(conn, schema)
    with pytest.raises(SchemaRefusedError, match="exists and is not a queue; nothing was changed"):
        migrate(conn, schema)
    assert state(conn, schema) == before


def test_a_breaking_step_of_a_newer_release_is_refused(database: str, schema: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("insert into graphile_worker._pgtasks_migrations (id, name, breaking) values (999, 'new', true)")
        with pytest.raises(SchemaRefusedError, match="breaking step 0999_new of a newer release"):
            migrate(conn, schema)


def test_a_step_of_a_newer_release_that_is_not_breaking_is_warned_of(database: str, schema: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("insert into graphile_worker._pgtasks_migrations (id, name) values (999, 'new')")
        assert migrate(conn, schema).status.warnings == (
            "Schema 'graphile_worker' has the step 0999_new of a newer release.",
        )


@pytest.mark.parametrize("there", [False, True])
def test_a_role_without_the_privilege_is_told_so_in_one_line(
    conn: psycopg.Connection[Any], empty_database: str, role: str, there: bool
) -> None:
    if there:
        conn.execute("create schema graphile_worker")
    with psycopg.connect(make_conninfo(empty_database, options=f"-c role={role}"), autocommit=True) as poor:
        with pytest.raises(PgtasksError, match="lacks a privilege on schema 'graphile_worker'") as raised:
            migrate(poor)
        assert "\n" not in str(raised.value)


def test_a_role_from_whom_the_rows_are_hidden_is_told_so(
    connection: psycopg.Connection[Any], database: str, role: str
) -> None:
    connection.execute(f"grant usage on schema graphile_worker to {role}".encode())
    connection.execute(f"grant select on all tables in schema graphile_worker to {role}".encode())
    with psycopg.connect(make_conninfo(database, options=f"-c role={role}"), autocommit=True) as poor:
        with pytest.raises(PgtasksError, match="Row level security hides the queue") as raised:
            check(poor)
        assert "\n" not in str(raised.value)


# Functions


def test_a_public_function_that_somebody_replaced_is_told(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute(
        "create or replace function graphile_worker.force_unlock_workers(worker_ids text[]) returns void "
        "language sql as 'select'"
    )
    status = check(connection, schema)
    assert (status.replaced_functions, status.pending_functions, status.current) == (
        ("force_unlock_workers",),
        (),
        True,
    )
    assert migrate(connection, schema, upgrade_functions=True).functions == ("force_unlock_workers",)
    assert is_as_fresh(connection, schema)


FLAGS_OBJECT = "graphile_worker._pgtasks_flags_object"
EMPTY = "returns jsonb language sql as 'select null::jsonb'"


@pytest.mark.one_postgres_each
@pytest.mark.every_postgres
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([f"drop function {FLAGS_OBJECT}"], id="dropped"),
        pytest.param(
            [f"create or replace function {FLAGS_OBJECT}(flags text[]) {EMPTY}"],
            id="another body",
        ),
        pytest.param(
            [
                f"drop function {FLAGS_OBJECT}",
                f"create function {FLAGS_OBJECT}(flags text[]) returns json language sql as 'select null::json'",
            ],
            id="another result type",
        ),
        pytest.param(
            [
                f"drop function {FLAGS_OBJECT}",
                f"create function {FLAGS_OBJECT}(names text[]) {EMPTY}",
            ],
            id="another parameter name",
        ),
        pytest.param(
            [
                f"drop function {FLAGS_OBJECT}",
                f"create function {FLAGS_OBJECT}(flags text[], more text = '') {EMPTY}",
            ],
            id="another parameter",
        ),
        pytest.param(
            [f"create function {FLAGS_OBJECT}(flags json) {EMPTY}"],
            id="an overload beside",
        ),
        pytest.param(
            [
                f"create function {FLAGS_OBJECT}(flags json) {EMPTY}",
                f"create function {FLAGS_OBJECT}(flags jsonb) {EMPTY}",
                f"drop function {FLAGS_OBJECT}(text[])",
            ],
            id="overloads instead",
        ),
    ],
)
def test_a_private_function_that_was_changed_is_put_back(
    connection: psycopg.Connection[Any], schema: str, changes: list[str]
) -> None:
    before = state(connection, schema)
    for change in changes:
        connection.execute(change.encode())
    assert check(connection, schema).pending_functions == ("_pgtasks_flags_object",)
    assert migrate(connection, schema).functions == ("_pgtasks_flags_object",)
    assert state(connection, schema) == before
    assert Queue(connection, schema).add_job(flags=["slow"])["flags"] == {"slow": True}


def test_a_function_that_only_needs_another_body_keeps_its_grants(
    connection: psycopg.Connection[Any], schema: str, role: str
) -> None:
    connection.execute(f"revoke execute on function {FLAGS_OBJECT} from public".encode())
    connection.execute(f"create or replace function {FLAGS_OBJECT}(flags text[]) {EMPTY}".encode())
    migrate(connection, schema)
    allowed = connection.execute(
        f"select has_function_privilege('{role}', '{FLAGS_OBJECT}(text[])', 'execute')".encode()
    )
    assert allowed.fetchone() == (False,)


def test_the_functions_of_an_older_release_are_all_put_in_place(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    before = state(connection, schema)
    connection.execute("update graphile_worker._pgtasks_functions set revision = revision - 1")
    # A release may change no more than a default, which the body does not show.
    [ours] = [function for function in functions(schema) if function.name == "_pgtasks_release_worker"]
    connection.execute(
        ours.definition.replace("keep_ids bigint[] = '{}'", "keep_ids bigint[] = '{1}'").encode(),
    )
    assert not check(connection, schema).current
    assert set(migrate(connection, schema).functions) == {function.name for function in functions(schema)}
    assert state(connection, schema) == before
    assert check(connection, schema).current


def test_workers_go_on_between_a_step_and_the_functions(
    connection: psycopg.Connection[Any], schema: str, queue: Queue
) -> None:
    """Each is a transaction of its own, and a migration that is killed leaves what is between them."""
    [ours] = [function for function in functions(schema) if function.name == "_pgtasks_finish_jobs"]
    older = ours.definition.replace(",\n  run_ats timestamptz[] = null", "").replace(
        "_pgtasks_finish_jobs.run_ats", "null::timestamptz[]"
    )
    connection.execute(psycopg.sql.SQL("drop function {}._pgtasks_finish_jobs").format(psycopg.sql.Identifier(schema)))
    connection.execute(older.encode())
    queue.run("drop table {gw}._pgtasks_waits, {gw}._pgtasks_results")
    queue.run("delete from {gw}._pgtasks_migrations where name = 'results'")
    job_id = queue.add()
    [job] = queue.claim()

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "_put_functions", die)
        with pytest.raises(KeyboardInterrupt):
            migrate(connection, schema)
    assert queue.finish({**job, "outcome": "retry"}) == {job_id: "retrying"}
    migrate(connection, schema)
    found = queue.values("select oidvectortypes(proargtypes) from pg_proc where proname = '_pgtasks_finish_jobs'")
    assert [types.endswith("boolean, timestamp with time zone[]") for types in found] == [True]


def test_functions_of_a_newer_release_are_left_alone(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute("update graphile_worker._pgtasks_functions set revision = revision + 1")
    connection.execute(f"drop function {FLAGS_OBJECT}".encode())
    report = migrate(connection, schema, upgrade_functions=True)
    assert (report.functions, report.status.current) == ((), True)
    assert report.status.warnings == (
        f"The functions are those of a newer release of pgtasks (revision {FUNCTIONS_REVISION + 1}).",
    )
