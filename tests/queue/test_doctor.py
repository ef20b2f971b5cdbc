"""What the doctor tells of the schema, of tables and indexes, and of jobs and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgtasks.errors import DatabaseUnavailableError
from pgtasks.queue.doctor import FindingName, Level
from pgtasks.queue.doctor.limits import TIMEOUTS
from pgtasks.queue.migrate import migrate
from pgtasks.sql import ROOT
from pgtasks.sql.dumped import dumped_indexes
from tests.queue.diagnosis import Doctor, cure, facts
from tests.servers import free_port
from tests.sql.queue import Background, Queue, wait_until_blocked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Servers

TASK = "resize"


@pytest.fixture(params=[15, 16, 18], ids="pg{}".format)
def careful_database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """A database with the schema, on a server that is set as a server should be."""
    from tests.servers import versions

    if request.param not in versions():
        pytest.skip(f"PostgreSQL {request.param} is not here")
    cluster = servers.cluster(request.param, fsync="on", full_page_writes="on", synchronous_commit="on")
    cluster.start()
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        migrate(connection)
    yield cluster.conninfo()
    cluster.stop("immediate")


def register(queue: Queue, worker: str = "w", age: str = "0 seconds", host: str = "web1") -> None:
    """Make a worker known that was last heard of so long ago."""
    queue.run("select {gw}._pgtasks_register_worker(%s, 'h', %s, 77, '1.2')", worker, host)
    queue.run("update {gw}._pgtasks_workers set heartbeat_at = now() - %s::interval where id = %s", age, worker)


def add_due(queue: Queue, age: str, task: str = TASK, number: int = 1, **options: object) -> None:
    """Add jobs that have been due for so long."""
    for _ in range(number):
        job = queue.add(task, **options)
        queue.run("update {gw}._private_jobs set run_at = now() - %s::interval where id = %s", age, job)


# Nothing


def test_a_healthy_database_gives_nothing(careful_database: str) -> None:
    doctor = Doctor(careful_database)
    assert doctor.look(ignore=()) == []
    with psycopg.connect(careful_database, autocommit=True) as connection:
        queue = Queue(connection, "graphile_worker")
        register(queue)
        queue.add(TASK)
        queue.add(TASK, queue_name="q")
        queue.add(TASK, run_at="2100-01-01")
        queue.lock(queue.add(TASK, queue_name="r"), "w")
        assert doctor.look(ignore=()) == []
        with connection.transaction():
            queue.add(TASK)
            assert doctor.look(ignore=()) == []
    doctor.close()


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_every_look_is_possible_on_every_server(doctor: Doctor) -> None:
    assert doctor.look() == []


def test_each_statement_has_a_time_limit() -> None:
    files = {path.stem for path in (ROOT / "statements").glob("doctor_*.sql")}
    assert set(TIMEOUTS) == files | {"notify", "migrate", "hidden_from"}


def test_what_is_found_comes_in_the_order_of_its_weight(doctor: Doctor, queue: Queue) -> None:
    queue.run("drop index {gw}.jobs_main_index")
    queue.add(TASK)
    queue.set(queue.add(TASK), attempts=25)
    assert [finding.level for finding in doctor.look()] == ["problem", "warning", "note"]


def test_a_server_that_is_not_there_is_an_error_and_no_finding() -> None:
    doctor = Doctor(f"host=127.0.0.1 port={free_port()}")
    with pytest.raises(DatabaseUnavailableError, match="no server answers"):
        doctor.look()


# The schema


def test_a_schema_that_is_missing_or_empty(empty_database: str) -> None:
    doctor = Doctor(empty_database, "my-queue")
    found = doctor.only("schema_missing")
    assert (found.level, found.commands) == ("problem", ("pgtasks migrate --schema my-queue",))
    assert doctor.names() == ["schema_missing"]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute('create schema "my-queue"')
    assert "is empty" in doctor.only("schema_missing").what
    doctor.close()


def test_a_schema_that_is_something_else(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create schema graphile_worker create table customers ()")
    doctor = Doctor(empty_database)
    found = doctor.only("schema_refused")
    assert found.level == "problem"
    assert "is not a queue" in found.cure
    doctor.close()


def test_a_schema_that_is_not_up_to_date(doctor: Doctor, queue: Queue) -> None:
    queue.run("delete from {gw}._pgtasks_migrations where id = 9")
    queue.run("drop index {gw}._pgtasks_forgotten_names_task_idx")
    queue.run("drop function {gw}._pgtasks_cleanup")
    assert doctor.names() == ["schema_pending"], "what is pending is not told as missing"
    found = doctor.only("schema_pending")
    assert (found.level, found.commands) == ("warning", ("pgtasks migrate",))
    assert "1 step and 1 function pending" in found.what


def test_a_table_that_a_pending_step_will_make_is_not_looked_at(doctor: Doctor, queue: Queue) -> None:
    queue.run("delete from {gw}._pgtasks_migrations where id >= 8")
    queue.run("drop table {gw}._pgtasks_workers")
    assert doctor.names() == ["schema_pending", "unseen"]
    assert doctor.only("unseen").facts["checks"] == ["doctor_backlog", "doctor_stale_workers"]


def test_a_schema_of_a_newer_release(doctor: Doctor, queue: Queue) -> None:
    queue.run("insert into {gw}._pgtasks_migrations (id, name) values (99, 'faster')")
    queue.run("drop index {gw}.jobs_main_index")
    assert doctor.names() == ["schema_newer"], "nobody knows which indexes it needs"
    assert "0099_faster" in doctor.only("schema_newer").what


def test_functions_that_somebody_has_replaced(doctor: Doctor, queue: Queue) -> None:
    name = "{gw}.force_unlock_workers(worker_ids text[])"
    queue.run(f"create or replace function {name} returns void language sql as 'select 1'")
    found = doctor.only("functions_replaced")
    assert found.facts["functions"] == ["force_unlock_workers"]
    assert found.commands == ("pgtasks migrate --upgrade-functions",)


def test_functions_of_graphile_worker(doctor: Doctor, queue: Queue) -> None:
    queue.run("update {gw}._pgtasks_functions set public = false")
    assert [(found.name, found.level) for found in doctor.look()] == [("functions_of_graphile_worker", "note")]


# Roles


@pytest.fixture
def stranger(queue: Queue, database: str) -> Iterator[str]:
    """How a role connects that may nothing."""
    queue.run("create role stranger login")
    yield make_conninfo(database, user="stranger")
    queue.run("drop owned by stranger")
    queue.run("drop role stranger")


@pytest.mark.every_postgres
def test_a_role_that_may_nothing_sees_what_it_can_and_is_told_the_rest(
    queue: Queue, other: Queue, stranger: str
) -> None:
    other.run("begin")
    other.add(TASK)
    doctor = Doctor(stranger)
    found = doctor.look(older_than=0.0)
    doctor.close()
    other.run("rollback")
    assert [finding.name for finding in found] == ["rows_hidden", "hidden_sessions"]
    assert found[1].facts["sessions"] >= 2
    assert found[1].commands == ('grant pg_read_all_stats to "stranger";',)


def test_a_role_with_grants_to_which_the_rows_are_hidden(queue: Queue, stranger: str) -> None:
    queue.run("grant usage on schema {gw} to stranger")
    queue.run("grant select on all tables in schema {gw} to stranger")
    queue.run("grant pg_read_all_stats to stranger")
    queue.add(TASK)
    doctor = Doctor(stranger)
    [found] = doctor.look()
    assert (found.name, found.level) == ("rows_hidden", "problem")
    cure(queue.conn, found)
    assert doctor.names() == ["no_worker"]
    doctor.close()


def test_a_role_that_a_policy_lets_see_rows(queue: Queue, stranger: str) -> None:
    queue.run("grant usage on schema {gw} to stranger")
    queue.run("grant select on all tables in schema {gw} to stranger")
    queue.run("grant pg_read_all_stats to stranger")
    for table in ("jobs", "tasks", "job_queues"):
        queue.run(f"create policy seeing on {{gw}}._private_{table} to stranger using (true)")
    queue.add(TASK)
    doctor = Doctor(stranger)
    assert doctor.names() == ["no_worker", "unseen"]
    assert doctor.only("unseen").facts["checks"] == ["migrate"]
    doctor.close()


def test_a_role_that_sees_rows_and_lacks_rights_to_them(queue: Queue, stranger: str) -> None:
    queue.run("alter role stranger bypassrls")
    queue.run("grant pg_read_all_stats to stranger")
    doctor = Doctor(stranger)
    [found] = doctor.look()
    doctor.close()
    assert (found.name, found.level) == ("unseen", "unseen")
    assert found.facts["checks"] == [
        "migrate",
        "doctor_backlog",
        "doctor_stale_workers",
        "doctor_old_locks",
        "doctor_failed_jobs",
    ]
    assert "permission denied for schema graphile_worker" in found.what


# Indexes


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_each_index_that_is_missing_is_told_and_made_again(doctor: Doctor, queue: Queue) -> None:
    def definitions() -> list[dict[str, Any]]:
        return queue.rows(
            "select i.tablename, i.indexname, i.indexdef, c.contype from pg_indexes as i "
            "left join pg_constraint as c on c.conname = i.indexname and c.connamespace = %s::regnamespace "
            "where i.schemaname = %s order by i.indexname",
            queue.name,
            queue.schema,
        )

    before = definitions()
    assert len(before) == len(dumped_indexes())
    for index in dumped_indexes():
        if index.constraint is None:
            queue.run(f"drop index {{gw}}.{index.name}")
        else:
            queue.run(f"alter table {{gw}}.{index.table} drop constraint {index.name}")
    found = doctor.look()
    assert [finding.facts["index"] for finding in found if finding.name == "index_missing"] == [
        index.name for unique in (True, False) for index in dumped_indexes() if index.unique is unique
    ]
    assert {finding.level for finding in found if finding.name == "index_missing"} == {"problem", "warning"}
    for finding in found:
        cure(queue.conn, finding)
    assert definitions() == before
    assert doctor.look() == []


def test_an_index_with_another_name_will_do(doctor: Doctor, queue: Queue) -> None:
    queue.run("alter index {gw}.jobs_main_index rename to another")
    assert doctor.look() == []


@pytest.mark.parametrize("name", ["jobs_main_index", "jobs_key_key1"])
def test_another_index_of_the_same_name_is_none(doctor: Doctor, queue: Queue, name: str) -> None:
    if name == "jobs_main_index":
        queue.run("drop index {gw}.jobs_main_index")
        queue.run("create index jobs_main_index on {gw}._private_jobs (id)")
    else:
        queue.run("alter table {gw}._private_jobs drop constraint jobs_key_key1")
        queue.run("alter table {gw}._private_jobs add constraint jobs_key_key1 unique (key, id)")
    found = doctor.only("index_missing")
    assert "another one of that name" in found.what
    cure(queue.conn, found)
    assert doctor.look() == []


@pytest.mark.every_postgres
def test_an_index_that_could_not_be_built_is_built_anew(
    doctor: Doctor, queue: Queue, other: Queue, schema: str
) -> None:
    definition = queue.value("select pg_get_indexdef('{gw}.jobs_main_index'::regclass)")
    queue.run("drop index {gw}.jobs_main_index")
    with queue.another() as building:
        other.run("begin")
        other.add(TASK)  # the build waits for this transaction
        build = Background(lambda: building.run(definition.replace("INDEX", "INDEX CONCURRENTLY")))
        wait_until_blocked(queue, building, by=other)
        assert [(found.name, found.level) for found in doctor.look()] == [("index_invalid", "note")]
        queue.run("select pg_cancel_backend(%s)", building.pid)
        with pytest.raises(psycopg.errors.QueryCanceled):
            build.result()
        other.run("rollback")
    found = doctor.only("index_invalid")
    assert found.level == "warning"
    assert found.commands == (f"reindex index concurrently {schema}.jobs_main_index;",)
    cure(queue.conn, found)
    assert doctor.look() == []


@pytest.mark.every_postgres
def test_what_a_failed_build_has_left_behind_is_dropped(doctor: Doctor, queue: Queue) -> None:
    queue.run("insert into {gw}._private_tasks (identifier) values ('a'), ('b')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        queue.run('create unique index concurrently "x y" on {gw}._private_tasks ((length(identifier)))')
    found = doctor.only("index_invalid")
    assert found.commands == (f'drop index concurrently {queue.schema}."x y";',)
    cure(queue.conn, found)
    assert doctor.look() == []


# Tables


def fill(queue: Queue, jobs: int, **columns: str) -> None:
    queue.add(TASK)
    queue.run("delete from {gw}._private_jobs")
    named, values = "".join(f", {column}" for column in columns), "".join(f", {value}" for value in columns.values())
    queue.run(
        f"insert into {{gw}}._private_jobs (task_id{named}) select (select id from {{gw}}._private_tasks){values} "
        f"from generate_series(1, {jobs}) as n"
    )


def count(session: Queue) -> None:
    """Have what this session has done put into the statistics: later it would be added to what a vacuum has counted."""
    session.run("select pg_stat_force_next_flush()")


@pytest.mark.every_postgres
def test_dead_rows_that_no_vacuum_removes(doctor: Doctor, queue: Queue, other: Queue) -> None:
    fill(other, 60_000, run_at="'2100-01-01'::timestamptz")
    other.run("delete from {gw}._private_jobs where id % 100 <> 0")
    count(other)
    found = doctor.only("dead_rows")
    assert found.level == "warning"
    assert found.facts["dead_rows"] >= 50_000
    assert found.facts["table"] == f"{queue.schema}._private_jobs"
    assert "never" in found.what
    cure(queue.conn, found)
    assert "dead_rows" not in doctor.names()


def test_dead_rows_are_nothing_where_vacuum_has_just_been(doctor: Doctor, queue: Queue, other: Queue) -> None:
    fill(other, 60_000, run_at="'2100-01-01'::timestamptz")
    count(other)
    queue.run("vacuum {gw}._private_jobs")
    other.run("delete from {gw}._private_jobs")
    count(other)
    assert doctor.look() == []
    assert "vacuum was last there" in doctor.only("dead_rows", unvacuumed=0.0).what


@pytest.mark.parametrize("option", ["autovacuum_enabled", "toast.autovacuum_enabled"])
def test_autovacuum_that_is_off_for_a_table(doctor: Doctor, queue: Queue, option: str) -> None:
    queue.run(f"alter table {{gw}}._private_jobs set ({option} = off)")
    found = doctor.only("autovacuum_off")
    assert (found.level, found.facts["toast"]) == ("warning", "toast" in option)
    cure(queue.conn, found)
    assert doctor.look() == []


@pytest.mark.every_postgres
def test_a_table_and_indexes_that_are_far_larger_than_what_they_hold(doctor: Doctor, queue: Queue) -> None:
    fill(queue, 50_000, run_at="'2100-01-01'::timestamptz")
    queue.run("vacuum analyze {gw}._private_jobs")
    assert doctor.look(size=2**20) == []
    queue.run("delete from {gw}._private_jobs where id <> (select max(id) from {gw}._private_jobs)")
    count(queue)
    queue.run("vacuum analyze {gw}._private_jobs")
    found = {finding.name: finding for finding in doctor.look(size=2**20)}
    assert found["table_size"].level == "note"
    assert found["index_size"].level == "warning"
    assert found["index_size"].facts["bytes"] > 2**20
    assert doctor.look() == [], "so little is nothing by default"
    for finding in doctor.look(size=2**20):
        cure(queue.conn, finding)
    assert doctor.look(size=2**20) == []


# Jobs and workers


@pytest.mark.every_postgres
@pytest.mark.every_schema
def test_jobs_that_are_due_while_no_worker_is_alive(doctor: Doctor, queue: Queue) -> None:
    add_due(queue, "2 hours", number=2)
    add_due(queue, "1 hour", "greet", queue_name="q")
    found = doctor.only("no_worker")
    assert found.level == "problem"
    assert found.facts["tasks"] == {TASK: 2, "greet": 1}
    assert found.facts["seconds"] == pytest.approx(7200, abs=600)
    assert f"2 jobs of {TASK!r}, 1 job of 'greet'; the oldest has been for 2 h" in found.what
    register(queue)
    assert "no_worker" not in doctor.names()


def test_jobs_that_are_not_due_need_no_worker(doctor: Doctor, queue: Queue) -> None:
    queue.add(TASK, run_at="2100-01-01")
    queue.add(TASK, run_at="2100-01-01", queue_name="q")
    queue.run("update {gw}._private_jobs set run_at = 'infinity' where job_queue_id is not null")
    queue.lock(queue.add(TASK, queue_name="r"), "w")
    assert doctor.look() == []


def test_more_tasks_than_are_named_are_counted(doctor: Doctor, queue: Queue) -> None:
    for number in range(7):
        add_due(queue, f"{10 - number} hours", f"t{number}")
    add_due(queue, "1 minute", "t6", number=3, priority=5)
    found = doctor.only("no_worker")
    assert list(found.facts["tasks"]) == ["t0", "t1", "t2", "t3", "t4"]
    assert "(and 2 tasks more)" in found.what
    assert doctor.only("no_worker", shown=7).facts["tasks"]["t6"] == 4


def test_jobs_are_counted_up_to_a_limit(doctor: Doctor, queue: Queue) -> None:
    fill(queue, 1_500, priority="n % 3")
    assert f"1,000+ jobs of {TASK!r}" in doctor.only("no_worker").what


def test_the_job_that_has_waited_for_longest_is_found_however_many_kinds_of_others_there_are(
    doctor: Doctor, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.queue.doctor.jobs.KINDS", 3)
    for number in range(6):
        queue.add("scheduled", flags=[f"f{number}"], run_at="2100-01-01", priority=1)
        queue.add(f"t{number}", queue_name="q", run_at="2100-01-01", priority=1)
    add_due(queue, "2 hours", "last")
    add_due(queue, "1 hour", "queued", queue_name="q", priority=2)
    assert doctor.only("no_worker").facts["tasks"] == {"last": 1, "queued": 1}


def test_a_run_at_before_all_times(doctor: Doctor, queue: Queue) -> None:
    queue.add(TASK)
    queue.run("update {gw}._private_jobs set run_at = '-infinity'")
    assert "the oldest has been for ages" in doctor.only("no_worker").what


def test_a_worker_that_nobody_knows_and_that_holds_a_job_is_a_worker(doctor: Doctor, queue: Queue) -> None:
    queue.add(TASK)
    queue.lock(queue.add(TASK), "node", age="5 hours")
    assert "no_worker" in doctor.names()
    queue.lock(queue.add(TASK), "node")
    assert "no_worker" not in doctor.names()


def test_jobs_that_workers_do_not_take(doctor: Doctor, queue: Queue) -> None:
    register(queue)
    add_due(queue, "4 minutes")
    assert doctor.look() == []
    add_due(queue, "6 minutes")
    found = doctor.only("untaken_jobs")
    assert (found.level, found.facts["task"], found.facts["jobs"]) == ("warning", TASK, 2)
    assert doctor.names(older_than=600.0) == []


def test_jobs_that_wait_while_others_of_their_task_run(doctor: Doctor, queue: Queue) -> None:
    register(queue)
    add_due(queue, "6 minutes", number=2)
    queue.lock(queue.add(TASK), "w")
    assert doctor.names() == ["backlog"]


def test_a_task_runs_also_where_thousands_of_others_are_held(doctor: Doctor, queue: Queue) -> None:
    register(queue)
    add_due(queue, "6 minutes", number=2)
    queue.add_unkeyed(*({"identifier": "other"} for _ in range(1_100)))
    assert len(queue.claim(("other",), limit=1_100, worker="a")) == 1_100
    queue.lock(queue.add(TASK), "w")
    assert doctor.names() == ["backlog"]


def test_a_task_that_was_deleted_has_a_number(doctor: Doctor, queue: Queue) -> None:
    queue.add(TASK)
    queue.run("delete from {gw}._private_tasks")
    assert list(doctor.only("no_worker").facts["tasks"]) == ["unknown task 1"]


@pytest.mark.every_postgres
def test_a_worker_that_is_gone_with_its_jobs(doctor: Doctor, queue: Queue) -> None:
    register(queue, "w 1", age="2 hours")
    queue.lock(queue.add(TASK), "w 1")
    found = doctor.only("stale_worker")
    assert (found.level, found.facts["jobs"], found.facts["host"]) == ("warning", 1, "web1")
    assert "was last heard of 2 h ago and holds 1 job" in found.what
    assert found.commands == (), "the next worker takes over by itself"
    register(queue, "w2")
    found = doctor.only("stale_worker")
    assert found.level == "warning"
    assert found.commands == ("pgtasks workers unlock 'w 1'",)


def test_a_worker_that_is_gone_and_held_nothing(doctor: Doctor, queue: Queue) -> None:
    register(queue, age="2 hours")
    assert [(found.name, found.level) for found in doctor.look()] == [("stale_worker", "note")]
    queue.run("update {gw}._pgtasks_workers set retired_at = now(), released_at = now()")
    assert doctor.look() == []


def test_stale_after_decides_who_is_gone(doctor: Doctor, queue: Queue) -> None:
    register(queue, age="45 seconds")
    queue.add(TASK)
    assert doctor.names() == ["no_worker"]
    assert doctor.names(stale_after=20.0) == ["no_worker", "stale_worker"]
    assert doctor.names(stale_after=60.0) == []


@pytest.mark.every_postgres
def test_locks_that_are_older_than_four_hours(doctor: Doctor, queue: Queue) -> None:
    queue.lock(queue.add(TASK, queue_name="q"), "node", age="5 hours")
    queue.lock(queue.add(TASK), "node", age="6 hours")
    queue.lock(queue.add(TASK), "node", age="3 hours")
    found = doctor.only("old_lock")
    assert found.level == "warning"
    assert found.what.startswith("2 jobs and 1 queue have been locked")
    assert (found.facts["worker"], found.facts["jobs"], found.facts["queues"]) == ("node", 2, 1)
    assert found.commands == ("pgtasks workers unlock node",)
    queue.run("select * from {gw}._pgtasks_sweep_stale_locks()")
    assert "old_lock" not in doctor.names()


def test_failed_jobs_are_a_note(doctor: Doctor, queue: Queue) -> None:
    queue.set(queue.add(TASK), attempts=25)
    found = doctor.only("failed_jobs")
    assert (found.level, found.facts["jobs"]) == ("note", 1)
    assert found.what == "1 job has failed permanently"


# Locks and time limits


@pytest.mark.every_postgres
def test_a_lock_on_a_table_is_told_and_what_is_behind_it_is_not_looked_at(
    doctor: Doctor, queue: Queue, other: Queue
) -> None:
    other.run("begin")
    other.run("lock table {gw}._private_jobs in access exclusive mode")
    found = {finding.name: finding for finding in doctor.look()}
    assert found.keys() == {"table_lock", "unseen"}
    lock = found["table_lock"]
    assert lock.level == "problem"
    assert facts(lock, "pid", "mode", "granted") == (other.pid, "AccessExclusiveLock", True)
    assert lock.facts["relation"] == "_private_jobs"
    assert "doctor_backlog" in found["unseen"].facts["checks"]
    cure(queue.conn, lock)
    other.conn.close()
    wait_until(lambda: doctor.look() == [], what="the end of that session")


def test_whoever_waits_for_a_lock_on_a_table_keeps_others_waiting(doctor: Doctor, queue: Queue, other: Queue) -> None:
    other.run("begin")
    other.add(TASK)
    with queue.another() as altering:
        alter = Background(lambda: altering.run("alter table {gw}._private_jobs add check (priority < 100)"))
        wait_until_blocked(queue, altering, by=other)
        [lock] = doctor.find("table_lock", lock=0.0)
        other.run("rollback")
        alter.result()
    assert (lock.facts["pid"], lock.facts["granted"], lock.facts["blockers"]) == (altering.pid, False, [other.pid])
    assert doctor.look() == []


@pytest.mark.parametrize("table", ["_private_known_crontabs", "migrations", "_pgtasks_migrations"])
def test_a_lock_on_a_table_that_no_job_needs_is_not_told(
    doctor: Doctor, queue: Queue, other: Queue, table: str
) -> None:
    other.run("begin")
    other.run(f"lock table {{gw}}.{table} in access exclusive mode")
    queue.add(TASK)
    assert queue.finish_successes(*queue.claim((TASK,))) == []
    assert "table_lock" not in doctor.names(lock=0.0)
    other.run("rollback")


def test_locks_that_are_new_are_not_told(doctor: Doctor, queue: Queue, other: Queue) -> None:
    other.run("begin")
    other.run("lock table {gw}._private_tasks in share mode")
    assert doctor.look() == []
    assert doctor.names(lock=0.0) == ["table_lock"]
    other.run("rollback")


def test_a_look_that_takes_too_long_is_given_up(doctor: Doctor, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtasks.queue.doctor.limits.LOCK_TIMEOUT", 0.0)  # no limit
    monkeypatch.setattr("pgtasks.queue.doctor.limits.TIMEOUTS", dict.fromkeys(TIMEOUTS, 0.5))
    with queue.another() as holder:
        holder.run("begin")
        holder.run("lock table {gw}._pgtasks_workers in access exclusive mode")
        found = doctor.only("unseen")
    assert "doctor_stale_workers" in found.facts["checks"]
    assert "it took more than" in found.what


def test_nothing_is_changed(queue: Queue, database: str, schema: str) -> None:
    queue.add(TASK)
    queue.run("create role looker login bypassrls in role pg_read_all_data, pg_read_all_stats")
    doctor = Doctor(make_conninfo(database, user="looker"), schema)
    assert doctor.names() == ["no_worker"], "who may change nothing sees everything"
    doctor.close()
    queue.run("drop role looker")


# Words


def test_every_level_and_name_is_a_word() -> None:
    assert get_args(Level) == ("problem", "warning", "note", "unseen")
    assert len(set(get_args(FindingName))) == len(get_args(FindingName))
