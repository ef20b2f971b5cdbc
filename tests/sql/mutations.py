"""Functions of the schema with a guard taken out, to see that the tests of a race fail without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.sql import functions

if TYPE_CHECKING:
    import psycopg


def without(connection: psycopg.Connection[Any], schema: str, function: str, old: str, new: str = "") -> None:
    """Replace `old` by `new` wherever it stands in a function, in this database only.

    `old` is written as the function is installed, that is with the schema's name filled in and single braces. Can be
    called again for the same function with something else to replace.
    """
    installed = connection.execute(
        "select pg_get_functiondef(pg_proc.oid) from pg_proc join pg_namespace on pg_namespace.oid = pronamespace "
        "where nspname = %s and proname = %s",
        [schema, function],
    ).fetchall()
    assert len(installed) == 1, f"there is no function {function!r}, only {[each.name for each in functions(schema)]}"
    [[definition]] = installed
    assert old in definition, f"{function} does not contain {old!r}"
    connection.execute(definition.replace(old, new).encode())
