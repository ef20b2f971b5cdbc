"""The tables of plugins: the steps that make them, each taken once, in order, beside those of pgtasks' own.

    steps = plugin_steps("graphile_worker", [("shop", [Migration(1, "create table {schema}._pgtasks_shop_visits ()")])])
    with psycopg.connect("dbname=app", autocommit=True) as conn:
        migrate(conn)
        migrate_plugins(conn, "graphile_worker", steps)

They are taken as the schema's are: in a transaction together with its record, under the lock of all who migrate. What
is left by a plugin that is gone stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgtasks.errors import PluginError, SchemaPendingError
from pgtasks.hookdata import Migration
from pgtasks.queue.installed import fetch, schema_option
from pgtasks.queue.stepping import check_connection, lock, plain_errors, quoted, run_script, transaction
from pgtasks.sql import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class PluginStep:
    """A step that is known to be well-formed, for one schema."""

    plugin: str
    number: int
    script: str
    """Its SQL, with the schema's name filled in."""

    def __str__(self) -> str:
        return f"{self.plugin} {self.number}"


@dataclass(frozen=True, slots=True)
class PluginStatus:
    """Which steps a schema lacks."""

    pending: tuple[PluginStep, ...]
    warnings: tuple[str, ...]
    """Of plugins that are older than their tables, a sentence each."""


def plugin_steps(schema: str, answers: Iterable[tuple[str, Sequence[Migration]]]) -> tuple[PluginStep, ...]:
    """Return the steps of all plugins, those of each in order.

    Args:
        schema: Name of the schema that they are for.
        answers: What each plugin has answered to `register_migrations`, by its name.

    Raises:
        PluginError: A number is missing or there twice, or a text is not what it has to be.
    """
    found = []
    for plugin, migrations in answers:
        for migration in migrations:
            _check(plugin, migration)
        in_order = sorted(migrations, key=lambda migration: migration.number)
        numbers = [migration.number for migration in in_order]
        if numbers != list(range(1, len(numbers) + 1)):
            raise PluginError(
                f"plugin {plugin!r} has migrations with the numbers {', '.join(map(str, numbers))}: they have to be "
                "counted from 1, without gaps and repeats"
            )
        found += [PluginStep(plugin, each.number, _render(plugin, each, schema)) for each in in_order]
    return tuple(found)


def migrate_plugins(conn: psycopg.Connection[Any], schema: str, steps: Sequence[PluginStep]) -> tuple[PluginStep, ...]:
    """Take the steps that the schema lacks, and return those that this call has taken.

    Safe to call from many processes at once and again after a crash. The connection must not be inside a transaction.

    Args:
        conn: A connection of the role that owns the schema, which is up to date.
        schema: The schema's name.
        steps: What `plugin_steps` has returned.

    Raises:
        PluginError: A step has failed. Nothing of it was done; those before it stay.
        PgtasksError: The role lacks a privilege.
    """
    taken = []
    while plugins_status(conn, schema, steps).pending:
        with plain_errors(conn, schema), transaction(conn):
            lock(conn, schema)
            # Decided on under the lock: another process may have been quicker.
            if pending := _status(conn, schema, steps).pending:
                _take(conn, schema, pending[0])
                taken.append(pending[0])
    return tuple(taken)


def plugins_status(conn: psycopg.Connection[Any], schema: str, steps: Sequence[PluginStep]) -> PluginStatus:
    """Return which steps the schema lacks, without changing anything; all of them where there is no schema yet."""
    if not steps:
        return PluginStatus((), ())
    check_connection(conn)
    with plain_errors(conn, schema), transaction(conn, "read only"):
        return _status(conn, schema, steps)


def expect_plugins_current(conn: psycopg.Connection[Any], schema: str, steps: Sequence[PluginStep]) -> PluginStatus:
    """Return `plugins_status`'s answer if the schema lacks no step.

    Raises:
        SchemaPendingError: It does.
    """
    status = plugins_status(conn, schema, steps)
    if status.pending:
        raise SchemaPendingError(
            f"Schema {schema!r} lacks steps of plugins; pending: {', '.join(map(str, status.pending))}. "
            f"Run `pgtasks migrate{schema_option(schema)}`."
        )
    return status


