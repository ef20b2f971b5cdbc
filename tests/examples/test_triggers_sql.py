"""examples/triggers_sql: whatever changes the tables, their triggers add the jobs."""

from __future__ import annotations

import psycopg

from tests.examples.running import EXAMPLES

[EXAMPLE] = (example for example in EXAMPLES if example.name == "triggers_sql")


def test_a_change_that_is_rolled_back_leaves_no_job(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute((EXAMPLE / "schema.sql").read_bytes())
        conn.execute("insert into shop.articles values (1, 'apple', 0.50, 4)")
        with conn.transaction(force_rollback=True):
            conn.execute("insert into shop.orders values (1, 1, 1)")
            inside = conn.execute("select task_identifier from graphile_worker.jobs order by 1").fetchall()
        assert inside == [("pack",), ("reorder",)]
        assert conn.execute("select from graphile_worker.jobs").fetchall() == []
