"""A schema as an installation of Graphile Worker leaves it, as far as a migration looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from pgtasks.sql import functions, render_file, steps

if TYPE_CHECKING:
    import psycopg

BODY = "\nbegin\n  raise exception 'a function of the reference';\nend;\n"
"""What its functions consist of: ours are told from others by what they hold."""


def install_reference(conn: psycopg.Connection[Any], schema: str, *, revision: int, breaking: bool = False) -> None:
    """Make the reference's tables, view, type and functions, at a revision; beyond 20, `breaking` marks the last."""
    [queue] = [step for step in steps() if step.name == "queue"]
    name = sql.Identifier(schema)
    conn.execute(sql.SQL("create schema {}").format(name))
    conn.execute(render_file(queue.path, schema).encode())
    for function in functions(schema):
        if function.public:
            conn.execute(function.definition.replace(function.body, BODY).encode())
    conn.execute(sql.SQL("delete from {}.migrations where id > {}").format(name, revision))
    conn.execute(sql.SQL("update {}.migrations set ts = now() - interval '1 hour'").format(name))
    conn.execute(
        sql.SQL("insert into {}.migrations (id, breaking) select id, {} from generate_series(21, {}) as id").format(
            name, breaking, revision
        )
    )
