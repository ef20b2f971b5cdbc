"""What the database can do: claim and delete, in two sessions that nothing is sent to or from."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from benchmarks.counting import drained
from benchmarks.peers.base import Peer
from benchmarks.results import MeasurementError, Role
from benchmarks.workers import JOBS, Queue
from pgtasks.queue.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.server import Server

BATCH = 500
SESSIONS = 2
CLAIM = f"""
    update {JOBS} as jobs
    set locked_at = now(), locked_by = 'limit', attempts = jobs.attempts + 1
    from (
        select id from {JOBS}
        where is_available and job_queue_id is null and priority >= -32768 and run_at <= now()
        order by priority, run_at, id limit {BATCH} for update skip locked
    ) as taken
    where jobs.id = taken.id
    returning jobs.id, jobs.payload
"""
"""Locks jobs as a worker has to, so that they are kept if it dies, and counts the attempt. The condition on the
priority, true of all, is the index's own: without it the index could not be used."""

PROCEDURE = f"""
    create procedure public.work_off() language plpgsql as $$
    declare
        v_ids bigint[];
    begin
        loop
            with taken as ({CLAIM}) select array_agg(taken.id) into v_ids from taken;
            commit;
            exit when v_ids is null;
            delete from {JOBS} where id = any(v_ids);
            commit;
        end loop;
    end
    $$
"""


class SchemaLimit(Peer):
    """A limit that is measured on the tables that pgtasks has, with all their indexes."""

    role = Role.LIMIT

    def install(self) -> None:
        """It needs nothing."""

    def clear(self) -> None:
        """Empty its queue."""
        self.queue.clear()

    @contextmanager
    def opened(self, server: Server) -> Iterator[None]:
        """Make a database with pgtasks' schema."""
        with (
            server.database(f"bench_{self.name}") as conninfo,
            psycopg.connect(conninfo, autocommit=True) as connection,
        ):
            migrate(connection)
            connection.execute(PROCEDURE)
            self.queue = Queue(conninfo, connection, server.directory / f"{self.name}.log")
            yield


class SQLAlone(SchemaLimit):
    """The same two statements, without a client."""

    name = "sql"
    title = "SQL alone"
    about = f"{SESSIONS} sessions that claim {BATCH} and delete"

    def throughput(self, jobs: int) -> float:
        """Let sessions work the table off, from inside the server."""
        self.queue.fill(jobs)
        errors: list[psycopg.Error] = []

        def session() -> None:
            with psycopg.connect(self.queue.conninfo, autocommit=True) as connection:
                try:
                    connection.execute("call public.work_off()")
                except psycopg.Error as error:
                    errors.append(error)

        threads = [threading.Thread(target=session) for _ in range(SESSIONS)]
        counter = self.queue.table.counter()
        with self.queue.table.gate(SESSIONS):
            for thread in threads:
                thread.start()
        rate = drained(counter, jobs, time.perf_counter(), lambda: not errors)
        for thread in threads:
            thread.join()
        if errors:
            raise MeasurementError(str(errors[0]))
        return rate
