"""What a schema consists of, as far as somebody who starts on it could change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

_QUERIES = {
    "functions": """
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.proacl::text
        from pg_proc as p where p.pronamespace = 'graphile_worker'::regnamespace
    """,
    "columns": """
        select
            c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnum, a.attnotnull,
            a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)
        from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind in ('r', 'v', 'c')
    """,
    "tables": """
        select c.relname, c.relkind, c.relrowsecurity, c.relacl::text, pg_get_viewdef(c.oid)
        from pg_class as c
        where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind in ('r', 'v', 'c', 'S')
    """,
    "constraints": """
        select c.conrelid::regclass || '.' || c.conname, pg_get_constraintdef(c.oid)
        from pg_constraint as c where c.connamespace = 'graphile_worker'::regnamespace
    """,
    "indexes": "select indexname, indexdef from pg_indexes where schemaname = 'graphile_worker'",
    "migrations": "select id::text, ts, breaking from graphile_worker.migrations",
}

Catalog = dict[str, tuple[Any, ...]]
"""By kind and name, how each thing is defined."""


def catalog(connection: psycopg.Connection[Any]) -> Catalog:
    """Return the definitions of everything in the schema."""
    return {
        f"{kind} {row[0]}": row[1:]
        for kind, query in _QUERIES.items()
        for row in connection.execute(query.encode()).fetchall()
    }


def added(before: Catalog, after: Catalog) -> list[str]:
    """Return the names of what was added, after checking that everything else is as it was."""
    assert {name: after.get(name) for name in before} == before
    return sorted(after.keys() - before.keys())
