"""The arena: a database, hosts that work on it, jobs for them, and what has to hold whatever happens."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks import App, JobSpec, Registry
from tests.faults.hosts import Host
from tests.faults.ledger import PLACE, Ledger
from tests.faults.verify import Outcome, verify
from tests.waiting import wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

LONG_FORM = os.environ.get("FAULTS") == "long"
"""Whether to run thousands of jobs and many faults in each test, and not hundreds and a few."""
PATIENCE = 300.0 if LONG_FORM else 80.0
"""How long to wait in vain, in seconds."""
CONCURRENCY = 4
"""Slots of a process."""
QUEUES = 5

TABLES = """
    create table booked (job_id bigint not null);
    create index on booked (job_id);

    -- The queue forgets the interruptions of jobs that are gone.
    create table interrupted (job_id bigint not null);
    create function note_interruption() returns trigger language plpgsql as $$
    begin
        insert into public.interrupted values (new.job_id);
        return new;
    end $$;
    create trigger note after insert or update on graphile_worker._pgtasks_interruptions
    for each row execute function note_interruption();
"""
SOON = "(run_at < now() + interval '30 minutes' or task_identifier like 'pay%')"
UNFINISHED = f"""
    select count(*) from graphile_worker.jobs
    where ((attempts < max_attempts and {SOON}) or locked_at is not null)
"""
HURRY = f"""
    select count(*) from graphile_worker.reschedule_jobs(array(
        select id from graphile_worker.jobs
        where locked_at is null and attempts < max_attempts
          and run_at > now() and {SOON}
    ), run_at := now())
