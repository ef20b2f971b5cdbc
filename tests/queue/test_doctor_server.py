"""What the doctor tells of the server and of the way to it: held cleanup, settings, connections, poolers, clocks."""

from __future__ import annotations

import datetime as dt
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgtasks.queue.migrate import migrate
from tests.queue.diagnosis import Doctor, cure, facts
from tests.servers import NEWEST, versions
from tests.sql.queue import Queue
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.embedded.cluster import Cluster
    from pgtasks.queue.doctor import FindingName
    from tests.pgbouncer import PgBouncer
    from tests.servers import Server, Servers

SECRET = "hush"


@contextmanager
def running(cluster: Cluster) -> Iterator[str]:
    """Start a cluster, with the schema in it, and give its connection string."""
    cluster.start()
    try:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            migrate(connection)
        yield cluster.conninfo()
    finally:
        cluster.stop("immediate")


@pytest.fixture(scope="module", params=[15, 16, 18], ids="pg{}".format)
def odd_server(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """A server that can prepare transactions and make logical slots, and to which 100,000 transactions are many."""
    if request.param not in versions():
        pytest.skip(f"PostgreSQL {request.param} is not here")
    options = {
        "wal_level": "logical",
        "max_prepared_transactions": "2",
        "autovacuum": "off",
        "autovacuum_freeze_max_age": "100000",
    }
    with running(servers.cluster(request.param, **options)) as conninfo:
        yield conninfo


@pytest.fixture
def odd(odd_server: str) -> Iterator[Queue]:
    with psycopg.connect(odd_server, autocommit=True) as connection:
        yield Queue(connection, "graphile_worker")


@pytest.fixture
def odd_doctor(odd_server: str) -> Iterator[Doctor]:
    doctor = Doctor(odd_server)
    yield doctor
    doctor.close()


EXPECTED: tuple[FindingName, ...] = ("unsafe_setting", "autovacuum_off", "wraparound")
"""What is found on that server in any case, or once another test has been there."""


# Held cleanup


@pytest.mark.every_postgres
def test_a_transaction_that_has_a_snapshot(doctor: Doctor, queue: Queue, other: Queue) -> None:
    other.run("set application_name = 'the \"shop\"'")
    other.run("begin isolation level repeatable read")
    other.add_job("send", payload=f'{{"secret": "{SECRET}"}}')
    assert doctor.look() == [], "it is still young"
    found = doctor.only("long_transaction", older_than=0.0)
    assert found.level == "warning"
    assert facts(found, "pid", "state", "role") == (other.pid, "idle in transaction", "postgres")
    assert found.facts["seconds"] > 0
    assert found.facts["transactions"] > 0
    assert f"session {other.pid} ('the \"shop\"', role 'postgres'" in found.what
    assert SECRET not in repr(found)
    cure(queue.conn, found)
    other.conn.close()
    wait_until(lambda: doctor.find("long_transaction", older_than=0.0) == [], what="the end of that session")


def test_what_a_session_does_is_told_without_what_it_does_it_with(doctor: Doctor, other: Queue) -> None:
    statements = {
        f"insert into {{gw}}.migrations (id) values (length('{SECRET}')+50)": "insert into graphile_worker.migrations",
        f"/* {SECRET} */ select '{SECRET}'": None,
        f"select $x${SECRET}$x$": "select",
        f'select "{SECRET}" from (select 1 as "{SECRET}") as t': "select",
        f"  SELECT\n now(), '{SECRET}'": "SELECT\n now",
    }
    for statement, shown in statements.items():
        other.run("begin isolation level repeatable read")
        other.conn.execute(statement.replace("{gw}", other.schema).encode())
        found = doctor.only("long_transaction", older_than=0.0)
        assert found.facts["command"] == shown
        assert SECRET not in repr(found)
        other.run("rollback")


def test_a_transaction_that_has_neither_read_nor_written_holds_nothing(doctor: Doctor, other: Queue) -> None:
    other.run("begin")
    other.run("select 1")
    assert doctor.look(older_than=0.0) == []
    other.run("rollback")


def test_a_transaction_of_another_database_counts_if_it_has_written(
    server: Server, doctor: Doctor, queue: Queue, empty_database: str
) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select 1")
        assert [
            found for found in doctor.look(older_than=0.0) if found.facts["database"] == connection.info.dbname
        ] == []
        connection.execute("create table t ()")
        found = doctor.only("long_transaction", older_than=0.0)
        assert found.facts["database"] == connection.info.dbname


def test_only_the_oldest_are_told_and_the_others_counted(doctor: Doctor, queue: Queue) -> None:
    with ExitStack() as stack:
        sessions = [stack.enter_context(queue.another()) for _ in range(4)]
        for session in sessions:
            session.run("begin")
            session.run("insert into {gw}._private_tasks (identifier) values (%s)", str(session.pid))
        found = doctor.find("long_transaction", older_than=0.0, shown=2)
        assert [one.facts["pid"] for one in found] == [session.pid for session in sessions[:2]]
        assert "(and 2 transactions more)" in found[1].what
        for session in sessions:
            session.run("rollback")


def test_a_prepared_transaction(odd: Queue, odd_doctor: Doctor) -> None:
    odd.run("begin")
    odd.run("insert into {gw}._private_tasks (identifier) values ('x')")
    odd.run("prepare transaction 'it''s'")
    assert odd_doctor.look(ignore=EXPECTED) == []
    found = odd_doctor.only("prepared_transaction", older_than=0.0)
    assert found.level == "warning"
    assert facts(found, "gid", "database", "role") == ("it's", "postgres", "postgres")
    assert found.commands[1] == "rollback prepared 'it''s';"
    odd.run(found.commands[1])
    assert odd_doctor.find("prepared_transaction", older_than=0.0) == []


def test_a_prepared_transaction_that_locks_a_table(odd: Queue, odd_doctor: Doctor) -> None:
    odd.run("begin")
    odd.run("lock table {gw}._private_job_queues in share mode")
    odd.run("prepare transaction 'locking'")
    found = odd_doctor.only("table_lock")
    assert found.what.startswith("a prepared transaction holds ShareLock on '_private_job_queues'")
    odd.run("rollback prepared 'locking'")


def test_a_logical_replication_slot(odd: Queue, odd_doctor: Doctor) -> None:
    odd.run("select pg_create_logical_replication_slot('nobody', 'pgoutput')")
    assert odd_doctor.look(ignore=EXPECTED) == []
    found = odd_doctor.only("replication_slot", transactions=0)
    assert found.level == "warning"
    assert facts(found, "slot", "type", "active", "transactions") == ("nobody", "logical", False, None)
    assert found.facts["catalog_transactions"] >= 0
    assert found.facts["wal_bytes"] >= 0
    assert "system catalogs" in found.what
    cure(odd.conn, found)
    assert odd_doctor.find("replication_slot", transactions=0) == []


def test_a_standby_and_its_slot(servers: Servers) -> None:
    primary = servers.cluster()
    with running(primary) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("select pg_create_physical_replication_slot('standby')")
        connection.execute("checkpoint")
        with standby_of(primary, servers, conninfo, connection) as (standby, restart):
            doctor = Doctor(conninfo)
            with psycopg.connect(standby.conninfo()) as reader:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select count(*) from graphile_worker.jobs")
                wait_until(lambda: doctor.find("standby", transactions=0), what="the standby's feedback")
                found = doctor.only("standby", transactions=0)
                assert (found.level, found.facts["standby"]) == ("warning", "walreceiver")
                assert "hot_standby_feedback" in found.what
                on_standby = Doctor(standby.conninfo())
                names = on_standby.names()
                assert names[0] == "read_only"
                assert "unseen" not in names
                on_standby.close()
            restart(primary_slot_name="standby")
            with psycopg.connect(standby.conninfo()) as reader:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select count(*) from graphile_worker.jobs")
                wait_until(lambda: doctor.find("replication_slot", transactions=0), what="the standby's feedback")
                found = doctor.only("replication_slot", transactions=0)
                assert facts(found, "slot", "type", "active") == ("standby", "physical", True)
                assert found.facts["transactions"] >= 0
                assert found.commands == (), "one that is in use is not dropped"
            doctor.close()


@contextmanager
def standby_of(
    primary: Cluster, servers: Servers, conninfo: str, connection: psycopg.Connection[Any]
) -> Iterator[tuple[Cluster, Callable[..., None]]]:
    """Start a standby, made as a copy of the primary's files, and give it and what restarts it with other settings."""
    socket = conninfo_to_dict(conninfo)
    settings = {
        "primary_conninfo": f"host={socket['host']} port={socket['port']} user=postgres",
        "hot_standby_feedback": "on",
        "wal_receiver_status_interval": "1",
    }
    standby = servers.missing_cluster(NEWEST, **settings)
    connection.execute("select pg_backup_start('copy', true)")
    shutil.copytree(primary.directory, standby.directory, ignore=shutil.ignore_patterns("postmaster.*", "server.lock"))
    row = connection.execute("select labelfile from pg_backup_stop(false)").fetchone()
    assert row is not None
    (standby.directory / "backup_label").write_text(row[0])
    (standby.directory / "standby.signal").touch()
    owner = primary.directory.stat()
    for path in (standby.directory, *standby.directory.rglob("*")):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    standby.directory.chmod(0o700)

    def restart(**changed: str) -> None:
        standby.stop()
        with (standby.directory / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in changed.items())
        standby.start()

    standby.start()
    try:
        yield standby, restart
    finally:
        standby.stop("immediate")


# Settings


def test_autovacuum_that_is_off(odd_doctor: Doctor) -> None:
    found = odd_doctor.only("autovacuum_off")
    assert (found.level, found.facts) == ("problem", {"settings": ["autovacuum"]})
    assert found.commands == ("alter system set autovacuum = on;", "select pg_reload_conf();")


def test_settings_by_which_a_crash_costs_data(doctor: Doctor) -> None:
    found = {finding.facts["setting"]: finding.level for finding in doctor.look(ignore=())}
    assert found == {"fsync": "warning", "full_page_writes": "warning", "synchronous_commit": "note"}


def test_transactions_that_get_too_old(odd: Queue, odd_doctor: Doctor) -> None:
    with odd.another() as holder:
        holder.run("begin")
        holder.run("select pg_current_xact_id()")  # autovacuum comes when it must, off or not, and can do nothing
        odd.run("do $$ begin for n in 1..160000 loop perform pg_current_xact_id(); commit; end loop; end $$")
        found = odd_doctor.find("wraparound")
        assert {finding.level for finding in found} == {"warning"}
        assert found[0].facts["database"]
        assert "graphile_worker._private_jobs" in [finding.facts.get("table") for finding in found]
        holder.run("rollback")


@pytest.mark.every_postgres
def test_a_role_that_may_only_read(database: str, schema: str) -> None:
    doctor = Doctor(make_conninfo(database, options="-c default_transaction_read_only=on"), schema)
    found = doctor.only("read_only")
    doctor.close()
    assert found.level == "problem"
    assert "default_transaction_read_only is on" in found.what


def test_connections_that_are_nearly_used_up(servers: Servers) -> None:
    options = {"max_connections": "10", "superuser_reserved_connections": "2", "max_wal_senders": "0"}
    with running(servers.cluster(NEWEST, **options)) as conninfo, ExitStack() as stack:
        doctor = Doctor(conninfo)
        assert doctor.look() == []
        for _ in range(7):
            stack.enter_context(psycopg.connect(conninfo))
        # A session that the doctor has just ended may still be there.
        told = "8 of the server's 8 connections are in use"
        wait_until(lambda: doctor.only("connections").what == told, what=told)
        assert doctor.only("connections").level == "warning"
        doctor.close()


def test_room_for_notifications_that_gets_scarce(servers: Servers) -> None:
    with running(servers.cluster(18, max_notify_queue_pages="64")) as conninfo:
        doctor = Doctor(conninfo)
        with psycopg.connect(conninfo) as deaf, psycopg.connect(conninfo, autocommit=True) as connection:
            deaf.execute("listen anything")
            deaf.commit()
            deaf.execute("select 1")
            for _ in range(40):
                connection.execute("select pg_notify('anything', repeat('x', 7900))")
            found = doctor.only("notification_queue")
            assert found.level == "warning"
            assert found.facts["usage"] > 0.5
        doctor.close()


# Poolers


def test_a_pooler_in_transaction_mode(start_pgbouncer: Callable[..., PgBouncer], schema: str) -> None:
    doctor = Doctor(start_pgbouncer("transaction").conninfo, schema)
    found = doctor.only("unheard_notifications")
    assert found.level == "warning"
    assert "pool_mode = transaction" in found.what
    assert doctor.names() == ["unheard_notifications"], "everything else can be looked at"
    doctor.close()


def test_a_pooler_in_transaction_mode_of_which_each_connection_gets_another_session(
    start_pgbouncer: Callable[..., PgBouncer], schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.queue.doctor.connection._shares_a_session", lambda *_: False)
    doctor = Doctor(start_pgbouncer("transaction").conninfo, schema)
    assert doctor.names() == ["unheard_notifications"]
    doctor.close()


def test_a_pooler_in_session_mode(start_pgbouncer: Callable[..., PgBouncer], schema: str) -> None:
    doctor = Doctor(start_pgbouncer("session").conninfo, schema)
    assert [(found.name, found.level) for found in doctor.look()] == [("pooler", "note")]
    doctor.close()


def test_a_pooler_where_nobody_is_to_listen(start_pgbouncer: Callable[..., PgBouncer], schema: str) -> None:
    doctor = Doctor(start_pgbouncer("transaction").conninfo, schema)
    found = doctor.only("pooler", listen=False)
    assert "poll" in found.what
    doctor.close()


def test_a_way_round_the_pooler(
    start_pgbouncer: Callable[..., PgBouncer], database: str, schema: str, empty_database: str
) -> None:
    doctor = Doctor(start_pgbouncer("transaction").conninfo, schema)
    assert "listen_url" in doctor.only("pooler", listen_at=database).what
    found = doctor.only("unheard_notifications", listen_at=empty_database)
    assert found.what == "what is sent at database_url is not heard at listen_url"
    doctor.close()


def test_an_address_to_listen_at_where_no_server_is(doctor: Doctor) -> None:
    found = doctor.only("unseen", listen_at="host=127.0.0.1 port=1")
    assert found.facts["checks"] == ["notifications"]
    assert "onnection refused" in found.what


@pytest.mark.every_postgres
def test_an_address_to_listen_at_without_a_pooler_is_no_finding(doctor: Doctor, database: str) -> None:
    assert doctor.look(listen_at=database) == []


# The clock


@pytest.mark.parametrize(("off", "told"), [(60, "behind"), (-3600, "ahead of"), (0, None)])
def test_a_clock_that_is_far_off(doctor: Doctor, off: int, told: str | None) -> None:
    found = doctor.find("clock", now=lambda: dt.datetime.now(dt.UTC) + dt.timedelta(seconds=off))
    if told is None:
        assert found == []
    else:
        assert found[0].level == "warning"
        assert told in found[0].what
        assert found[0].facts["lead"] == pytest.approx(-off, abs=30)


def test_a_slow_answer_is_no_clock_that_is_off(doctor: Doctor) -> None:
    moments = [dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes) for minutes in (-9, 9, -8, 8, -7, 7)]
    assert doctor.find("clock", now=iter(moments).__next__) == []
