from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sql.queue import Queue

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]

TABLES = {
    "_private_jobs": [
        "id bigint not null identity",
        "job_queue_id integer",
        "task_id integer not null",
        "payload json not null default '{}'::json",
        "priority smallint not null default 0",
        "run_at timestamp with time zone not null default now()",
        "attempts smallint not null default 0",
        "max_attempts smallint not null default 25",
        "last_error text",
        "created_at timestamp with time zone not null default now()",
        "updated_at timestamp with time zone not null default now()",
        "key text",
        "locked_at timestamp with time zone",
        "locked_by text",
        "revision integer not null default 0",
        "flags jsonb",
        "is_available boolean not null generated ((locked_at IS NULL) AND (attempts < max_attempts))",
    ],
    "_private_tasks": ["id integer not null identity", "identifier text not null"],
    "_private_job_queues": [
        "id integer not null identity",
        "queue_name text not null",
        "locked_at timestamp with time zone",
        "locked_by text",
        "is_available boolean not null generated (locked_at IS NULL)",
    ],
    "_private_known_crontabs": [
        "identifier text not null",
        "known_since timestamp with time zone not null",
        "last_execution timestamp with time zone",
    ],
    "migrations": [
        "id integer not null",
        "ts timestamp with time zone not null default now()",
        "breaking boolean not null default false",
    ],
}

COLUMNS = """
select concat_ws(' ',
  a.attname,
  format_type(a.atttypid, a.atttypmod),
  case when a.attnotnull then 'not null' end,
  case when a.attidentity = 'a' then 'identity' end,
  case when a.attgenerated = 's' then 'generated' when d.oid is not null then 'default' end,
  pg_get_expr(d.adbin, d.adrelid)
)
from pg_attribute as a
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""


@pytest.mark.parametrize("table", TABLES)
def test_a_tables_columns_are_those_that_reference_workers_use(queue: Queue, table: str) -> None:
    assert queue.values(COLUMNS, queue.schema, table) == TABLES[table]


def test_the_type_of_a_spec_has_its_fields_in_order(queue: Queue) -> None:
    assert queue.values(COLUMNS, queue.schema, "job_spec") == [
        "identifier text",
        "payload json",
        "queue_name text",
        "run_at timestamp with time zone",
        "max_attempts smallint",
        "job_key text",
        "priority smallint",
        "flags text[]",
    ]


def test_keys_and_limits_are_constraints(queue: Queue) -> None:
    found = queue.values(
        "select relname || ': ' || pg_get_constraintdef(con.oid) from pg_constraint as con "
        "join pg_class as c on c.oid = con.conrelid where c.relnamespace = %s::regnamespace and contype in "
        "('p', 'u', 'c', 'f') and relname not like '\\_pgtasks%%' order by relname, contype, conname",
        queue.name,
    )
    assert found == [
        "_private_job_queues: CHECK ((length(queue_name) <= 128))",
        "_private_job_queues: PRIMARY KEY (id)",
        "_private_job_queues: UNIQUE (queue_name)",
        "_private_jobs: CHECK (((length(key) > 0) AND (length(key) <= 512)))",
        "_private_jobs: CHECK ((max_attempts >= 1))",
        "_private_jobs: PRIMARY KEY (id)",
        "_private_jobs: UNIQUE (key)",
        "_private_known_crontabs: PRIMARY KEY (identifier)",
        "_private_tasks: CHECK ((length(identifier) <= 128))",
        "_private_tasks: PRIMARY KEY (id)",
        "_private_tasks: UNIQUE (identifier)",
        "migrations: PRIMARY KEY (id)",
    ]


def test_the_indexes_of_the_reference_are_there(queue: Queue) -> None:
    found = queue.values(
        "select substring(pg_get_indexdef(indexrelid) from 'USING .*') from pg_index "
        "where indrelid = (%s || '._private_jobs')::regclass",
        queue.name,
    )
    assert "USING btree (priority, run_at) INCLUDE (id, task_id, job_queue_id) WHERE (is_available = true)" in found
    assert (
        "USING btree (priority, run_at) INCLUDE (id, task_id) WHERE ((is_available = true) AND (job_queue_id IS NULL))"
    ) in found


def test_the_migrations_of_the_reference_are_recorded(queue: Queue) -> None:
    assert queue.values("select id from {gw}.migrations order by id") == list(range(1, 21))
    assert queue.values("select id from {gw}.migrations where breaking order by id") == [1, 3, 11, 13, 14, 16, 19]


def test_the_view_shows_everything_but_the_payload(queue: Queue) -> None:
    job = queue.add_job("send", queue_name="mails", job_key="a", flags=["slow"], priority=3)
    queue.lock(job["id"])
    stored = queue.job(job["id"])
    shown = queue.row("select * from {gw}.jobs")
    assert list(shown) == [
        "id",
        "queue_name",
        "task_identifier",
        "priority",
        "run_at",
        "attempts",
        "max_attempts",
        "last_error",
        "created_at",
        "updated_at",
        "key",
        "locked_at",
        "locked_by",
        "revision",
        "flags",
    ]
    same = {name: value for name, value in stored.items() if name in shown}
    assert shown == {**same, "queue_name": "mails", "task_identifier": "send"}


def test_the_view_shows_jobs_without_a_queue(queue: Queue) -> None:
    queue.add("send")
    assert queue.values("select queue_name from {gw}.jobs") == [None]


def test_a_role_that_is_not_the_owner_sees_no_rows_even_where_it_was_granted_the_tables(
    queue: Queue, role: str
) -> None:
    queue.add("send", queue_name="mails")
    queue.run("insert into {gw}._private_known_crontabs values ('daily', now())")
    queue.run(f"grant usage on schema {{gw}} to {role}")
    queue.run(f"grant select on all tables in schema {{gw}} to {role}")
    queue.run(f"set role {role}")
    for table in ("_private_jobs", "_private_tasks", "_private_job_queues", "_private_known_crontabs"):
        assert queue.rows(f"select * from {{gw}}.{table}") == [], table
    queue.run("reset role")
    policies = queue.value("select count(*) from pg_policies where schemaname = %s", queue.schema)
    assert policies == 0
