"""What a worker does when the database does not do what it is asked: it waits, says so once, and loses nothing."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import pgtasks
from pgtasks.database import Database as Pool
from pgtasks.database import Operation
from pgtasks.database.errors import is_outage
from pgtasks.queue.migrate import migrate
from pgtasks.sql import Statements
from pgtasks.worker.link import DatabaseLink
from pgtasks.worker.timeouts import TIMEOUTS
from tests.servers import NEWEST, Server
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Servers
    from tests.worker.conftest import Database, StartWorker, Worker


EFFECTS = """
    create table if not exists effects (
        position bigint generated always as identity primary key, job_id bigint, attempt int, what text, pid int
    )
"""
OURS = "application_name like 'pgtasks %%'"
"""Sessions of workers, in `pg_stat_activity`."""


@pytest.fixture(scope="module")
def server(servers: Servers) -> Iterator[Server]:
    """A server of these tests' own, which they restart and break."""
    yield from start_server(servers)


@pytest.fixture
def other_server(servers: Servers) -> Iterator[Server]:
    """Another one."""
    yield from start_server(servers)


def start_server(servers: Servers, **options: str) -> Iterator[Server]:
    # Commits survive the end of the server's processes: what it has said was done is done.
    cluster = servers.cluster(
        NEWEST, max_connections="40", synchronous_commit="on", max_notify_queue_pages="64", **options
    )
    cluster.start()
    server = Server(NEWEST, cluster)
    yield server
    server.close()
    cluster.stop("immediate")


@pytest.fixture
def db(db: Database) -> Iterator[Database]:
    """The test's own look at the database, which may take another session."""
    yield db
    db.connection.close()


def reconnect(db: Database) -> None:
    """Give the test a session again."""
    db.connection.close()
    db.connection = psycopg.connect(db.app.database.conninfo, autocommit=True)


def add(db: Database, count: int, task: str = "note") -> set[int]:
    query = "select (graphile_worker.add_job(%s)).id from generate_series(1, %s)"
    return {row[0] for row in db.rows(query, task, count)}


def settled(db: Database, worker: Worker, jobs: set[int]) -> None:
    """Wait until all jobs have run and are gone, and make sure that no process has ended over it."""
    db.wait(lambda: db.count() == 0, f"an empty queue; the worker's log:\n{worker.text[-3000:]}")
    assert set(db.effects()) == jobs
    assert db.locked() == 0
    assert not worker.records("process_exited")
    assert worker.stop() == 0


def outages(worker: Worker) -> list[str]:
    """The logs' words for it, one for each process that has noticed."""
    return [record["error"] for record in worker.records("database_unavailable")]


# The server goes, and comes back


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_loses_no_job_and_ends_no_process(
    db: Database, server: Server, start_worker: StartWorker, mode: Any
) -> None:
    jobs = add(db, 300)
    worker = start_worker("--processes", "2", "--concurrency", "4")
    db.wait_for_effects(20)
    server.cluster.restart(mode)
    reconnect(db)
    settled(db, worker, jobs | add(db, 10))
    # One line for each of the three processes that may have noticed, however often it has tried.
    assert len(outages(worker)) <= 3
    assert "error connecting" not in worker.text