"""


class Arena:
    """Where a fault test takes place.

    Args:
        conninfo: the database; pgtasks is installed in it, and `TABLES`.
        directory: for the ledger and the logs.
        rng: decides on everything that happens by chance.
        measure: takes what was measured, by name.
    """

    def __init__(
        self, conninfo: str, directory: Path, rng: random.Random, measure: Callable[[str, float], None]
    ) -> None:
        self.conninfo = conninfo
        self.rng = rng
        self.concurrency = CONCURRENCY
        self.measure = measure
        self.ledger = Ledger(directory / "ledger")
        self.hosts: list[Host] = []
        self.jobs: set[int] = set()
        self.touched: set[int] = set()
        """Jobs that were added again by their key, which may have given them new attempts."""
        self._directory = directory
        self._app = App(registry=Registry(), database_url=conninfo)
        self._connection: psycopg.Connection | None = None
        self._keys = 0

    # The database

    def value(self, query: str, *parameters: object) -> Any:
        return self.rows(query, *parameters)[0][0]

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database, for as long as it takes to get an answer: it may be away."""
        found: list[tuple[Any, ...]] = []

        def answered() -> bool:
            nonlocal found
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self.conninfo, autocommit=True, application_name="arena")
                found = self._connection.execute(query.encode(), parameters or None).fetchall()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answered, PATIENCE, "an answer of the database")
        return found

    def locked(self) -> list[tuple[Any, ...]]:
        """Return what is locked, and by whom."""
        return self.rows("""
            select 'job', id, locked_by from graphile_worker._private_jobs where locked_at is not null
            union all
            select 'queue', id, locked_by from graphile_worker._private_job_queues where locked_at is not null
        """)

    def held_by(self, worker: str) -> set[int]:
        """Return the ids of the jobs that a worker has claimed."""
        return {
            row[0] for row in self.rows("select id from graphile_worker._private_jobs where locked_by = %s", worker)
        }

    # Hosts

    def start(self, *options: str, conninfo: str | None = None, env: dict[str, str] | None = None, **more: Any) -> Host:
        """Start a host with two processes; wait for nothing."""
        host = Host(
            self.ledger,
            conninfo or self.conninfo,
            self._directory / f"host-{len(self.hosts)}.log",
            ("--processes", "2", "--concurrency", str(CONCURRENCY), *options),
            {PLACE: str(self.ledger.place), **(env or {})},
            **more,
        )
        self.hosts.append(host)
        return host

    # Jobs

    def add(self, jobs: int, *, seconds: float = 0.01, tasks: tuple[str, ...] = ("plain", "async")) -> set[int]:
        """Add jobs of all kinds in any order: queues, keys, last attempts, failures."""
        chance, specs = self.rng.random, []
        for _ in range(jobs):
            keyed = chance() < 0.05
            self._keys += keyed
            specs.append(
                JobSpec(
                    task=self.rng.choice(tasks),
                    payload={"seconds": seconds * self.rng.uniform(0.1, 2), "fail": chance() < 0.05},
                    queue=f"queue {self.rng.randrange(QUEUES)}" if chance() < 0.15 else None,
                    priority=self.rng.choice((0, 0, 0, 1)),
                    max_attempts=1 if chance() < 0.2 else None,
                    job_key=f"key {self._keys}" if keyed else None,
                )
            )
        return self._note(specs)

    def book(self, jobs: int, *, seconds: float = 0.01) -> set[int]:
        """Add transactional jobs, each of which has to leave one row, and no more."""
        tasks = ("book", "book_async")
        return self._note(
            [
                JobSpec(task=self.rng.choice(tasks), payload={"seconds": seconds * self.rng.uniform(0.1, 2)})
                for _ in range(jobs)
            ]
        )

    def pay(self, jobs: int) -> set[int]:
        """Add transactional jobs that take their process down now and then, until they succeed."""
        tasks, seed = ("pay", "pay_async"), self.rng.randrange
        return self._note(
            [
                JobSpec(task=self.rng.choice(tasks), payload={"seed": seed(10**9)}, max_attempts=1000)
                for _ in range(jobs)
            ]
        )

    def trouble(self, how: str, **options: Any) -> int:
        """Add a job that does this to its process."""
        [job] = self._note([JobSpec(task="trouble", payload={"how": how}, **options)])
        return job

    def fork_and_book(self, jobs: int) -> set[int]:
        """Add transactional jobs that fork."""
        return self._note([JobSpec(task="fork_and_book") for _ in range(jobs)])

    def touch(self) -> None:
        """Add a job again by a key that was used before: it is replaced, or superseded if it runs just now."""
        if self._keys:
            key = f"key {self.rng.randint(1, self._keys)}"
            self.touched |= {row[0] for row in self.rows("select id from graphile_worker.jobs where key = %s", key)}
            self.touched |= self._note([JobSpec(task="plain", payload={"seconds": 0.01, "fail": False}, job_key=key)])

    def _note(self, specs: list[JobSpec]) -> set[int]:
        ids: set[int] = set()
        # A lost connection leaves it open whether the jobs were added, and then they count as well as not: only while
        # the database is well are jobs added.
        ids.update(job.id for job in self._app.add_jobs(specs))
        self.jobs |= ids
        return ids

    def keep_busy(self, least: int = 150, **options: Any) -> None:
        """Add jobs until there are at least so many to run, those that only book not counted."""
        missing = least - int(self.value(f"{UNFINISHED} and task_identifier not like 'book%'"))
        if missing > 0:
            self.add(missing + least // 2, **options)

    # What happens

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, PATIENCE, what)

    def wait_for_runs(self, more: int) -> None:
        """Wait until so many more runs have ended than now."""
        until = self.ledger.ended() + more
        self.wait(lambda: self.ledger.ended() >= until, f"{more} more runs")

    def some_runs(self) -> None:
        """Wait for an instant of chance while jobs run."""
        self.wait_for_runs(self.rng.randint(5, 40))
        time.sleep(self.rng.uniform(0, 0.02))  # where in the claim, the run or the end of a job the fault comes

    def time_of_run(self, since: float, what: str, **of: Any) -> None:
        """Measure how long after `since` the first of these runs begins."""
        self.wait(lambda: self.ledger.first_run(since, **of) is not None, f"a run for the measurement {what!r}")
        at = self.ledger.first_run(since, **of)
        assert at is not None
        self.measure(what, at - since)

    def unfinished(self) -> int:
        """Return how many jobs have not ended; what waits for its back-off is hurried."""
        self.rows(HURRY)
        return int(self.value(UNFINISHED))

    def settle(self) -> None:
        """Wait until every job has succeeded or has failed for good."""

        self.wait(lambda: self.unfinished() == 0, "the end of all jobs")

    def finish(self) -> Outcome:
        """Let all jobs end and all hosts that still run, and check everything that has to hold."""
        self.settle()
        for host in self.hosts:
            if host.process.poll() is None:
                host.wait_for("worker_starting")  # before that a signal ends it as any other process
                assert host.stop() == 0, host.text
            host.wait_until_gone()
        return verify(self)

    def close(self) -> None:
        for host in self.hosts:
            host.close()
        self._app.close()
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
