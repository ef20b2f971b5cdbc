"""Install, adopt and check the schema.

    with psycopg.connect("dbname=app", autocommit=True) as conn:
        report = migrate(conn)

The schema is made in steps (`pgtasks/sql/steps`), each in a transaction of its own together with its record, so that
what was interrupted half-way goes on where it stopped. An advisory lock, held no longer than one such transaction, lets
any number of processes start at once, also behind PgBouncer. Functions are no steps: they are compared with what this
release expects and re-created, see `pgtasks.sql.FUNCTIONS_REVISION`.

A schema that Graphile Worker installed is adopted: its tables and functions stay as they are, ours are added beside.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.errors import SchemaPendingError
from pgtasks.queue.installed import (
    KNOWN_REFERENCE_REVISION,
    OLDEST_REFERENCE_REVISION,
    SETTLING_SECONDS,
    Found,
    MigrationStatus,
    UnsettledSchemaError,
    fetch,
    inspect,
    schema_option,
    step_label,
)
from pgtasks.queue.stepping import (
    OLDEST_SERVER,
    check_connection,
    lock,
    plain_errors,
    quoted,
    refuse_old_server,
    run_script,
    transaction,
)
from pgtasks.sql import (
    DEFAULT_SCHEMA,
    FUNCTIONS_REVISION,
    Function,
    Step,
    check_schema_name,
    functions,
    render_file,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "KNOWN_REFERENCE_REVISION",
    "OLDEST_REFERENCE_REVISION",
    "OLDEST_SERVER",
    "MigrationReport",
    "MigrationStatus",
    "check",
    "expect_current",
    "fresh_install_sql",
    "migrate",
    "refuse_old_server",
]

_CLASHES = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
)
"""What a step fails with if somebody else has just made the same thing."""
_SETTLING_PAUSE = 0.1


@dataclass(frozen=True)
class MigrationReport:
    """What `migrate` did."""

    schema: str
    """The schema's name."""

    steps: tuple[str, ...]
    """Names of the steps that were taken now, by this call."""

    functions: tuple[str, ...]
    """Names of the functions that were created or replaced now, by this call."""

    status: MigrationStatus
    """What was found afterwards."""


def migrate(
    conn: psycopg.Connection[Any], schema: str = DEFAULT_SCHEMA, *, upgrade_functions: bool = False
) -> MigrationReport:
    """Bring the schema up to what this release needs: install it, adopt it, or take the steps it lacks.

    Safe to call from many processes at once and again after a crash. The connection must not be inside a transaction;
    it comes back as it was.

    Args:
        conn: A connection of a role that owns the schema or may create it.
        schema: The schema's name.
        upgrade_functions: Put our seven public functions in the place of those that are there: those of the reference
            in a schema that was adopted, or those that someone has replaced.

    Raises:
        SchemaRefusedError: If the schema is one that must not be touched; nothing was changed.
        PgtasksError: If the server is too old or the role lacks a privilege.
    """
    check_schema_name(schema)
    check_connection(conn)
    steps_taken: list[str] = []
    functions_put: list[str] = []
    patience = _Patience()
    with plain_errors(conn, schema):
        while True:
            try:
                found = _look(conn, schema, upgrade_functions=upgrade_functions)
                if found.done:
                    return MigrationReport(schema, tuple(steps_taken), tuple(functions_put), found.status)
                step, functions_now = _go_on(conn, schema, upgrade_functions=upgrade_functions)
            except (UnsettledSchemaError, *_CLASHES) as error:
                patience.wait(error)
            else:
                steps_taken += step
                functions_put += functions_now


def _go_on(conn: psycopg.Connection[Any], schema: str, *, upgrade_functions: bool) -> tuple[list[str], list[str]]:
    """Take one step, or put the functions in place; return the step's name, and theirs.

    What is to be done is decided on under the lock: another process may have been quicker.
    """
    with transaction(conn):
        lock(conn, schema)
        found = inspect(conn, schema, upgrade_functions=upgrade_functions)
        if found.pending_steps:
            return [_take_step(conn, found.status, found.pending_steps[0])], []
        return [], [] if found.done else _put_functions(conn, found)


class _Patience:
    """Waits while Graphile Worker, which does not know our lock, installs the schema at the same time."""

    def __init__(self) -> None:
        self._problem = ""
        self._since = 0.0

    def wait(self, error: Exception) -> None:
        """Sleep for a moment; raise `error` if the problem has been the same for too long."""
        if str(error) != self._problem:
            self._problem = str(error)
            self._since = time.monotonic()
        elif time.monotonic() - self._since > SETTLING_SECONDS:
            raise error
        time.sleep(_SETTLING_PAUSE)


def check(conn: psycopg.Connection[Any], schema: str = DEFAULT_SCHEMA) -> MigrationStatus:
    """Return what the schema is and what it lacks, without changing anything.

    Raises:
        SchemaRefusedError: If the schema is one that `migrate` would refuse.
        PgtasksError: If the server is too old or the role lacks a privilege.
    """
    check_schema_name(schema)
    check_connection(conn)
    with plain_errors(conn, schema):
        return _look(conn, schema, upgrade_functions=False).status


