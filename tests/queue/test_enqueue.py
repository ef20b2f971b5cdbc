"""Adding jobs from Python: what is stored is what was said, in whose transaction it was said."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgtasks import (
    App,
    DatabaseUnavailableError,
    Job,
    JobOptionError,
    JobSpec,
    PayloadError,
    Registry,
    SchemaPendingError,
)
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks import Task

every = pytest.mark.every_postgres
odd = pytest.mark.every_schema

TOMORROW = dt.datetime(2040, 2, 29, 12, 30, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))


@pytest.fixture
def mail(app: App) -> Task[Any, ..., Any]:
    @app.task(queue="mail", priority=3, max_attempts=7, flags=["smtp"])
    def send(payload: Any) -> None: ...

    return send


@pytest.fixture
def plain(app: App) -> Task[Any, ..., Any]:
    @app.task
    def plain_task(payload: Any) -> None: ...

    return plain_task


def stored(connection: psycopg.Connection, schema: str, job_id: int) -> dict[str, Any]:
    query = sql.SQL("""
        select j.*, p.payload::text as payload from {gw}.jobs as j join {gw}._private_jobs as p using (id) where id = %s
    """).format(gw=sql.Identifier(schema))
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute(query, (job_id,)).fetchone()
    assert row is not None
    return row


def count(connection: psycopg.Connection, schema: str) -> int:
    query = sql.SQL("select count(*) from {gw}.jobs").format(gw=sql.Identifier(schema))
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def blocking(task: Task[Any, ..., Any], *arguments: Any, **options: Any) -> Job:
    return task.defer(*arguments, **options)


def asynchronous(task: Task[Any, ..., Any], *arguments: Any, **options: Any) -> Job:
    return asyncio.run(task.defer_async(*arguments, **options))


both = pytest.mark.parametrize("defer", [blocking, asynchronous])


@every
@odd
@both
def test_all_options_are_stored_as_given_and_returned(
    mail: Task[Any, ..., Any], connection: psycopg.Connection, schema: str, defer: Callable[..., Job]
) -> None:
    job = defer(
        mail, {"to": "Åda"}, job_key="k", queue="q", run_at=TOMORROW, priority=-5, max_attempts=2, flags=["b", "a"]
    )
    row = stored(connection, schema, job.id)
    assert (row["task_identifier"], row["queue_name"], row["key"]) == ("send", "q", "k")
    assert (row["priority"], row["max_attempts"], row["attempts"]) == (-5, 2, 0)
    assert row["run_at"] == TOMORROW
    assert row["flags"] == {"a": True, "b": True}
    assert row["payload"] == '{"to":"Åda"}'
    assert (job.task, job.queue, job.key, job.priority, job.max_attempts) == ("send", "q", "k", -5, 2)
    assert (job.run_at, job.flags, job.payload) == (TOMORROW, ("a", "b"), {"to": "Åda"})
    assert (job.attempts, job.revision, job.locked_at, job.locked_by, job.last_error) == (0, 0, None, None, None)
    assert job.created_at == row["created_at"]


@both
def test_what_is_not_said_comes_from_the_task_and_then_from_the_database(
    mail: Task[Any, ..., Any], plain: Task[Any, ..., Any], defer: Callable[..., Job]
) -> None:
    job = defer(mail)
    assert (job.queue, job.priority, job.max_attempts, job.flags, job.payload) == ("mail", 3, 7, ("smtp",), {})
    job = defer(plain, flags=[])
    assert (job.queue, job.priority, job.max_attempts, job.flags, job.payload) == (None, 0, 25, (), {})


def test_a_delay_counts_from_the_databases_clock(app: App, connection: psycopg.Connection, schema: str) -> None:
    for delay in (90, 90.5, dt.timedelta(minutes=2)):
        job = app.add_job("later", delay=delay)
        seconds = delay.total_seconds() if isinstance(delay, dt.timedelta) else delay
        assert job.run_at - job.created_at == dt.timedelta(seconds=seconds)


@every
def test_a_job_joins_the_callers_transaction(
    plain: Task[Any, ..., Any], connection: psycopg.Connection, database: str, schema: str
) -> None:
    with psycopg.connect(database) as own:
        plain.defer(connection=own)
        plain.defer_many([1, 2], connection=own)
        assert count(connection, schema) == 0
        own.rollback()
        plain.defer(connection=own)
        own.commit()
    assert count(connection, schema) == 1


@every
def test_a_job_joins_the_callers_asynchronous_transaction(
    plain: Task[Any, ..., Any], connection: psycopg.Connection, database: str, schema: str
) -> None:
    async def add() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            await plain.defer_async(connection=own)
            await plain.defer_many_async([1, 2], connection=own)
            assert count(connection, schema) == 0
            await own.rollback()
            await plain.defer_async(connection=own)
            await own.commit()

    asyncio.run(add())
    assert count(connection, schema) == 1


def test_the_callers_connection_is_left_as_it_was(plain: Task[Any, ..., Any], database: str) -> None:
    with psycopg.connect(database, autocommit=True, row_factory=psycopg.rows.dict_row) as own:
        plain.defer({"n": 1}, connection=own)
        assert own.execute("""select '{"a": 0.5}'::json as j""").fetchone() == {"j": {"a": 0.5}}


@pytest.mark.parametrize("bad", [{"a": {1}}, {1: 2}, float("nan"), [object()]])
def test_a_payload_that_json_cannot_hold_is_refused_before_anything_is_sent(
    plain: Task[Any, ..., Any], connection: psycopg.Connection, database: str, schema: str, bad: Any
) -> None:
    with psycopg.connect(database) as own:
        own.execute("select 1")
        with pytest.raises(PayloadError, match=r"payload of task 'plain_task'"):
            plain.defer(bad, connection=own)
        with pytest.raises(PayloadError, match=r"payload of task 'plain_task' \(number 1 of the jobs to add\)"):
            plain.defer_many([{}, bad], connection=own)
        plain.defer(connection=own)  # the transaction is as good as before
    assert count(connection, schema) == 1


def test_the_wrong_kind_of_connection_is_named(plain: Task[Any, ..., Any], connection: psycopg.Connection) -> None:
    with pytest.raises(JobOptionError, match=r"connection cannot be a psycopg\.Connection here"):
        asyncio.run(plain.defer_async(connection=connection))  # type: ignore[call-overload]
    with pytest.raises(JobOptionError, match="connection cannot be a str here"):
        plain.defer(connection="host=localhost")  # type: ignore[call-overload]


def test_a_keyed_job_is_replaced(plain: Task[Any, ..., Any], connection: psycopg.Connection, schema: str) -> None:
    first = plain.defer({"n": 1}, job_key="k", run_at=TOMORROW)
    second = plain.defer({"n": 2}, job_key="k")
    assert (second.id, second.revision, second.payload) == (first.id, 1, {"n": 2})
    third = plain.defer({"n": 3}, job_key="k", job_key_mode="preserve_run_at", run_at=TOMORROW)
    assert (third.id, third.run_at) == (first.id, second.run_at)
    assert count(connection, schema) == 1


@both
def test_unsafe_dedupe_returns_the_job_that_is_there_with_its_own_names(
    mail: Task[Any, ..., Any], plain: Task[Any, ..., Any], defer: Callable[..., Job]
) -> None:
    first = defer(mail, {"n": 1}, job_key="k")
    second = defer(plain, {"n": 2}, job_key="k", job_key_mode="unsafe_dedupe")
    assert (second.id, second.task, second.queue, second.payload) == (first.id, "send", "mail", {"n": 1})


@every
@odd
def test_many_jobs_are_added_in_order(plain: Task[Any, ..., Any], mail: Task[Any, ..., Any]) -> None:
    jobs = plain.defer_many({"n": number} for number in range(500))
    assert [job.payload["n"] for job in jobs] == list(range(500))
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)
    assert {job.task for job in jobs} == {"plain_task"}


def test_many_jobs_may_have_options_of_their_own(mail: Task[Any, ..., Any]) -> None:
    jobs = mail.defer_many([{"n": 0}, mail.spec({"n": 1}, job_key="k", queue="other", delay=60), None])
    assert [(job.queue, job.key, job.payload) for job in jobs] == [
        ("mail", None, {"n": 0}),
        ("other", "k", {"n": 1}),
        ("mail", None, {}),
    ]
    assert jobs[1].run_at - jobs[1].created_at == dt.timedelta(minutes=1)


def test_jobs_with_one_key_in_a_call_become_one(plain: Task[Any, ..., Any]) -> None:
    jobs = plain.defer_many([plain.spec([1], job_key="k"), plain.spec([2], job_key="k"), plain.spec([3])])
    assert sorted((job.key or "", job.payload) for job in jobs) == [("", [3]), ("k", [1, 2])]


def test_jobs_of_several_tasks_are_added_together(app: App) -> None:
    specs = [JobSpec(task="a", payload=1, flags=("x", "y")), JobSpec(task="b", queue="q"), JobSpec(task="a")]
    jobs = app.add_jobs(specs)
    assert [(job.task, job.queue, job.flags) for job in jobs] == [
        ("a", None, ("x", "y")),
        ("b", "q", ()),
        ("a", None, ()),
    ]
    jobs = asyncio.run(app.add_jobs_async(specs))
    assert [job.task for job in jobs] == ["a", "b", "a"]


def test_specs_that_cannot_be_added_together_are_refused(plain: Task[Any, ..., Any], mail: Task[Any, ..., Any]) -> None:
    with pytest.raises(JobOptionError, match="given a spec of task 'send'"):
        plain.defer_many([mail.spec()])
    with pytest.raises(JobOptionError, match="share one job_key_mode"):
        plain.defer_many(
            [plain.spec(job_key="a", job_key_mode="replace"), plain.spec(job_key="b", job_key_mode="preserve_run_at")]
        )
    with pytest.raises(JobOptionError, match="only available for one job at a time"):
        plain.defer_many([plain.spec(job_key="a", job_key_mode="unsafe_dedupe")])


def test_no_jobs_are_no_statement(plain: Task[Any, ..., Any]) -> None:
    assert plain.defer_many([]) == []
    assert asyncio.run(plain.defer_many_async(iter(()))) == []


def test_a_schema_that_is_not_there_is_named_with_what_to_run(empty_database: str) -> None:
    app = App(registry=Registry(), database_url=empty_database)
    with pytest.raises(SchemaPendingError, match="'graphile_worker' holds no queue: run `pgtasks migrate`"):
        app.add_job("x")
    app.close()


def test_a_server_that_is_not_there_is_the_answer_at_once() -> None:
    app = App(registry=Registry(), database_url=f"postgresql://ada:secret@127.0.0.1:{free_port()}/x")
    with pytest.raises(DatabaseUnavailableError, match="no server answers at") as caught:
        app.add_job("x")
    assert "secret" not in str(caught.value)
    with pytest.raises(DatabaseUnavailableError, match="no server answers at"):
        asyncio.run(app.add_job_async("x"))


def test_a_database_that_is_missing_is_named(database: str) -> None:
    app = App(registry=Registry(), database_url=make_conninfo(database, dbname="nowhere"))
    with pytest.raises(DatabaseUnavailableError, match="create it, or correct its name"):
        app.add_job("x")


def test_a_session_that_the_server_has_ended_is_replaced_unseen(app: App, connection: psycopg.Connection) -> None:
    async def twice() -> None:
        await app.add_job_async("x")
        terminate_others(connection)
        await app.add_job_async("x")

    app.add_job("x")
    terminate_others(connection)
    app.add_job("x")
    asyncio.run(twice())
    assert count(connection, "graphile_worker") == 4


def test_several_event_loops_one_after_another_add_jobs(app: App, connection: psycopg.Connection, schema: str) -> None:
    for _ in range(3):
        asyncio.run(app.add_job_async("x"))
    assert count(connection, schema) == 3


def test_threads_add_jobs_side_by_side(app: App, connection: psycopg.Connection, schema: str) -> None:
    def add() -> None:
        for _ in range(20):
            app.add_job("x")

    threads = [threading.Thread(target=add) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(connection, schema) == 320


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 and later: it is what is tested
def test_a_forked_child_adds_jobs_on_connections_of_its_own(
    app: App, connection: psycopg.Connection, schema: str
) -> None:
    app.add_job("x")
    pid = os.fork()
    if pid == 0:
        try:
            app.add_job("x")
            app.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    app.add_job("x")
    assert count(connection, schema) == 3


def test_a_role_that_may_not_use_the_schema_is_told_so(database: str, connection: psycopg.Connection) -> None:
    role = f"nobody_{os.getpid()}_{threading.get_ident()}"
    connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    try:
        app = App(registry=Registry(), database_url=make_conninfo(database, user=role))
        with pytest.raises(DatabaseUnavailableError, match="may not do this"):
            app.add_job("x")
        app.close()
    finally:
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def terminate_others(connection: psycopg.Connection) -> None:
    connection.execute("""
        select pg_terminate_backend(pid, 10000) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()
    """)
