from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks.errors import PgtasksError, PluginError, SchemaPendingError
from pgtasks.plugins import Migration
from pgtasks.queue.migrate import check, fresh_install_sql, migrate
from pgtasks.queue.plugin_steps import (
    PluginStep,
    expect_plugins_current,
    migrate_plugins,
    plugin_steps,
    plugin_steps_sql,
    plugins_status,
)
from tests.sql.crowd import at_once
from tests.sql.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.queue.plugin_steps import PluginStatus

VISITS = (
    Migration(1, "create table {schema}._pgtasks_shop_visits (id bigint)"),
    Migration(2, "alter table {schema}._pgtasks_shop_visits add tags jsonb default '{{}}'; -- for later"),
)


@pytest.fixture
def queue(connection: psycopg.Connection[Any], schema: str) -> Queue:
    return Queue(connection, schema)


def steps(queue: Queue, *migrations: Migration, plugin: str = "shop") -> tuple[PluginStep, ...]:
    return plugin_steps(queue.schema, [(plugin, migrations)])


def take(queue: Queue, *migrations: Migration, plugin: str = "shop") -> list[str]:
    return [str(step) for step in migrate_plugins(queue.conn, queue.schema, steps(queue, *migrations, plugin=plugin))]


def status(queue: Queue, *migrations: Migration) -> PluginStatus:
    return plugins_status(queue.conn, queue.schema, steps(queue, *migrations))


def tables(queue: Queue, plugin: str = "shop") -> list[str]:
    found = queue.values(
        "select relname from pg_class where relkind = 'r' and relnamespace = %s::regnamespace "
        "and starts_with(relname, %s) order by 1",
        queue.name,
        f"_pgtasks_{plugin}_",
    )
    return [str(name) for name in found]


def recorded(queue: Queue) -> list[tuple[str, int]]:
    rows = queue.rows("select plugin, number from {gw}._pgtasks_plugin_migrations order by plugin, number")
    return [(row["plugin"], row["number"]) for row in rows]


# Taking


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_each_step_is_taken_once_in_order_and_recorded(queue: Queue) -> None:
    assert take(queue, *reversed(VISITS)) == ["shop 1", "shop 2"]
    assert queue.rows("insert into {gw}._pgtasks_shop_visits values (1) returning tags::text") == [{"tags": "{}"}]
    assert (take(queue, *VISITS), recorded(queue)) == ([], [("shop", 1), ("shop", 2)])
    third = Migration(3, "drop table {schema}._pgtasks_shop_visits")
    assert take(queue, *VISITS, third) == ["shop 3"]
    assert tables(queue) == []
    assert check(queue.conn, queue.schema).current, "the schema of pgtasks is what it was"


def test_a_step_may_hold_any_sql_that_a_transaction_may(queue: Queue) -> None:
    function = """
        -- a function, a backslash \\ and 'quotes'
        create function {schema}._pgtasks_shop_odd() returns text language plpgsql as $f$
        begin
          return E'\\t' || $q${{}} %s$q$;
        end
        $f$;
        set local search_path to {schema};
        select _pgtasks_shop_odd();
        do $$ begin perform 1; end $$;
        -- the end"""
    assert take(queue, Migration(1, function), Migration(2, ""), Migration(3, " -- nothing")) == [
        "shop 1",
        "shop 2",
        "shop 3",
    ]
    assert queue.value("select {gw}._pgtasks_shop_odd()") == "\t{} %s"


def test_plugins_do_not_know_of_each_other(queue: Queue) -> None:
    both = plugin_steps(queue.schema, [('it\'s "odd"', [Migration(1, "select 1")]), ("shop", VISITS[:1])])
    assert len(migrate_plugins(queue.conn, queue.schema, both)) == 2
    assert recorded(queue) == [('it\'s "odd"', 1), ("shop", 1)]


def test_the_tables_of_a_plugin_that_is_gone_stay(queue: Queue) -> None:
    take(queue, *VISITS)
    assert take(queue, Migration(1, "select 1"), plugin="other") == ["other 1"]
    migrate(queue.conn, queue.schema)
    assert (tables(queue), len(recorded(queue))) == (["_pgtasks_shop_visits"], 3)


def test_a_plugin_that_is_older_than_its_tables_is_told_of_and_changes_nothing(queue: Queue) -> None:
    take(queue, *VISITS)
    found = status(queue, *VISITS[:1])
    assert found.pending == ()
    assert found.warnings == (
        "Plugin 'shop' has taken step 2 in schema 'graphile_worker'; this release of it knows 1.",
    )


def test_a_check_lists_what_is_pending_and_changes_nothing(queue: Queue) -> None:
    take(queue, *VISITS[:1])
    assert [str(step) for step in status(queue, *VISITS).pending] == ["shop 2"]
    with pytest.raises(SchemaPendingError, match=r"'graphile_worker' lacks steps of plugins; pending: shop 2\. Run"):
        expect_plugins_current(queue.conn, queue.schema, steps(queue, *VISITS))
    assert recorded(queue) == [("shop", 1)]
    take(queue, *VISITS)
    assert expect_plugins_current(queue.conn, queue.schema, steps(queue, *VISITS)).pending == ()