def expect_current(conn: psycopg.Connection[Any], schema: str = DEFAULT_SCHEMA) -> MigrationStatus:
    """Return `check`'s answer if the schema is what this release needs.

    Raises:
        SchemaPendingError: If it is missing or a step is pending.
        SchemaRefusedError: If it is one that `migrate` would refuse.
    """
    status = check(conn, schema)
    if status.current:
        return status
    if not status.exists:
        problem = "does not exist"
    elif status.kind == "empty":
        problem = "is empty"
    else:
        problem = "is not up to date; pending: " + ", ".join(status.pending_steps + status.pending_functions)
    raise SchemaPendingError(f"Schema {schema!r} {problem}. Run `pgtasks migrate{schema_option(schema)}`.")


def fresh_install_sql(schema: str = DEFAULT_SCHEMA, *, beside: Sequence[str] = ()) -> str:
    """Return a script that leaves in an empty database exactly what `migrate` would, in one transaction.

    It holds nothing that only psql understands, and fails as a whole where a queue is there already.

    Args:
        schema: The schema's name.
        beside: What else the script is to do in that transaction, at its end: the steps of plugins.
    """
    check_schema_name(schema)
    head = f"-- pgtasks: a fresh install of the schema {schema!r}. Fails as a whole if it is there already."
    parts = [head.replace("\n", " ").replace("\r", " ")]
    parts += ["begin;", _create_schema_sql(schema)]
    for step in steps():
        parts += [
            f"-- {step_label(step)}",
            render_file(step.path, schema).strip(),
            _record_step_sql(schema, step, adopted=False),
            _notify_sql(step.id, breaking=step.breaking),
        ]
    parts += [function.definition.strip() for function in functions(schema)]
    parts += [_record_functions_sql(schema, public=True), *beside, "commit;"]
    return "\n\n".join(parts) + "\n"


def _look(conn: psycopg.Connection[Any], schema: str, *, upgrade_functions: bool) -> Found:
    with transaction(conn, "read only"):
        return inspect(conn, schema, upgrade_functions=upgrade_functions)


def _take_step(conn: psycopg.Connection[Any], status: MigrationStatus, step: Step) -> str:
    """Take a step and record it, in the caller's transaction; return its label."""
    schema = status.schema
    adopted = step.only_own and status.kind == "adopted"
    if not status.exists:
        run_script(conn, _create_schema_sql(schema))
    if not adopted:
        run_script(conn, render_file(step.path, schema))
    run_script(conn, _record_step_sql(schema, step, adopted=adopted))
    run_script(conn, _notify_sql(step.id, breaking=step.breaking))
    return step_label(step)


def _put_functions(conn: psycopg.Connection[Any], found: Found) -> list[str]:
    """Create or replace the pending functions and record them, in the caller's transaction; return their names."""
    schema = found.status.schema
    for function in found.pending_functions:
        if function.public:
            run_script(conn, function.definition)
        else:
            _put_private_function(conn, schema, function)
    run_script(conn, _record_functions_sql(schema, public=found.public_target))
    return [function.name for function in found.pending_functions]


def _put_private_function(conn: psycopg.Connection[Any], schema: str, function: Function) -> None:
    """Create or replace a function of our own, whatever the signature of the one that is there.

    `create or replace` cannot change a result type or the name of a parameter, and with other types of parameters it
    leaves the old function beside the new one, so that calls become ambiguous. Then it is dropped first. Where
    replacing will do, it is what is done, since it keeps grants and does not disturb calls from other sessions.
    """
    if len(_signatures(conn, schema, function.name)) < 2:
        with suppress(psycopg.errors.InvalidFunctionDefinition), conn.transaction():
            run_script(conn, function.definition)
            if len(_signatures(conn, schema, function.name)) == 1:
                return
    for signature in _signatures(conn, schema, function.name):
        run_script(conn, f"drop routine {signature};")
    run_script(conn, function.definition)


def _signatures(conn: psycopg.Connection[Any], schema: str, name: str) -> list[str]:
    """Return what `drop routine` takes for each function of that name."""
    rows = fetch(
        conn,
        "select p.oid::pg_catalog.regprocedure::text as signature from pg_catalog.pg_proc as p "
        "join pg_catalog.pg_namespace as n on n.oid = p.pronamespace where n.nspname = $1 and p.proname = $2",
        schema,
        name,
    )
    return [row["signature"] for row in rows]


def _create_schema_sql(schema: str) -> str:
    return f"create schema if not exists {quoted(schema)};"


def _record_step_sql(schema: str, step: Step, *, adopted: bool) -> str:
    return (
        f"insert into {quoted(schema)}._pgtasks_migrations (id, name, breaking, adopted)\n"
        f"values ({step.id}, '{step.name}', {str(step.breaking).lower()}, {str(adopted).lower()});"
    )


def _record_functions_sql(schema: str, *, public: bool) -> str:
    return (
        f"insert into {quoted(schema)}._pgtasks_functions (revision, public)\n"
        f"values ({FUNCTIONS_REVISION}, {str(public).lower()})\n"
        "on conflict (only_row) do update set revision = excluded.revision, public = excluded.public, ts = now();"
    )


def _notify_sql(number: int, *, breaking: bool) -> str:
    payload = json.dumps({"migrationNumber": number, "breaking": breaking})
    return f"notify \"worker:migrate\", '{payload}';"
