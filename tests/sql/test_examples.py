from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from tests.sql.queue import Queue

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]


def test_a_job_is_added_with_a_payload(queue: Queue) -> None:
    queue.run("SELECT {gw}.add_job('send_email', json_build_object('to', 'someone@example.com', 'subject', 'hello'));")
    [payload] = queue.values("select payload from {gw}._private_jobs")
    assert json.loads(payload) == {"to": "someone@example.com", "subject": "hello"}


def test_a_job_is_added_for_later(queue: Queue) -> None:
    queue.run("SELECT {gw}.add_job('reminder', run_at := NOW() + INTERVAL '2 days');")
    assert queue.value("select run_at - created_at from {gw}.jobs") == timedelta(days=2)


def test_a_job_is_added_by_a_prepared_statement(queue: Queue) -> None:
    statement = (
        f"SELECT {queue.name}.add_job($1, payload := $2, queue_name := $3, "
        "run_at := NOW() + ($4 * INTERVAL '1 second'), max_attempts := $5);"
    )
    psycopg.RawCursor(queue.conn).execute(statement.encode(), ("send", '{"a": 1}', "mails", 90, 3))
    job = queue.row("select *, run_at - created_at as delay from {gw}.jobs")
    assert (job["task_identifier"], job["queue_name"], job["max_attempts"]) == ("send", "mails", 3)
    assert job["delay"] == timedelta(seconds=90)


def test_a_trigger_adds_jobs_for_changes_of_several_tables(queue: Queue) -> None:
    queue.run(
        """
        CREATE FUNCTION trigger_job() RETURNS trigger AS $$
        BEGIN
          PERFORM {gw}.add_job(TG_ARGV[0], json_build_object(
            'schema', TG_TABLE_SCHEMA,
            'table', TG_TABLE_NAME,
            'op', TG_OP,
            'id', (CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END)
          ));
          RETURN NEW;
        END;
        $$ LANGUAGE plpgsql VOLATILE
        """
    )
    for table, task in (("users", "user_changed"), ("teams", "team_changed")):
        queue.run(f"CREATE TABLE {table} (id integer, name text)")
        for event in ("INSERT", "UPDATE", "DELETE"):
            queue.run(
                f"CREATE TRIGGER _500_{event} AFTER {event} ON {table} FOR EACH ROW "
                f"EXECUTE PROCEDURE trigger_job('{task}')"
            )
    queue.run("INSERT INTO users VALUES (1, 'ada'), (2, 'bob')")
    queue.run("UPDATE users SET name = 'eve' WHERE id = 2")
    queue.run("INSERT INTO teams VALUES (7, 'red')")
    queue.run("DELETE FROM users WHERE id = 1")
    added = queue.rows(
        "select task_identifier as task, payload ->> 'schema' as schema, payload ->> 'table' as table, "
        "payload ->> 'op' as op, (payload ->> 'id')::integer as id from {gw}.jobs "
        "join {gw}._private_jobs as stored using (id) order by stored.id"
    )
    assert [tuple(row.values()) for row in added] == [
        ("user_changed", "public", "users", "INSERT", 1),
        ("user_changed", "public", "users", "INSERT", 2),
        ("user_changed", "public", "users", "UPDATE", 2),
        ("team_changed", "public", "teams", "INSERT", 7),
        ("user_changed", "public", "users", "DELETE", 1),
    ]


def test_a_job_of_a_transaction_that_is_rolled_back_is_not_added(queue: Queue) -> None:
    with queue.conn.transaction(force_rollback=True):
        queue.add("send")
    assert queue.job_ids() == []


def test_a_role_without_rights_adds_jobs_through_a_wrapper_of_the_owner(queue: Queue, role: str) -> None:
    queue.run(
        """
        CREATE FUNCTION public.send_mail(recipient text) RETURNS bigint AS $$
          SELECT id FROM {gw}.add_job('send_email', json_build_object('to', recipient));
        $$ LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ''
        """
    )
    queue.run(f"set role {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        queue.add("send_email")
    job_id = queue.value("SELECT public.send_mail('ada@example.com')")
    queue.run("reset role")
    assert json.loads(queue.job(job_id)["payload"]) == {"to": "ada@example.com"}
