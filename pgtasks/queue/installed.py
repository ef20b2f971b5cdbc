"""What a schema is and what it lacks, read from the catalogs and from the records of earlier migrations.

Nothing in here changes anything. What must not be touched is refused here, so that `migrate` and `check` agree.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.rows import dict_row

from pgtasks.errors import PgtasksError, SchemaRefusedError
from pgtasks.sql import DEFAULT_SCHEMA, FUNCTIONS_REVISION, Function, Step, functions, render, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

OLDEST_REFERENCE_REVISION = 19
"""The oldest revision of Graphile Worker's schema that can be adopted (its release 0.16.6)."""

KNOWN_REFERENCE_REVISION = 20
"""The newest revision of Graphile Worker's schema that this release knows; a fresh install records it."""

SETTLING_SECONDS = 5.0
"""An unfinished installation of Graphile Worker's that did something so lately is taken to be under way."""

SchemaKind = Literal["missing", "empty", "own", "adopted"]


class UnsettledSchemaError(SchemaRefusedError):
    """Graphile Worker seems to be installing the schema at this moment; a later look may find it finished."""


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

    newer_steps: tuple[str, ...]
    """Names of steps that were taken and that this release does not know."""

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
class Found:
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
        """True if there is nothing to do."""
        return not (self.pending_steps or self.pending_functions or self.record_pending)