def plugin_steps_sql(schema: str, steps: Sequence[PluginStep]) -> list[str]:
    """Return what a script of a fresh install has to do for each step: its SQL, and its record."""
    return [
        f"-- {' '.join(str(step).splitlines())}\n\n{_ended(step.script)}\n\n{_record_sql(schema, step)}"
        for step in steps
    ]


def _check(plugin: str, migration: Any) -> None:
    if not isinstance(migration, Migration):
        raise PluginError(f"plugin {plugin!r} has {migration!r} among its migrations, which is no Migration")
    number, statements = (getattr(migration, name) for name in ("number", "statements"))  # of any type
    if type(number) is not int:
        raise PluginError(f"plugin {plugin!r} has a migration whose number is {number!r}: it has to be an int")
    if not isinstance(statements, str):
        kind = type(statements).__name__
        raise PluginError(f"plugin {plugin!r}, migration {number}: its SQL has to be a str, not {kind}")


def _render(plugin: str, migration: Migration, schema: str) -> str:
    try:
        script = sql.SQL(migration.statements).format(schema=sql.Identifier(schema)).as_string()
        script.encode()
    except (ValueError, LookupError) as error:
        raise PluginError(
            f"plugin {plugin!r}, migration {migration.number}: its SQL cannot be read ({_in_a_line(error)}): only "
            "{schema} may stand in braces, and a brace that is meant is written twice"
        ) from None
    if "\0" in script:
        raise PluginError(f"plugin {plugin!r}, migration {migration.number}: its SQL contains a NUL character")
    return script


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _status(conn: psycopg.Connection[Any], schema: str, steps: Sequence[PluginStep]) -> PluginStatus:
    taken = _taken(conn, schema)
    known: dict[str, int] = {step.plugin: step.number for step in steps}
    warnings = tuple(
        f"Plugin {plugin!r} has taken step {max(taken[plugin])} in schema {schema!r}; this release of it knows {last}."
        for plugin, last in known.items()
        if max(taken.get(plugin, ()), default=0) > last
    )
    return PluginStatus(tuple(step for step in steps if step.number not in taken.get(step.plugin, ())), warnings)


def _taken(conn: psycopg.Connection[Any], schema: str) -> Mapping[str, set[int]]:
    """Return the numbers of the steps that were taken, by plugin; none where the record is not there yet."""
    table = f"{quoted(schema)}._pgtasks_plugin_migrations"
    if not fetch(conn, "select 1 where pg_catalog.to_regclass($1::text) is not null", table):
        return {}
    taken: dict[str, set[int]] = {}
    for row in fetch(conn, render("select plugin, number from {gw}._pgtasks_plugin_migrations", schema)):
        taken.setdefault(row["plugin"], set()).add(row["number"])
    return taken


def _take(conn: psycopg.Connection[Any], schema: str, step: PluginStep) -> None:
    """Take a step and record it, in the caller's transaction."""
    # Executed by PL/pgSQL, which refuses `commit` and the like: with them a step could be half done.
    block = f"begin execute {_literal(step.script)}; end"
    try:
        run_script(conn, f"do {_literal(block)}")
        run_script(conn, _record_sql(schema, step))
    except psycopg.Error as error:
        if conn.broken:
            raise
        raise PluginError(
            f"plugin {step.plugin!r}, migration {step.number}: {_explain(error)}; nothing of it was done"
        ) from error


def _explain(error: psycopg.Error) -> str:
    text = error.diag.message_primary or _in_a_line(error)
    script, position = error.diag.internal_query, error.diag.internal_position
    if script is not None and position is not None:
        line = script[: int(position) - 1].count("\n") + 1
        text += f" (line {line})"
    return text


def _record_sql(schema: str, step: PluginStep) -> str:
    return (
        f"insert into {quoted(schema)}._pgtasks_plugin_migrations (plugin, number)\n"
        f"values ({_literal(step.plugin)}, {step.number});"
    )


def _literal(text: str) -> str:
    return sql.Literal(text).as_string()


def _ended(script: str) -> str:
    """Return a script that another statement may follow, also where it ends without a semicolon or with a comment."""
    script = script.strip()
    return script if script.endswith(";") and "--" not in script.rpartition("\n")[2] else f"{script}\n;"
