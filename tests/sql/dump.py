"""The schema as text, read from the catalogs: the same on every version of PostgreSQL.

    python -m tests.sql.dump

installs the schema on a server of its own and writes `pgtasks/sql/dump.sql`. The file shows in a review what a change
makes of the schema; `tests/sql/test_dump.py` keeps it true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgtasks.queue.migrate import migrate
from pgtasks.sql import DEFAULT_SCHEMA, FUNCTIONS_REVISION, ROOT, functions_digest
from tests.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = ROOT / "dump.sql"

HEAD = f"""\
-- What a fresh install leaves, read from the catalogs. Not a script: `pgtasks migrate --sql` prints that.
-- Written by `python -m tests.sql.dump`, compared by the tests.

-- functions: revision {FUNCTIONS_REVISION}, digest {functions_digest()}
"""

RELATIONS = """
select
  c.oid,
  case c.relkind when 'r' then 'table' when 'v' then 'view' when 'c' then 'type' else 'sequence' end as kind,
  c.relname as name,
  case when c.relpersistence = 'u' then ' unlogged' end as persistence,
  case when c.relrowsecurity then ' with row level security' end as security,
  case when c.relkind = 'v' then pg_get_viewdef(c.oid) end as query
from pg_catalog.pg_class as c
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'v', 'c', 'S')
order by kind, c.relname collate "C"
"""

COLUMNS = """
select concat_ws(' ',
  quote_ident(a.attname),
  format_type(a.atttypid, a.atttypmod),
  case when a.attnotnull then 'not null' end,
  case when a.attidentity = 'a' then 'generated always as identity' end,
  case when a.attgenerated = 's' then 'generated always as' when d.oid is not null then 'default' end,
  pg_get_expr(d.adbin, d.adrelid),
  case when a.attgenerated = 's' then 'stored' end
)
from pg_catalog.pg_attribute as a
left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""

# PostgreSQL 18 lists not-null constraints here too; the columns say it already.
CONSTRAINTS = """
select format('constraint %%I %%s', conname, pg_get_constraintdef(oid))
from pg_catalog.pg_constraint
where conrelid = %s and contype <> 'n'
order by conname collate "C"
"""

INDEXES = """
select regexp_replace(pg_get_indexdef(i.indexrelid), '\\s+', ' ', 'g')
from pg_catalog.pg_index as i join pg_catalog.pg_class as c on c.oid = i.indexrelid
where i.indrelid = %s
order by c.relname collate "C"
"""

TRIGGERS = """
select pg_get_triggerdef(oid)
from pg_catalog.pg_trigger
where tgrelid = %s and not tgisinternal
order by tgname collate "C"
"""

FUNCTIONS = """
select
  format('function %%I(%%s)', p.proname, pg_get_function_arguments(p.oid)) as name,
  array_remove(array[
    'returns ' || pg_get_function_result(p.oid),
    'language ' || l.lanname,
    case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
    case when p.proisstrict then 'strict' end,
    case when p.prosecdef then 'security definer' end
  ] || array(select 'set ' || setting from unnest(p.proconfig) as setting), null) as lines,
  md5(p.prosrc) as body
from pg_catalog.pg_proc as p join pg_catalog.pg_language as l on l.oid = p.prolang
where p.pronamespace = %s::regnamespace
order by p.proname collate "C", pg_get_function_identity_arguments(p.oid) collate "C"
"""


def entries(conn: psycopg.Connection[Any], schema: str, *, bodies: bool = False) -> dict[str, list[str]]:
    """Return what is in the schema, by name, each with its lines; functions also with the digests of their bodies."""
    with conn.transaction(), psycopg.Cursor(conn) as cursor:
        cursor.execute("set local search_path to ''")  # everything that is not PostgreSQL's own is written in full

        def lines(query: str, oid: int) -> list[str]:
            return [line for (line,) in cursor.execute(query.encode(), (oid,)).fetchall()]

        found: dict[str, list[str]] = {}
        name = sql.Identifier(schema).as_string()
        relations = cursor.execute(RELATIONS.encode(), (name,)).fetchall()
        for oid, kind, relation, persistence, security, query in relations:
            found[f"{kind} {relation}{persistence or ''}{security or ''}"] = [
                *(lines(COLUMNS, oid) if kind != "sequence" else []),
                *lines(CONSTRAINTS, oid),
                *lines(INDEXES, oid),
                *lines(TRIGGERS, oid),
                *([" ".join(query.split())] if query else []),
            ]
        for function, clauses, body in cursor.execute(FUNCTIONS.encode(), (name,)).fetchall():
            found[function] = [*clauses, *([f"body {body}"] if bodies else [])]
        return found


def dump(conn: psycopg.Connection[Any], schema: str) -> str:
    """Return the text of the dump."""
    return "\n".join([HEAD, *_paragraphs(entries(conn, schema))])


def _paragraphs(found: dict[str, list[str]]) -> Iterable[str]:
    for name, lines in found.items():
        yield "".join(f"{line}\n" for line in (name, *(f"  {line}" for line in lines)))


def main() -> None:
    """Write the dump of a fresh install."""
    servers = Servers()
    try:
        server = servers.get()
        with psycopg.connect(server.conninfo(server.create_database()), autocommit=True) as conn:
            migrate(conn)
            PATH.write_text(dump(conn, DEFAULT_SCHEMA), encoding="utf-8")
    finally:
        servers.close()


if __name__ == "__main__":
    main()
