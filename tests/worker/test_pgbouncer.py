"""Workers behind PgBouncer: in transaction mode everything but listening works, in session mode listening too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from pgtasks.database import Database as Pool
from pgtasks.queue.migrate import migrate
from tests.pgbouncer import PgBouncer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worker.conftest import Database, StartWorker, Worker


JOBS = 3000


def through(pgbouncer: PgBouncer) -> dict[str, str]:
    return {"PGTASKS_DATABASE_URL": pgbouncer.conninfo}


def add(db: Database, count: int, task: str = "note") -> None:
    db.connection.execute("select graphile_worker.add_job(%s) from generate_series(1, %s)", (task, count))


def test_eight_processes_run_thousands_of_jobs_over_five_connections(
    db: Database, start_worker: StartWorker, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pgbouncer = start_pgbouncer("transaction", 5)
    add(db, JOBS // 2)
    db.connection.execute(
        "select graphile_worker.add_job('note_async', queue_name := 'q' || n %% 7) from generate_series(1, %s) n",
        (JOBS // 2,),
    )
    worker = start_worker("--processes", "8", env=through(pgbouncer))
    worker.wait_for("listen_impossible")
    db.wait_for_effects(JOBS)
    db.wait_until_empty()
    servers = [row for row in pgbouncer.show("SERVERS") if row["database"] == "pooled"]
    assert 0 < len(servers) <= 5
    assert worker.stop() == 0
    assert len(db.effects()) == len(set(db.effects())) == JOBS
    assert db.locked() == 0
    assert "prepared statement" not in worker.text
    assert not worker.records("job_retrying"), worker.records("job_retrying")[0]
    assert not worker.records("database_unavailable")


def test_jobs_that_are_added_behind_a_transaction_pooler_are_found_by_polling(
    db: Database, start_worker: StartWorker, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pgbouncer = start_pgbouncer("transaction")
    worker = start_worker("--processes", "2", "--poll-interval", "0.2", env=through(pgbouncer))
    worker.wait_for("worker_ready")
    said = worker.wait_for("listen_impossible")
    assert "PgBouncer" in said["message"]
    assert "listen_url" in said["message"]
    for count in range(1, 4):
        add(db, 1)
        db.wait_for_effects(count)
    assert worker.stop() == 0
    assert len(worker.records("listen_impossible")) == 1
    assert not worker.records("listen_lost")


def assert_it_listens(db: Database, worker: Worker) -> None:
    """Run a job that only a notification can bring in time, and end the worker."""
    worker.wait_for("worker_ready")
    db.wait(lambda: listens(db), "a session that listens")
    add(db, 1)
    db.wait_for_effects(1)
    assert worker.stop() == 0
    assert not worker.records("listen_impossible")


def test_a_worker_behind_a_transaction_pooler_listens_where_listen_url_says(
    db: Database, database: str, start_worker: StartWorker, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pgbouncer = start_pgbouncer("transaction")
    environment = {**through(pgbouncer), "PGTASKS_LISTEN_URL": database}
    # So long an interval that only a notification can be what finds the job.
    worker = start_worker("--processes", "2", "--poll-interval", "3600", env=environment)
    assert_it_listens(db, worker)


def test_a_worker_listens_through_a_pooler_in_session_mode(
    db: Database, start_worker: StartWorker, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pgbouncer = start_pgbouncer("session")
    worker = start_worker("--processes", "2", "--poll-interval", "3600", env=through(pgbouncer))
    assert_it_listens(db, worker)


def test_transactional_jobs_are_exactly_once_behind_a_transaction_pooler(
    db: Database, start_worker: StartWorker, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pgbouncer = start_pgbouncer("transaction", 5)
    add(db, 100, "pay")
    add(db, 100, "pay_async")
    worker = start_worker("--processes", "2", "--once", env=through(pgbouncer))
    assert worker.wait() == 0
    assert db.value("select count(*) from ledger") == db.value("select count(distinct job_id) from ledger") == 200


def test_the_schema_is_installed_through_a_transaction_pooler(empty_database: str, pgbouncer_program: str) -> None:
    with PgBouncer(pgbouncer_program, empty_database, mode="transaction") as pgbouncer:
        with psycopg.connect(pgbouncer.conninfo, autocommit=True) as connection:
            assert migrate(connection, "graphile_worker").steps
        with psycopg.connect(empty_database) as connection:
            assert connection.execute("select count(*) from graphile_worker.jobs").fetchone() == (0,)


def test_nothing_is_prepared_on_connections_that_are_lent_through_a_pooler(
    database: str, start_pgbouncer: Callable[..., PgBouncer]
) -> None:
    pool = Pool(start_pgbouncer("transaction").conninfo)
    with pool.connection() as connection:
        for _ in range(20):
            connection.execute("select %s::int", (1,))
        assert connection.prepare_threshold is None
        assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
    pool.close()


def listens(db: Database) -> bool:
    found = db.value("""
        select count(*) from pg_stat_activity
        where query ilike 'listen "worker:migrate"%%' and datname = current_database()
    """)
    return bool(found)