def test_a_server_that_stays_away_is_waited_for_and_reported_once(
    db: Database, server: Server, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_for("worker_ready")
    server.cluster.stop("fast")
    worker.wait_for("database_unavailable")
    worker.wait_for("listen_lost")
    wait_until(lambda: len({record.get("worker") for record in worker.records("database_unavailable")}) == 3, 60)
    server.cluster.start()
    reconnect(db)
    jobs = add(db, 10)
    worker.wait_for("database_restored", 3)
    settled(db, worker, jobs)
    assert len(outages(worker)) == 3
    assert len(worker.records("listen_lost")) == 1


def test_sessions_that_an_administrator_ends_are_made_anew(db: Database, start_worker: StartWorker) -> None:
    jobs = add(db, 400)
    worker = start_worker("--processes", "2", "--concurrency", "4")
    for part in range(1, 5):
        db.wait_for_effects(part * 60)
        db.rows(f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")
    settled(db, worker, jobs)


def test_a_server_without_a_connection_left_is_waited_for(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    taken: list[psycopg.Connection] = []

    def noticed() -> bool:
        """Take each session that becomes free, as many as the worker loses."""
        db.rows(f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(db.app.database.conninfo))
        return any("no connection left" in error or "too many clients" in error for error in outages(worker))

    try:
        wait_until(noticed, 60, f"an outage for lack of connections:\n{worker.text}")
        jobs = add(db, 10)
    finally:
        for connection in taken:
            connection.close()
    settled(db, worker, jobs)


# The server takes no writes


def test_a_server_that_was_made_read_only_is_waited_for(
    db: Database, server: Server, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_for("worker_ready")
    db.connection.execute("set default_transaction_read_only = off")
    db.connection.execute("alter system set default_transaction_read_only = on")
    try:
        db.connection.execute("select pg_reload_conf()")
        jobs = add(db, 10)
        worker.wait_for("database_unavailable")
        assert "read-only" in outages(worker)[0]
    finally:
        db.connection.execute("alter system reset default_transaction_read_only")
        db.connection.execute("select pg_reload_conf()")
    settled(db, worker, jobs)


def test_after_a_failover_the_server_that_takes_writes_is_found(
    db: Database, server: Server, other_server: Server, start_worker: StartWorker
) -> None:
    name = db.connection.info.dbname
    with psycopg.connect(other_server.conninfo(), autocommit=True) as admin:
        admin.execute(f'create database "{name}"'.encode())
    here, there = (psycopg.conninfo.conninfo_to_dict(each.conninfo(name)) for each in (server, other_server))
    both = f"host={here['host']},{there['host']} port={here['port']},{there['port']} user=postgres dbname={name}"
    with psycopg.connect(other_server.conninfo(name), autocommit=True) as successor:
        migrate(successor, "graphile_worker")
        successor.execute(EFFECTS)
        worker = start_worker("--processes", "1", env={"PGTASKS_DATABASE_URL": both})
        worker.wait_for("worker_ready")
        first = add(db, 1)
        db.wait_for_effects(1)
        db.connection.execute("set default_transaction_read_only = off")
        db.connection.execute("alter system set default_transaction_read_only = on")
        try:
            db.connection.execute("select pg_reload_conf()")
            wait_until(
                lambda: successor.execute(
                    "select 1 from pg_stat_activity where query ilike 'listen \"worker:migrate%'"
                ).fetchone(),
                60,
                f"the listener on the other server:\n{worker.text}",
            )
            successor.execute("select graphile_worker.add_job('note')")
            wait_until(
                lambda: successor.execute("select 1 from effects").fetchone(), 60, f"the job there:\n{worker.text}"
            )
            wait_until(
                lambda: successor.execute("select 1 from graphile_worker._pgtasks_workers").fetchone(),
                60,
                "the worker's registration there, without which nobody would find its jobs if its host were lost",
            )
        finally:
            db.connection.execute("alter system reset default_transaction_read_only")
            db.connection.execute("select pg_reload_conf()")
        assert set(db.effects()) == first
        assert worker.stop() == 0


# A statement fails, and the database is there


@pytest.mark.parametrize("event", ["update", "delete"])
@pytest.mark.parametrize(
    "state",
    [
        "40001",  # serialization failure
        "40P01",  # deadlock
        "53100",  # disk full
        "53200",  # out of memory
        "53400",  # a limit of the server's configuration
        "55P03",  # lock timeout
        "57014",  # cancelled
        "58030",  # the disk does not work
        "25006",  # read-only
    ],
)
def test_a_claim_or_an_end_that_fails_is_tried_again(
    db: Database, start_worker: StartWorker, state: str, event: str
) -> None:
    """The server raises these errors here because a trigger does; further down are those that can be had for real."""
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    db.connection.execute(f"""
        create sequence failures;
        create function fail() returns trigger language plpgsql as $$
        begin
            if nextval('failures') <= 3 then
                raise exception 'as the test has it' using errcode = '{state}';
            end if;
            return coalesce(new, old);
        end $$;
        create trigger fail before {event} on graphile_worker._private_jobs for each row execute function fail();
    """)
    jobs = add(db, 3)
    settled(db, worker, jobs)
    assert db.value("select last_value from failures") > 3
    assert len(db.effects()) == 3
    undone = state in ("40001", "40P01", "55P03", "57014")
    assert len(worker.records("statement_undone")) == undone
    assert len(outages(worker)) == (not undone)


def test_ends_that_take_too_long_together_are_written_a_few_at_a_time(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute("""
        create function cut_off() returns trigger language plpgsql as $$
        begin
            if (select count(*) > 3 from gone) then
                raise exception 'too many' using errcode = 'query_canceled';
            end if;
            return null;
        end $$;
        create trigger cut_off after delete on graphile_worker._private_jobs
        referencing old table as gone for each statement execute function cut_off();
    """)
    add(db, 100, "nothing")
    worker = start_worker("--processes", "1")
    settled(db, worker, set())
    assert worker.records("statement_undone", statement="finish_successes")
    assert len(worker.records("job_succeeded")) == 100


def test_an_error_that_the_databases_encoding_cannot_hold_is_stored_in_ascii(
    db: Database, server: Server, start_worker: StartWorker
) -> None:
    name = f"{db.connection.info.dbname}_latin1"
    db.connection.execute(f"create database {name} encoding latin1 locale 'C' template template0".encode())
    with psycopg.connect(server.conninfo(name), autocommit=True) as other:
        migrate(other, "graphile_worker")
        other.execute(EFFECTS)
        other.execute(
            r"""select graphile_worker.add_job('fail', '{"message": "\u0141\u00f3d\u017a"}', max_attempts := 1)"""
        )
        worker = start_worker("--once", "--processes", "1", env={"PGTASKS_DATABASE_URL": server.conninfo(name)})
        assert worker.wait() == 0
        row = other.execute("select attempts, split_part(last_error, E'\\n', 1) from graphile_worker.jobs").fetchone()
        assert row == (1, r"ValueError: \u0141\xf3d\u017a")
    server.drop_database(name)


def test_serializable_transactions_are_tried_again_where_they_collide(db: Database, start_worker: StartWorker) -> None:
    db.connection.execute(
        f"""alter database "{db.connection.info.dbname}"
        set default_transaction_isolation = 'serializable'""".encode()
    )
    add(db, 300, "nothing")
    db.connection.execute("select graphile_worker.add_job('nothing', queue_name := 'q') from generate_series(1, 100)")
    worker = start_worker("--processes", "2", "--concurrency", "4")
    settled(db, worker, set())
    assert len(worker.records("job_succeeded")) == 400
    assert not worker.records("job_retrying")


def waits_for_lock(db: Database, statement: str) -> bool:
    query = f"select count(*) from pg_stat_activity where {OURS} and wait_event_type = 'Lock' and query ilike %s"
    return bool(db.value(query, f"%{statement}%"))


def test_a_deadlock_is_tried_again(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    with psycopg.connect(db.app.database.conninfo) as rival:
        rival.execute("set local deadlock_timeout = '1h'")  # so that it is the worker that finds it
        rival.execute("lock table graphile_worker._private_job_queues in access exclusive mode")
        with psycopg.connect(db.app.database.conninfo, autocommit=True) as adder:
            # Neither needs a queue, but a claim looks at them.
            jobs = {adder.execute("select (graphile_worker.add_job('note')).id").fetchone()[0] for _ in range(3)}  # type: ignore[index]
        db.wait(lambda: waits_for_lock(db, "_pgtasks_claim_jobs"), "a claim that waits for the queues")
        rival.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        worker.wait_for("statement_undone")
    settled(db, worker, jobs)
    assert "deadlock" in worker.records("statement_undone")[0]["error"]
    assert not outages(worker)


@pytest.mark.parametrize("how", ["lock_timeout", "statement_timeout", "cancelled"])
def test_a_claim_that_is_cut_off_while_it_waits_is_tried_again(
    db: Database, start_worker: StartWorker, how: str
) -> None:
    if how != "cancelled":
        db.connection.execute(f"""alter database "{db.connection.info.dbname}" set {how} = '1s'""".encode())
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    jobs = add(db, 3)
    db.wait_for_effects(3)
    with psycopg.connect(db.app.database.conninfo) as rival:
        rival.execute("set local lock_timeout = 0")
        rival.execute("set local statement_timeout = 0")
        rival.execute("lock table graphile_worker._private_jobs in access exclusive mode")

        def cut_off() -> bool:
            if how == "cancelled":
                db.rows(
                    f"select pg_cancel_backend(pid) from pg_stat_activity where {OURS} and wait_event_type = 'Lock'"
                )
            return bool(worker.records("statement_undone", statement="claim_jobs"))

        db.wait(cut_off, f"a claim that was cut off:\n{worker.text}")
    settled(db, worker, jobs | add(db, 3))
    assert not outages(worker)


# The server runs out of something


def test_a_full_disk_is_waited_for(db: Database, small_disk: Path, start_worker: StartWorker) -> None:
    db.connection.execute(f"create tablespace small location '{small_disk}'".encode())
    try:
        db.connection.execute("alter table graphile_worker._private_jobs set tablespace small")
        worker = start_worker("--processes", "1", "--concurrency", "4")
        worker.wait_for("worker_ready")
        with db.connection.transaction():
            # Pages without any room: to lock a job is to write its row anew, on a page that does not exist yet.
            jobs = {
                row[0]
                for row in db.rows("""
                    select (graphile_worker.add_job('note', json_build_object('x', repeat(md5(n::text), 55)))).id
                    from generate_series(1, 40) n
                """)
            }
            db.connection.execute("alter table graphile_worker._private_jobs set (toast_tuple_target = 8160)")
            filler = small_disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        worker.wait_for("database_unavailable")
        assert "No space left" in outages(worker)[0]
        filler.unlink()
        settled(db, worker, jobs)
    finally:
        db.connection.execute("alter table graphile_worker._private_jobs set tablespace pg_default")
        db.connection.execute("drop tablespace small")


def test_a_full_queue_of_notifications_is_waited_for(db: Database, start_worker: StartWorker) -> None:
    jobs = add(db, 3)
    db.connection.execute("""
        create function tell() returns trigger language plpgsql as $$
        begin
            perform pg_notify('deleted', old.id::text);
            return old;
        end $$;
        create trigger tell before delete on graphile_worker._private_jobs for each row execute function tell();
    """)
    with psycopg.connect(db.app.database.conninfo, autocommit=True) as listener:
        listener.execute("listen anything")
        with listener.transaction():  # which keeps it from reading what comes
            listener.execute("select 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded):
                db.connection.execute(
                    "select pg_notify('anything', n || repeat('x', 7900)) from generate_series(1, 1000) n"
                )
            worker = start_worker("--processes", "1")
            worker.wait_for("database_unavailable")
            assert "NOTIFY queue" in outages(worker)[0]
    # The look empties it, once the listener's session has ended in the server too.
    db.wait(lambda: db.value("select pg_notification_queue_usage()") == 0, "an empty queue of notifications")
    settled(db, worker, jobs)


def test_a_server_without_memory_for_locks_is_waited_for(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    with psycopg.connect(db.app.database.conninfo, autocommit=True) as hog:
        with contextlib.suppress(psycopg.errors.OutOfMemory):
            hog.execute("select pg_advisory_lock(n) from generate_series(1, 1000000) n")
        with contextlib.suppress(psycopg.errors.OutOfMemory):
            while True:
                hog.execute("select pg_advisory_lock(1000001 + (random() * 1e9)::int)")
        worker.wait_for("database_unavailable")
        assert "out of shared memory" in outages(worker)[0]
        hog.execute("select pg_advisory_unlock_all()")
    settled(db, worker, add(db, 3))


# How long a statement may take


def test_every_statement_of_the_worker_has_its_own_limit() -> None:
    package = Path(pgtasks.__file__).parent
    makers: dict[str, set[str]] = {}
    for file in (package / "queue").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (names := operations_in(node)):
                makers[node.name] = names
    used: set[str] = set()
    for file in [*(package / "worker").glob("*.py"), *(package / "cron").glob("*.py")]:
        tree = ast.parse(file.read_text())
        used |= operations_in(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgtasks.queue."):
                for alias in node.names:
                    used |= makers.get(alias.name, set())
    assert used == set(TIMEOUTS)
    assert {name for name, seconds in TIMEOUTS.items() if seconds is None} == {
        "finish_in_transaction",
        "keep_result",
    }


def operations_in(tree: ast.AST) -> set[str]:
    """The names in all calls of `Operation`."""
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Operation"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def test_a_statement_that_takes_too_long_is_cancelled_and_told_from_an_outage(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Operation("claim_jobs", "select pg_sleep(3600)", (), len)
    quick = Operation("heartbeat", "select 1", (), len)

    async def run() -> None:
        pool = Pool(db.app.database.conninfo, max_connections=2, application_name="pgtasks slow")
        link = DatabaseLink(pool, Statements("graphile_worker"), "slow")
        await link.attempt(quick)
        waiting = asyncio.create_task(link.attempt(slow, within=0.5))
        while not waiting.done():
            await link.attempt(quick)
        with pytest.raises(TimeoutError, match="claim_jobs was given up") as caught:
            await waiting
        assert is_outage(caught.value)
        away = [link.away]
        assert messages(caplog) == ["statement_undone"]
        with pytest.raises(TimeoutError):
            await link.attempt(slow, within=0.1)
        assert [*away, link.away] == [False, True]
        assert messages(caplog) == ["statement_undone", "database_unavailable"]
        await pool.aclose()

    asyncio.run(run())
    query = "select count(*) from pg_stat_activity where query like 'select pg_sleep(3600)%%' and state = 'active'"
    db.wait(lambda: db.value(query) == 0, "the end of the statements that were given up")


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().partition(" ")[0] for record in caplog.records if record.name == "pgtasks.worker"]