def inspect(conn: psycopg.Connection[Any], schema: str, *, upgrade_functions: bool) -> Found:
    """Find out what is there; raise where it must not be touched."""
    [facts] = fetch(conn, _FACTS, schema)
    warnings: list[str] = []
    has_queue = _refuse_what_is_no_queue(schema, facts)
    if facts["hidden"]:
        raise PgtasksError(
            f"Row level security hides the queue in schema {schema!r} from role {conn.info.user!r}: to anyone but its "
            f"owner {facts['owner']!r} its tables look empty, granted or not. Connect as {facts['owner']!r}."
        )
    reference_revision = _reference_revision(conn, schema, warnings) if has_queue else None
    adopted, newer_steps = _recorded_steps(conn, schema) if facts["is_ours"] else ({}, ())
    warnings += [f"Schema {schema!r} has the step {step} of a newer release." for step in newer_steps]

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
        of_older_release = revision != FUNCTIONS_REVISION
        bodies = _function_bodies(conn, schema)
        for function in functions(schema):
            changed = _is_changed(function, bodies.get(function.name, []))
            if not function.public:
                wanted = changed or of_older_release
            elif changed and public and not of_older_release:
                replaced.append(function.name)
                wanted = upgrade_functions
            else:
                wanted = public_target and (changed or of_older_release)
            if wanted:
                pending_functions.append(function)
    return Found(
        status=MigrationStatus(
            schema=schema,
            kind=kind,
            reference_revision=reference_revision,
            pending_steps=tuple(step_label(step) for step in pending_steps),
            newer_steps=newer_steps,
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
    if facts["has_first_table"]:
        raise UnsettledSchemaError(
            f"Schema {schema!r} has Graphile Worker's table 'migrations' and nothing else of a queue: its installation "
            f"has not ended; nothing was changed. Bring it to an end first: {_bring_up_to_date(schema)}."
        )
    if facts["has_others"]:
        raise SchemaRefusedError(
            f"Schema {schema!r} exists and is not a queue; nothing was changed. "
            "Choose another name with --schema or PGTASKS_SCHEMA."
        )
    return False


def _reference_revision(conn: psycopg.Connection[Any], schema: str, warnings: list[str]) -> int:
    """Return the highest id in the reference's `migrations`; raise where it is one that we cannot work with."""
    # Early revisions have no column `breaking`, hence the way round by jsonb.
    rows = fetch(
        conn,
        render(
            "select m.id, coalesce((to_jsonb(m) ->> 'breaking')::boolean, false) as breaking, "
            "(to_jsonb(m) ->> 'ts')::timestamptz > now() - make_interval(secs => $1::float8) as lately "
            "from {gw}.migrations as m order by m.id",
            schema,
        ),
        SETTLING_SECONDS,
    )
    revision = max((row["id"] for row in rows), default=0)
    unknown = [row for row in rows if row["id"] > KNOWN_REFERENCE_REVISION]
    breaking = [row["id"] for row in unknown if row["breaking"]]
    if revision < OLDEST_REFERENCE_REVISION:
        refusal = UnsettledSchemaError if any(row["lately"] for row in rows) else SchemaRefusedError
        raise refusal(
            f"Schema {schema!r} is Graphile Worker's at revision {revision}, pgtasks needs "
            f"{OLDEST_REFERENCE_REVISION} or later; nothing was changed. Bring it up to date first: "
            f"{_bring_up_to_date(schema)}."
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


def _bring_up_to_date(schema: str) -> str:
    return f"`npx graphile-worker@0.17 --schema-only -c <connection string>{schema_option(schema)}`"


def _recorded_steps(conn: psycopg.Connection[Any], schema: str) -> tuple[dict[int, bool], tuple[str, ...]]:
    """Return which of our steps were taken, and whether each was adopted, and the names of those that we do not know.

    Raises:
        SchemaRefusedError: One of these is breaking.
    """
    known = {step.id for step in steps()}
    recorded, newer = {}, []
    query = render("select id, name, breaking, adopted from {gw}._pgtasks_migrations order by id", schema)
    for row in fetch(conn, query):
        recorded[row["id"]] = row["adopted"]
        if row["id"] in known:
            continue
        step = f"{row['id']:04}_{row['name']}"
        if row["breaking"]:
            raise SchemaRefusedError(
                f"Schema {schema!r} has the breaking step {step} of a newer release; nothing was changed. "
                "Upgrade pgtasks."
            )
        newer.append(step)
    return recorded, tuple(newer)


def _recorded_functions(conn: psycopg.Connection[Any], schema: str) -> tuple[int, bool] | tuple[None, None]:
    """Return the revision of the functions in place and whether the public ones are ours."""
    rows = fetch(conn, render("select revision, public from {gw}._pgtasks_functions", schema))
    return (rows[0]["revision"], rows[0]["public"]) if rows else (None, None)


def _function_bodies(conn: psycopg.Connection[Any], schema: str) -> dict[str, list[str]]:
    """Return the bodies of all functions in the schema, by name."""
    bodies: dict[str, list[str]] = {}
    for row in fetch(
        conn,
        "select p.proname, p.prosrc from pg_catalog.pg_proc as p "
        "join pg_catalog.pg_namespace as n on n.oid = p.pronamespace where n.nspname = $1",
        schema,
    ):
        bodies.setdefault(row["proname"], []).append(row["prosrc"])
    return bodies


def _is_changed(function: Function, bodies: Sequence[str]) -> bool:
    """Return whether a function is missing or not as this release has it, given the bodies of those of its name.

    Another signature with the same body is not noticed. Within a release nothing changes that but somebody's hand, and
    the functions of an older release are all put in place anew, whatever their bodies. A private function must be the
    only one of its name, since an overload makes calls ambiguous; beside a public one somebody may have put their own.
    """
    return function.body not in bodies or (not function.public and len(bodies) > 1)


def fetch(conn: psycopg.Connection[Any], query: str, *parameters: object) -> list[dict[str, Any]]:
    """Run a query with `$1` parameters, whatever the connection's own cursors are, and return its rows."""
    with psycopg.RawCursor(conn, row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), parameters, prepare=False)
        return cursor.fetchall()


def step_label(step: Step) -> str:
    """Return what a step is called in reports, such as `0002_queue`."""
    return f"{step.id:04}_{step.name}"


def schema_option(schema: str) -> str:
    """Return what a command line needs so that it is about `schema`: nothing for the usual one."""
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
  -- What Graphile Worker makes before its first migration: a table with the columns id and ts, later breaking too.
  exists (
      select from rels join pg_catalog.pg_attribute as a on a.attrelid = rels.oid
      where rels.relname = 'migrations' and a.attname = 'ts'
    )
    and not exists (
      select from rels
      where relname not in ('migrations', 'migrations_pkey') and relname not like '\\_pgtasks\\_%'
    )
    as has_first_table,
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
