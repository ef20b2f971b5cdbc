from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgtasks.database import Database
from pgtasks.plugins import CheckResult, Migration
from pgtasks.queue.doctor import Finding, examine_plugins
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgtasks.plugins import Check

Connection = psycopg.Connection[Any]


class Looking:
    def __init__(self, conninfo: str, schema: str) -> None:
        self.database = Database(conninfo, max_connections=2)
        self.schema = schema
        self.steps = plugin_steps(schema, [("shop", [Migration(1, "create table {schema}._pgtasks_shop_visits ()")])])

    def at(self, *checks: Check) -> list[Finding]:
        return examine_plugins(self.database, self.schema, (), [("shop", checks)])


@pytest.fixture
def looking(database: str, schema: str) -> Iterator[Looking]:
    one = Looking(database, schema)
    yield one
    one.database.close()


def visits(connection: Connection) -> Sequence[CheckResult]:
    return [
        CheckResult("visits"),
        CheckResult("visits", "nobody comes", "open the door", "error"),
        CheckResult("tills", "a till is open"),
        CheckResult("hours", "it is Sunday", severity="note"),
    ]


def test_what_checks_find_is_named_after_their_plugin(looking: Looking) -> None:
    found = looking.at(visits)
    assert [(finding.name, finding.level) for finding in found] == [
        ("shop.visits", "problem"),
        ("shop.tills", "warning"),
        ("shop.hours", "note"),
    ]
    assert (found[0].what, found[0].cure) == ("nobody comes", "open the door")
    assert "'shop'" in found[1].cure


def test_a_check_that_raises_is_itself_a_finding_and_the_others_are_made(looking: Looking) -> None:
    def broken(connection: Connection) -> Sequence[CheckResult]:
        raise RuntimeError("no door")

    found = looking.at(broken, visits)
    assert [finding.name for finding in found] == ["shop.broken", "shop.visits", "shop.tills", "shop.hours"]
    assert (found[0].level, found[0].facts["reason"]) == ("unseen", "RuntimeError: no door")
    assert "'broken' of plugin 'shop' has failed: RuntimeError: no door" in found[0].what


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("create table public.visits ()", "read-only transaction"),
        ("select * from visits", 'relation "visits" does not exist'),
        ("select pg_sleep(60)", "statement timeout"),
        ("select pg_terminate_backend(pg_backend_pid())", "terminating connection"),
    ],
    ids=["writes", "fails", "waits", "dies"],
)
def test_a_check_can_do_no_harm(looking: Looking, statement: str, reason: str) -> None:
    def harmful(connection: Connection) -> Sequence[CheckResult]:
        connection.execute(statement.encode())
        return []

    failed, *others = looking.at(harmful, visits)
    assert (failed.name, failed.level) == ("shop.harmful", "unseen")
    assert reason in failed.what
    assert len(others) == 3


@pytest.mark.parametrize("answer", [None, ["visits"], [CheckResult("visits", "x", severity="bad")]], ids=repr)  # type: ignore[arg-type]
def test_an_answer_that_is_none_is_a_finding_too(looking: Looking, answer: Any) -> None:
    [failed] = looking.at(lambda _: answer)
    assert (failed.name, failed.level) == ("shop.<lambda>", "unseen")


def test_a_plugin_that_lacks_its_tables_is_told_of_and_not_checked(looking: Looking) -> None:
    [found] = examine_plugins(looking.database, looking.schema, looking.steps, [("shop", [visits])])
    assert (found.name, found.level, found.facts["pending"]) == ("plugin_steps_pending", "warning", [1])
    with psycopg.connect(looking.database.conninfo, autocommit=True) as connection:
        migrate_plugins(connection, looking.schema, looking.steps)
    found_then = examine_plugins(looking.database, looking.schema, looking.steps, [("shop", [visits])])
    assert [finding.name for finding in found_then] == ["shop.visits", "shop.tills", "shop.hours"]


def test_a_role_that_may_not_see_the_steps_is_told_so(looking: Looking) -> None:
    with psycopg.connect(looking.database.conninfo, autocommit=True) as connection:
        connection.execute("create role shop_looker login")
        database = Database(make_conninfo(looking.database.conninfo, user="shop_looker"), max_connections=1)
        try:
            [found] = examine_plugins(database, looking.schema, looking.steps, [])
        finally:
            database.close()
            connection.execute("drop role shop_looker")
    assert (found.name, found.level) == ("unseen", "unseen")
    assert "permission denied" in found.what