def test_everything_is_pending_where_there_is_no_schema(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        assert (
            len(plugins_status(conn, "graphile_worker", plugin_steps("graphile_worker", [("shop", VISITS)])).pending)
            == 2
        )


@pytest.mark.every_schema
def test_the_script_of_a_fresh_install_has_the_steps_of_plugins(empty_database: str, schema: str, queue: Queue) -> None:
    unended = Migration(3, "select 1 -- no end;")
    script = fresh_install_sql(schema, beside=plugin_steps_sql(schema, steps(queue, *VISITS, unended)))
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(script.encode())
        fresh = Queue(conn, schema)
        assert status(fresh, *VISITS, unended).pending == ()
        assert (tables(fresh), len(recorded(fresh))) == (["_pgtasks_shop_visits"], 3)


# Many at once, and crashes

TAKE_AT_ONCE = """
from pgtasks.plugins import Migration
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
steps = plugin_steps("graphile_worker", [
    ("shop", [Migration(n, f"create table {{schema}}._pgtasks_shop_{n} ()") for n in range(1, 6)])
])
def take(conn):
    return len(migrate_plugins(conn, "graphile_worker", steps))
"""


def test_of_many_processes_that_start_at_once_each_step_is_taken_by_one(queue: Queue, database: str) -> None:
    assert sum(at_once(8, TAKE_AT_ONCE, database)) == 5
    assert [number for _, number in recorded(queue)] == [1, 2, 3, 4, 5]


def test_what_was_interrupted_between_two_steps_goes_on(queue: Queue) -> None:
    interrupted = Migration(
        2, "create table {schema}._pgtasks_shop_2 (); select pg_terminate_backend(pg_backend_pid())"
    )
    with queue.another() as dying, pytest.raises(PgtasksError, match=r"connection was lost.*goes on where it stopped"):
        take(dying, VISITS[0], interrupted)
    assert (tables(queue), recorded(queue)) == (["_pgtasks_shop_visits"], [("shop", 1)])
    assert take(queue, *VISITS) == ["shop 2"]


# Faults


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 1), (0, 1), (1, 2, 2, 3)], ids=str)
def test_gaps_and_repeats_in_the_numbers_are_refused(queue: Queue, numbers: Sequence[int]) -> None:
    with pytest.raises(PluginError, match=r"plugin 'shop' has migrations with the numbers .*without gaps and repeats"):
        steps(queue, *(Migration(number, "select 1") for number in numbers))


@pytest.mark.parametrize(
    "statements",
    [
        "select '{}'",
        "select {gw}",
        "select {",
        "select }",
        "select {schema!r}",
        "select {schema:>9}",
        "select {schema.x}",
        "select '\0'",
        "select '\ud800'",
    ],
    ids=repr,
)
def test_sql_that_cannot_be_rendered_is_refused_with_its_number(queue: Queue, statements: str) -> None:
    with pytest.raises(PluginError, match=r"^plugin 'shop', migration 2: its SQL (cannot be read|contains a NUL)"):
        steps(queue, Migration(1, "select 1"), Migration(2, statements))


WRONG: list[Any] = ["create table x ()", Migration("1", ""), Migration(1, b"")]  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", WRONG, ids=repr)
def test_what_is_no_migration_is_refused(queue: Queue, answer: Any) -> None:
    with pytest.raises(PluginError, match="plugin 'shop'"):
        steps(queue, answer)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ("create table {schema}._pgtasks_shop_2 ();\n selct 1", 'syntax error at or near "selct" (line 2)'),
        ("create table {schema}._pgtasks_shop_2 (); select 1 / 0", "division by zero"),
        ("create table {schema}._pgtasks_shop_2 (); commit", "EXECUTE of transaction commands is not implemented"),
        ("create table {schema}._pgtasks_shop_2 (); rollback; select 1", "EXECUTE of transaction commands is not imp"),
        ("create table {schema}._pgtasks_shop_2 (); set role nobody_at_all", 'role "nobody_at_all" does not exist'),
    ],
    ids=["syntax", "value", "commit", "rollback", "role"],
)
def test_a_step_that_fails_is_named_and_nothing_of_it_is_done(queue: Queue, statements: str, reason: str) -> None:
    with pytest.raises(PluginError) as caught:
        take(queue, VISITS[0], Migration(2, statements), Migration(3, "select 1"))
    assert str(caught.value).startswith(f"plugin 'shop', migration 2: {reason}")
    assert str(caught.value).endswith("; nothing of it was done")
    assert (tables(queue), recorded(queue)) == (["_pgtasks_shop_visits"], [("shop", 1)])


def test_the_connection_must_not_be_inside_a_transaction(queue: Queue) -> None:
    with queue.conn.transaction(), pytest.raises(PgtasksError, match="not inside one"):
        take(queue, *VISITS)
