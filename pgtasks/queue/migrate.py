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
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row

from pgtasks.errors import DatabaseUnavailableError, PgtasksError, SchemaPendingError, SchemaRefusedError
from pgtasks.sql import (
    DEFAULT_SCHEMA,
    FUNCTIONS_REVISION,
    Function,
    Step,
    check_schema_name,
    functions,
    render,
    render_file,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_REFERENCE_REVISION = 19
"""The oldest revision of Graphile Worker's schema that can be adopted (its release 0.16.6)."""

KNOWN_REFERENCE_REVISION = 20
"""The newest revision of Graphile Worker's schema that this release knows; a fresh install records it."""

OLDEST_SERVER = 130000
"""`server_version_num` of the oldest PostgreSQL that will do."""

SchemaKind = Literal["missing", "empty", "own", "adopted"]


@dataclass(frozen=True)
class MigrationStatus:
    """What a schema is and what it lacks, as `check` finds it."""

    schema: str
    """The schema's name."""

    kind: SchemaKind
    """`missing`: there is no such schema; `empty`: it is there and holds nothing of a queue yet; `own`: we installed
    it; `adopted`: Graphile Worker installed it, and ours is or will be added beside."""

    reference_revision: int | None
    """The highest id in the reference's `migrations`, or None where there is none."""

    pending_steps: tuple[str, ...]
    """Names of the steps that are still to be taken, such as `0002_queue`."""

    pending_functions: tuple[str, ...]
    """Functions of our own that are missing or not what this release expects."""

    replaced_functions: tuple[str, ...]
    """Public functions that should be ours and are no longer: someone has replaced them."""

    public_functions_ours: bool
    """True if the seven public functions are meant to be ours: always, except in an adopted schema."""

    functions_revision: int | None
    """Which revision of our functions is in place; higher than this release's when a newer one was here."""

    warnings: tuple[str, ...]
    """What is unusual and harmless so far, a sentence each."""

    @property
    def exists(self) -> bool:
        """True if there is a schema of that name."""
        return self.kind != "missing"

    @property
    def current(self) -> bool:
        """True if `migrate` would have nothing to do."""
        return not self.pending_steps and not self.pending_functions


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


@dataclass(frozen=True)
class _Found:
    """What the catalogs and our own records say, read in one transaction."""

    status: MigrationStatus
    pending_steps: tuple[Step, ...]
    pending_functions: tuple[Function, ...]
    public_target: bool
    """True if the public functions are to be ours once all is done."""

    record_pending: bool
    """True if the record of the functions must be written, even if none of them changes."""

    @property
    def done(self) -> bool:
        return not (self.pending_steps or self.pending_functions or self.record_pending)


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
    _check_connection(conn)
    steps_taken: list[str] = []
    functions_put: list[str] = []
    with _plain_errors(conn, schema):
        found = _look(conn, schema, upgrade_functions=upgrade_functions)
        while not found.done:
            # One step at a time, decided on again under the lock: another process may have been quicker.
            with _transaction(conn):
                _lock(conn, schema)
                found = _inspect(conn, schema, upgrade_functions=upgrade_functions)
                if found.pending_steps:
                    steps_taken.append(_take_step(conn, found.status, found.pending_steps[0]))
                elif not found.done:
                    functions_put += _put_functions(conn, found)
            found = _look(conn, schema, upgrade_functions=upgrade_functions)
    return MigrationReport(schema=schema, steps=tuple(steps_taken), functions=tuple(functions_put), status=found.status)


def check(conn: psycopg.Connection[Any], schema: str = DEFAULT_SCHEMA) -> MigrationStatus:
    """Return what the schema is and what it lacks, without changing anything.

    Raises:
        SchemaRefusedError: If the schema is one that `migrate` would refuse.
        PgtasksError: If the server is too old or the role lacks a privilege.
    """
    check_schema_name(schema)
    _check_connection(conn)
    with _plain_errors(conn, schema):
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
    raise SchemaPendingError(f"Schema {schema!r} {problem}. Run `pgtasks migrate{_option(schema)}`.")


def fresh_install_sql(schema: str = DEFAULT_SCHEMA) -> str:
    """Return a script that leaves in an empty database exactly what `migrate` would, in one transaction.

    It holds nothing that only psql understands, and fails as a whole where a queue is there already.
    """
    check_schema_name(schema)
    head = f"-- pgtasks: a fresh install of the schema {schema!r}. Fails as a whole if it is there already."
    parts = [head.replace("\n", " ").replace("\r", " ")]
    parts += ["begin;", _create_schema_sql(schema)]
    for step in steps():
        parts += [
            f"-- {_label(step)}",
            render_file(step.path, schema).strip(),
            _record_step_sql(schema, step, adopted=False),
            _notify_sql(step.id, breaking=step.breaking),
        ]
    parts += [function.definition.strip() for function in functions(schema)]
    parts += [_record_functions_sql(schema, public=True), "commit;"]
    return "\n\n".join(parts) + "\n"


def _check_connection(conn: psycopg.Connection[Any]) -> None:
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise PgtasksError(
            "The schema is migrated and checked in transactions of its own: "
            "pass a connection that is not inside one (or commit first)."
        )
    if conn.info.server_version < OLDEST_SERVER:
        version = conn.info.parameter_status("server_version")
        raise PgtasksError(f"PostgreSQL {version} is too old: pgtasks needs 13 or later.")


@contextmanager
def _plain_errors(conn: psycopg.Connection[Any], schema: str) -> Iterator[None]:
    """Turn what the server says about privileges, standbys and lost connections into one line each."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise PgtasksError(
            f"Role {conn.info.user!r} lacks a privilege on schema {schema!r} of database {conn.info.dbname!r}: "
            f"{error.diag.message_primary}. Use the role that owns the schema; "
            "to create one, it needs CREATE on the database."
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise PgtasksError(
            f"Schema {schema!r} cannot be migrated here: {error.diag.message_primary}. "
            "Is the server a standby, or default_transaction_read_only set?"
        ) from error
    except psycopg.OperationalError as error:
        if not conn.broken:
            raise
        raise DatabaseUnavailableError(
            f"The connection was lost while schema {schema!r} was migrated: {str(error).strip().splitlines()[0]}. "
            "Run it again; it goes on where it stopped."
        ) from error


@contextmanager
def _transaction(conn: psycopg.Connection[Any], mode: str = "read write") -> Iterator[None]:
    """Run a transaction whose isolation does not depend on the caller's settings.

    With REPEATABLE READ the snapshot would date from before the wait for the lock.
    """
    with conn.transaction():
        _run(conn, f"set transaction isolation level read committed, {mode}")
        yield


def _run(conn: psycopg.Connection[Any], query: str) -> None:
    # Without parameters, so that it may hold several statements; not by the caller's cursor class.
    with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), prepare=False)


def _rows(conn: psycopg.Connection[Any], query: str, *parameters: object) -> list[dict[str, Any]]:
    with psycopg.RawCursor(conn, row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), parameters, prepare=False)
        return cursor.fetchall()


def _lock(conn: psycopg.Connection[Any], schema: str) -> None:
    _rows(conn, "select pg_advisory_xact_lock(hashtextextended('pgtasks migrate ' || $1::text, 0))", schema)


def _look(conn: psycopg.Connection[Any], schema: str, *, upgrade_functions: bool) -> _Found:
    with _transaction(conn, "read only"):
        return _inspect(conn, schema, upgrade_functions=upgrade_functions)


def _inspect(conn: psycopg.Connection[Any], schema: str, *, upgrade_functions: bool) -> _Found:
    """Find out what is there; raise where it must not be touched."""
    [facts] = _rows(conn, _FACTS, schema)
    warnings: list[str] = []
    has_queue = _refuse_what_is_no_queue(schema, facts)
    if facts["hidden"]:
        raise PgtasksError(
            f"Row level security hides the queue in schema {schema!r} from role {conn.info.user!r}: to anyone but its "
            f"owner {facts['owner']!r} its tables look empty, granted or not. Connect as {facts['owner']!r}."
        )
    reference_revision = _reference_revision(conn, schema, warnings) if has_queue else None
    adopted = _recorded_steps(conn, schema, warnings) if facts["is_ours"] else {}

    kind: SchemaKind
    if has_queue:
        kind = "own" if adopted.get(_QUEUE_STEP) is False else "adopted"
    else:
        kind = "empty" if facts["schema_exists"] else "missing"
    revision, public = _recorded_functions(conn, schema) if facts["is_ours"] else (None, None)
    if public is None:
        public = kind != "adopted"
    public_target = public or upgrade_functions

    pending_steps = tuple(step for step in steps() if step.id not in adopted)
    pending_functions, replaced = [], []
    if revision is not None and revision > FUNCTIONS_REVISION:
        warnings.append(f"The functions are those of a newer release of pgtasks (revision {revision}).")
    else:
        for function in _changed_functions(conn, schema):
            if function.public and public and revision == FUNCTIONS_REVISION:
                replaced.append(function.name)
            if not function.public or upgrade_functions or (public and revision != FUNCTIONS_REVISION):
                pending_functions.append(function)
    return _Found(
        status=MigrationStatus(
            schema=schema,
            kind=kind,
            reference_revision=reference_revision,
            pending_steps=tuple(_label(step) for step in pending_steps),
            pending_functions=tuple(function.name for function in pending_functions),
            replaced_functions=tuple(replaced),
            public_functions_ours=public,
            functions_revision=revision,
            warnings=tuple(warnings),
        ),
        pending_steps=pending_steps,
        pending_functions=tuple(pending_functions),
        public_target=public_target,
        record_pending=revision is None
        or revision < FUNCTIONS_REVISION
        or (revision == FUNCTIONS_REVISION and public_target and not public),
    )


def _refuse_what_is_no_queue(schema: str, facts: dict[str, Any]) -> bool:
    """Return whether the queue's tables are there; raise if something else is."""
    if facts["has_migrations"] and facts["has_jobs"]:
        return True
    if facts["has_others"]:
        raise SchemaRefusedError(
            f"Schema {schema!r} exists and is not a queue; nothing was changed. "
            "Choose another name with --schema or PGTASKS_SCHEMA."
        )
    return False


def _reference_revision(conn: psycopg.Connection[Any], schema: str, warnings: list[str]) -> int:
    """Return the highest id in the reference's `migrations`; raise where it is one that we cannot work with."""
    # Early revisions have no column `breaking`, hence the way round by jsonb.
    rows = _rows(
        conn,
        render(
            "select m.id, coalesce((to_jsonb(m) ->> 'breaking')::boolean, false) as breaking "
            "from {gw}.migrations as m order by m.id",
            schema,
        ),
    )
    revision = max((row["id"] for row in rows), default=0)
    unknown = [row for row in rows if row["id"] > KNOWN_REFERENCE_REVISION]
    breaking = [row["id"] for row in unknown if row["breaking"]]
    if revision < OLDEST_REFERENCE_REVISION:
        raise SchemaRefusedError(
            f"Schema {schema!r} is Graphile Worker's at revision {revision}, pgtasks needs "
            f"{OLDEST_REFERENCE_REVISION} or later; nothing was changed. Bring it up to date first: "
            f"`npx graphile-worker@0.17 --schema-only -c <connection string>{_option(schema)}`."
        )
    if breaking:
        raise SchemaRefusedError(
            f"Schema {schema!r} has Graphile Worker's breaking migration {breaking[0]}, which this release does not "
            "know; nothing was changed. Upgrade pgtasks, or choose another name with --schema or PGTASKS_SCHEMA."
        )
    if unknown:
        warnings.append(
            f"Schema {schema!r} has Graphile Worker's revision {revision}; this release knows "
            f"{KNOWN_REFERENCE_REVISION}, and what came after is not marked as breaking."
        )
    return revision


def _recorded_steps(conn: psycopg.Connection[Any], schema: str, warnings: list[str]) -> dict[int, bool]:
    """Return which of our steps were taken, and whether each was adopted; raise if one is too new for us."""
    known = {step.id for step in steps()}
    recorded = {}
    query = render("select id, name, breaking, adopted from {gw}._pgtasks_migrations order by id", schema)
    for row in _rows(conn, query):
        recorded[row["id"]] = row["adopted"]
        if row["id"] in known:
            continue
        step = f"{row['id']:04}_{row['name']}"
        if row["breaking"]:
            raise SchemaRefusedError(
                f"Schema {schema!r} has the breaking step {step} of a newer release; nothing was changed. "
                "Upgrade pgtasks."
            )
        warnings.append(f"Schema {schema!r} has the step {step} of a newer release.")
    return recorded


def _recorded_functions(conn: psycopg.Connection[Any], schema: str) -> tuple[int, bool] | tuple[None, None]:
    """Return the revision of the functions in place and whether the public ones are ours."""
    rows = _rows(conn, render("select revision, public from {gw}._pgtasks_functions", schema))
    return (rows[0]["revision"], rows[0]["public"]) if rows else (None, None)


def _changed_functions(conn: psycopg.Connection[Any], schema: str) -> list[Function]:
    """Return the functions whose body in the database is not ours, or that are not there."""
    rows = _rows(
        conn,
        "select p.proname, p.prosrc from pg_catalog.pg_proc as p "
        "join pg_catalog.pg_namespace as n on n.oid = p.pronamespace where n.nspname = $1",
        schema,
    )
    there = {(row["proname"], row["prosrc"]) for row in rows}
    return [function for function in functions(schema) if (function.name, function.body) not in there]


def _take_step(conn: psycopg.Connection[Any], status: MigrationStatus, step: Step) -> str:
    """Take a step and record it, in the caller's transaction; return its label."""
    schema = status.schema
    adopted = step.only_own and status.kind == "adopted"
    if not status.exists:
        _run(conn, _create_schema_sql(schema))
    if not adopted:
        _run(conn, render_file(step.path, schema))
    _run(conn, _record_step_sql(schema, step, adopted=adopted))
    _run(conn, _notify_sql(step.id, breaking=step.breaking))
    return _label(step)


def _put_functions(conn: psycopg.Connection[Any], found: _Found) -> list[str]:
    """Create or replace the pending functions and record them, in the caller's transaction; return their names."""
    for function in found.pending_functions:
        _run(conn, function.definition)
    _run(conn, _record_functions_sql(found.status.schema, public=found.public_target))
    return [function.name for function in found.pending_functions]


def _create_schema_sql(schema: str) -> str:
    return f"create schema if not exists {_name(schema)};"


def _record_step_sql(schema: str, step: Step, *, adopted: bool) -> str:
    return (
        f"insert into {_name(schema)}._pgtasks_migrations (id, name, breaking, adopted)\n"
        f"values ({step.id}, '{step.name}', {str(step.breaking).lower()}, {str(adopted).lower()});"
    )


def _record_functions_sql(schema: str, *, public: bool) -> str:
    return (
        f"insert into {_name(schema)}._pgtasks_functions (revision, public)\n"
        f"values ({FUNCTIONS_REVISION}, {str(public).lower()})\n"
        "on conflict (only_row) do update set revision = excluded.revision, public = excluded.public, ts = now();"
    )


def _notify_sql(number: int, *, breaking: bool) -> str:
    payload = json.dumps({"migrationNumber": number, "breaking": breaking})
    return f"notify \"worker:migrate\", '{payload}';"


def _name(schema: str) -> str:
    return sql.Identifier(schema).as_string()


def _label(step: Step) -> str:
    return f"{step.id:04}_{step.name}"


def _option(schema: str) -> str:
    return "" if schema == DEFAULT_SCHEMA else f" --schema {shlex.quote(schema)}"


_QUEUE_STEP = 2
"""The step that makes what the reference's installation makes."""

_FACTS = """
with rels as (
  select c.oid, c.relname, c.relowner
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  where n.nspname = $1::text
)
select
  n.oid is not null as schema_exists,
  exists (select from rels where relname = '_pgtasks_migrations') as is_ours,
  exists (select from rels where relname = 'migrations') as has_migrations,
  exists (select from rels where relname in ('_private_jobs', 'jobs')) as has_jobs,
  exists (select from rels where relname not like '\\_pgtasks\\_%')
    or exists (select from pg_catalog.pg_proc as p where p.pronamespace = n.oid and p.proname not like '\\_pgtasks\\_%')
    or exists (select from pg_catalog.pg_type as t where t.typnamespace = n.oid and t.typname not like '\\_pgtasks\\_%'
      and t.typname not like '\\_\\_pgtasks\\_%')
    as has_others,
  (select pg_catalog.row_security_active(oid) from rels where relname = '_private_jobs') as hidden,
  (select pg_catalog.pg_get_userbyid(relowner) from rels where relname = '_private_jobs') as owner
from (select $1::text as name) as wanted
left join pg_catalog.pg_namespace as n on n.nspname = wanted.name
"""
