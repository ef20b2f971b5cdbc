"""Clearing away what nobody needs, while others add jobs: no job ever loses its task or its queue."""

from __future__ import annotations

import functools
import random
import threading
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import pytest
from psycopg import errors as pg

from pgtasks import CleanupResult, JobOptionError
from pgtasks.queue.claim import register_tasks
from tests.sql.mutations import without
from tests.sql.queue import Background, wait_until_blocked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks import App, CleanupOperation
    from tests.queue.conftest import Admin
    from tests.sql.queue import Queue

every = pytest.mark.one_postgres_each
odd = pytest.mark.every_schema

TASKS: Literal["GC_TASK_IDENTIFIERS"] = "GC_TASK_IDENTIFIERS"
QUEUES: Literal["GC_JOB_QUEUES"] = "GC_JOB_QUEUES"
FAILED: Literal["DELETE_PERMAFAILED_JOBS"] = "DELETE_PERMAFAILED_JOBS"
NAMES: tuple[CleanupOperation, ...] = (TASKS, QUEUES)

ADDS: dict[str, Callable[[Queue], Any]] = {
    "add_job": lambda session: session.add("send", queue_name="q"),
    "add_jobs": lambda session: session.add_jobs({"queue_name": "q"}, {"queue_name": "q"}),
    "add_unkeyed": lambda session: session.add_unkeyed({"queue_name": "q"}, {"queue_name": "q"}),
    "add_job with key": lambda session: session.add("send", queue_name="q", job_key="k"),
    "add_jobs with keys": lambda session: session.add_jobs({"queue_name": "q", "job_key": "k"}, {"queue_name": "q"}),
    "add_jobs with one key twice": lambda session: session.add_jobs(
        {"queue_name": "q", "job_key": "k"}, {"queue_name": "q", "job_key": "k"}
    ),
}
adds = pytest.mark.parametrize("add", ADDS.values(), ids=ADDS)


def result(**changed: Any) -> CleanupResult:
    return CleanupResult(**{"tasks": 0, "queues": 0, "jobs": 0, "more": False, "busy": (), **changed})


def names(queue: Queue) -> tuple[list[str], list[str]]:
    return (
        queue.values("select identifier from {gw}._private_tasks order by identifier"),
        queue.values("select queue_name from {gw}._private_job_queues order by queue_name"),
    )


def task_number(queue: Queue) -> int:
    number: int = queue.value("select id from {gw}._private_tasks where identifier = 'send'")
    return number


def dangling(queue: Queue) -> list[int]:
    """The jobs whose task or queue is missing."""
    return queue.values("""
        select id from {gw}._private_jobs as job
        where not exists (select from {gw}._private_tasks as task where task.id = job.task_id)
          or job.job_queue_id is not null
          and not exists (select from {gw}._private_job_queues as queue where queue.id = job.job_queue_id)
    """)


def run_all(queue: Queue) -> int:
    """Claim and finish all jobs that can be, and return how many that were."""
    count = 0
    while jobs := queue.claim():
        queue.finish(*({**job, "outcome": "success"} for job in jobs))
        count += len(jobs)
    return count


def patient(queue: Queue) -> None:
    """Let a cleanup wait for its locks as long as the test takes to get where it wants."""
    queue.run("alter function {gw}._pgtasks_cleanup set lock_timeout = '1min'")


def impatient(queue: Queue) -> None:
    """Let a cleanup not wait for long where it is to find a lock taken."""
    queue.run("alter function {gw}._pgtasks_cleanup set lock_timeout = '5ms'")


@pytest.fixture
def cleaner(queue: Queue) -> Iterator[Queue]:
    """A session for a cleanup; not in autocommit mode."""
    with psycopg.connect(queue.conn.info.dsn) as own:
        yield type(queue)(own, queue.schema)


@pytest.fixture
def third(queue: Queue) -> Iterator[Queue]:
    with queue.another() as session:
        yield session


# What is cleared away


@every
@odd
def test_tasks_and_queues_without_jobs_are_forgotten(admin: Admin, queue: Queue) -> None:
    for number in range(3):
        queue.add(f"t{number}", queue_name=f"q{number}")
    queue.run("delete from {gw}._private_jobs")
    queue.add("t1")
    queue.add("t2", queue_name="q0")
    assert admin.cleanup(TASKS) == result(tasks=1)
    assert names(queue) == (["t1", "t2"], ["q0", "q1", "q2"])
    assert admin.cleanup(QUEUES) == result(queues=2)
    assert names(queue) == (["t1", "t2"], ["q0"])
    assert admin.cleanup(TASKS, QUEUES) == result()


@every
def test_a_job_in_any_state_keeps_its_task_and_its_queue(admin: Admin, queue: Queue) -> None:
    states = ["ready", "scheduled", "running", "stale", "failed", "failed and stale"]
    made = {state: queue.add(state, queue_name=state, max_attempts=2) for state in states}
    unqueued = queue.add("unqueued")
    queue.set(made["scheduled"], run_at="infinity")
    queue.lock(made["running"])
    queue.lock(made["stale"], age="5 hours")
    queue.set(made["failed"], attempts=2)
    queue.set(made["failed and stale"], attempts=1)
    queue.lock(made["failed and stale"], age="5 hours")
    assert admin.cleanup(TASKS, QUEUES) == result()
    assert names(queue) == (sorted([*states, "unqueued"]), sorted(states))
    assert unqueued in queue.job_ids()


def test_a_queue_that_a_worker_has_locked_is_kept(admin: Admin, queue: Queue) -> None:
    queue.lock(queue.add(queue_name="q"))
    queue.run("delete from {gw}._private_jobs")
    assert admin.cleanup(QUEUES) == result()


@every
def test_permanently_failed_jobs_are_deleted_oldest_first(admin: Admin, queue: Queue) -> None:
    jobs = [queue.add(max_attempts=2) for _ in range(6)]
    for job_id in jobs[:4]:
        queue.set(job_id, attempts=2)
    queue.lock(jobs[0])
    assert admin.cleanup(FAILED, limit=2) == result(jobs=2, more=True)
    assert queue.job_ids() == [jobs[0], *jobs[3:]]
    assert admin.cleanup(FAILED, limit=2) == result(jobs=1)
    assert queue.job_ids() == [jobs[0], *jobs[4:]]


@every
def test_one_call_does_all_that_is_asked_for(admin: Admin, queue: Queue) -> None:
    queue.set(queue.add(queue_name="q"), attempts=25)
    assert admin.cleanup(QUEUES, FAILED, TASKS, FAILED) == result(tasks=1, queues=1, jobs=1)
    assert names(queue) == ([], [])


@every
def test_a_call_does_no_more_than_its_limit_and_says_that_there_is_more(admin: Admin, queue: Queue) -> None:
    for number in range(5):
        queue.add(f"t{number}", queue_name=f"q{number}")
    queue.run("delete from {gw}._private_jobs")
    assert admin.cleanup(TASKS, QUEUES, limit=3) == result(tasks=3, queues=3, more=True)
    assert admin.cleanup(TASKS, QUEUES, limit=3) == result(tasks=2, queues=2)


@every
@odd
@adds
def test_what_was_forgotten_is_registered_again_when_it_is_used_and_a_task_under_its_old_number(
    app: App, queue: Queue, add: Callable[[Queue], Any]
) -> None:
    first = queue.add_job("send", queue_name="q")
    run_all(queue)
    app.jobs.cleanup(TASKS, QUEUES)
    queue.add("another")
    queue.run("update {gw}._pgtasks_forgotten_names set ts = now() - interval '60 days'")
    add(queue)
    assert task_number(queue) == first["task_id"]
    assert queue.queue("q")["id"] > first["job_queue_id"]
    assert run_all(queue) > 0


def test_a_worker_that_starts_registers_a_forgotten_task_under_its_old_number(app: App, queue: Queue) -> None:
    before = queue.add_job("send")["task_id"]
    run_all(queue)
    app.jobs.cleanup(TASKS)
    assert app.run(register_tasks(app.statements, ["new", "send"])) == 2
    assert app.run(register_tasks(app.statements, ["new", "send"])) == 0
    assert task_number(queue) == before
    assert names(queue)[0] == ["new", "send"]


@adds
def test_a_forgotten_number_that_another_task_has_is_not_given_again(
    app: App, queue: Queue, add: Callable[[Queue], Any]
) -> None:
    before = queue.add_job("send")["task_id"]
    run_all(queue)
    app.jobs.cleanup(TASKS)
    queue.run("insert into {gw}._private_tasks (id, identifier) overriding system value values (%s, 'another')", before)
    add(queue)
    assert task_number(queue) > before
    assert run_all(queue) > 0


@every
@adds
def test_two_that_register_a_forgotten_task_at_once_give_it_one_number(
    app: App, queue: Queue, other: Queue, third: Queue, add: Callable[[Queue], Any]
) -> None:
    before = queue.add_job("send")["task_id"]
    run_all(queue)
    app.jobs.cleanup(TASKS)
    with other.conn.transaction():
        other.add("send")
        adding = Background(lambda: add(third))
        wait_until_blocked(queue, third)
    adding.result()
    assert queue.values("select distinct task_id from {gw}._private_jobs") == [before] == [task_number(queue)]


@every
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_cleanup_under_another_isolation_level_is_refused(app: App, database: str, level: str, queue: Queue) -> None:
    queue.add()
    run_all(queue)
    with (
        psycopg.connect(
            database, options=f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"
        ) as own,
        pytest.raises(JobOptionError, match=f"which {level.upper()} does not allow: run it in READ COMMITTED"),
    ):
        app.jobs.cleanup(TASKS, connection=own)
    assert names(queue)[0] == ["send"]


# Beside others


@every
@adds
@pytest.mark.parametrize("commit", [True, False])
def test_what_an_open_transaction_has_added_jobs_for_is_busy(
    admin: Admin, queue: Queue, other: Queue, add: Callable[[Queue], Any], commit: bool
) -> None:
    impatient(queue)
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.autocommit = False
    add(other)
    assert admin.cleanup(TASKS, QUEUES, FAILED) == result(busy=NAMES)
    if commit:
        other.conn.commit()
    else:
        other.conn.rollback()
    assert admin.cleanup(TASKS, QUEUES) == (result() if commit else result(tasks=1, queues=1))
    assert dangling(queue) == []
    assert (run_all(queue) > 0) is commit


@every
@pytest.mark.parametrize("operation", NAMES)
def test_what_another_cleanup_is_just_doing_is_busy(
    admin: Admin, queue: Queue, other: Queue, operation: CleanupOperation
) -> None:
    impatient(queue)
    queue.set(queue.add("send", queue_name="q"), attempts=25)
    tables: dict[CleanupOperation, str] = {TASKS: "_private_tasks", QUEUES: "_private_job_queues"}
    with other.conn.transaction():
        other.run(f"lock table {{gw}}.{tables[operation]} in access exclusive mode")
        assert admin.cleanup(operation, FAILED) == result(jobs=1, busy=(operation,))
    assert admin.cleanup(operation).busy == ()


@every
def test_what_is_not_to_be_done_is_not_busy(admin: Admin, queue: Queue, other: Queue) -> None:
    other.conn.autocommit = False
    other.add("send", queue_name="q")
    assert admin.cleanup(TASKS, QUEUES, FAILED) == result()
    other.conn.commit()


@every
@adds
@pytest.mark.parametrize("commit", [True, False])
def test_what_is_added_while_a_cleanup_waits_has_its_task_and_its_queue(
    app: App, queue: Queue, other: Queue, third: Queue, cleaner: Queue, add: Callable[[Queue], Any], commit: bool
) -> None:
    patient(queue)
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.autocommit = False
    other.add("send", queue_name="q")

    def clean() -> CleanupResult:
        cleaned = app.jobs.cleanup(TASKS, QUEUES, connection=cleaner.conn)
        cleaner.conn.commit()
        return cleaned

    cleaning = Background(clean)
    wait_until_blocked(queue, cleaner)
    adding = Background(lambda: add(third))
    wait_until_blocked(queue, third)
    if commit:
        other.conn.commit()
    else:
        other.conn.rollback()
    assert cleaning.result() == (result() if commit else result(tasks=1, queues=1))
    adding.result()
    assert dangling(queue) == []
    waiting = len(queue.job_ids())
    assert waiting > commit
    assert run_all(queue) == waiting


@every
@adds
@pytest.mark.parametrize("commit", [True, False])
def test_what_is_added_while_a_cleanup_is_not_committed_has_its_task_and_its_queue(
    app: App, queue: Queue, other: Queue, cleaner: Queue, add: Callable[[Queue], Any], commit: bool
) -> None:
    queue.add("send", queue_name="q")
    run_all(queue)
    assert app.jobs.cleanup(TASKS, QUEUES, connection=cleaner.conn) == result(tasks=1, queues=1)
    adding = Background(lambda: add(other))
    wait_until_blocked(queue, other)
    if commit:
        cleaner.conn.commit()
    else:
        cleaner.conn.rollback()
    adding.result()
    assert dangling(queue) == []
    waiting = len(queue.job_ids())
    assert waiting > 0
    assert run_all(queue) == waiting


LEVELS = pytest.mark.parametrize(
    "level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE], ids=lambda level: level.name
)


@every
@LEVELS
@adds
@pytest.mark.parametrize("operation", NAMES)
def test_an_add_with_a_snapshot_from_before_a_cleanup_fails_and_can_be_tried_again(
    app: App,
    queue: Queue,
    other: Queue,
    level: psycopg.IsolationLevel,
    add: Callable[[Queue], Any],
    operation: CleanupOperation,
) -> None:
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.isolation_level = level
    with other.conn.transaction(force_rollback=True):
        other.run("select 1")  # takes the snapshot
        app.jobs.cleanup(operation)
        with pytest.raises(pg.SerializationFailure):
            add(other)
    assert queue.job_ids() == []
    with other.conn.transaction():
        add(other)
    assert dangling(queue) == []
    assert run_all(queue) > 0


@every
@LEVELS
@adds
def test_an_add_with_a_snapshot_from_while_a_cleanup_was_not_committed_fails_and_can_be_tried_again(
    app: App, queue: Queue, other: Queue, cleaner: Queue, level: psycopg.IsolationLevel, add: Callable[[Queue], Any]
) -> None:
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.isolation_level = level
    app.jobs.cleanup(TASKS, QUEUES, connection=cleaner.conn)

    def add_in_transaction() -> None:
        with other.conn.transaction():
            add(other)

    adding = Background(add_in_transaction)
    wait_until_blocked(queue, other)
    cleaner.conn.commit()
    with pytest.raises(pg.SerializationFailure):
        adding.result()
    add_in_transaction()
    assert dangling(queue) == []
    assert run_all(queue) > 0


@every
@LEVELS
@adds
def test_what_an_open_transaction_of_another_level_has_added_jobs_for_is_busy(
    app: App, queue: Queue, other: Queue, level: psycopg.IsolationLevel, add: Callable[[Queue], Any]
) -> None:
    impatient(queue)
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.isolation_level = level
    with other.conn.transaction():
        add(other)
        assert app.jobs.cleanup(TASKS, QUEUES) == result(busy=NAMES)
    assert app.jobs.cleanup(TASKS, QUEUES) == result()
    assert run_all(queue) > 0


@every
def test_a_queue_from_which_a_job_is_being_claimed_is_busy(app: App, queue: Queue, other: Queue) -> None:
    impatient(queue)
    queue.add(queue_name="free")
    run_all(queue)
    queue.add(queue_name="q")
    with other.conn.transaction():
        assert len(other.claim()) == 1
        assert app.jobs.cleanup(QUEUES) == result(busy=(QUEUES,))
    assert app.jobs.cleanup(QUEUES) == result(queues=1)
    assert names(queue)[1] == ["q"]


@every
def test_two_cleanups_at_once_are_as_good_as_one(app: App, queue: Queue, cleaner: Queue, other: Queue) -> None:
    patient(queue)
    queue.set(queue.add("failed"), attempts=25)
    for number in range(5):
        queue.add(f"t{number}", queue_name=f"q{number}")
    run_all_of(queue, [f"t{number}" for number in range(5)])
    first = app.jobs.cleanup(TASKS, QUEUES, FAILED, connection=cleaner.conn)
    second = Background(lambda: app.jobs.cleanup(TASKS, QUEUES, FAILED, connection=other.conn))
    wait_until_blocked(queue, other)
    cleaner.conn.commit()
    assert first == result(tasks=6, queues=5, jobs=1)
    assert second.result() == result()
    assert names(queue) == ([], [])


def run_all_of(queue: Queue, tasks: list[str]) -> None:
    while jobs := queue.claim(tasks):
        queue.finish(*({**job, "outcome": "success"} for job in jobs))


# Without what guards them


@pytest.mark.parametrize("table", ["_private_tasks", "_private_job_queues"])
def test_without_the_lock_on_the_table_jobs_are_left_without_names(
    app: App, queue: Queue, other: Queue, schema: str, table: str
) -> None:
    without(queue.conn, schema, "_pgtasks_cleanup", f"lock table {queue.name}.{table} in access exclusive mode;")
    queue.add("send", queue_name="q")
    run_all(queue)
    with other.conn.transaction():
        other.add("send", queue_name="q")
        app.jobs.cleanup(TASKS, QUEUES)
    assert dangling(queue) == queue.job_ids() != []


@pytest.mark.parametrize("add", ["add_job", "add_jobs", "add_unkeyed"])
def test_without_a_hold_on_the_names_old_snapshots_leave_jobs_without_names(
    app: App, queue: Queue, other: Queue, schema: str, add: str
) -> None:
    function = {"add_jobs": "_pgtasks_add_specs"}.get(add, f"_pgtasks_{add}")
    without(queue.conn, schema, function, "current_setting('transaction_isolation') <> 'read committed'", "false")
    queue.add("send", queue_name="q")
    run_all(queue)
    other.conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with other.conn.transaction():
        other.run("select 1")
        app.jobs.cleanup(TASKS, QUEUES)
        ADDS[add](other)
    assert dangling(queue) == queue.job_ids() != []


# All at once


class Stress:
    """Sessions that add jobs with random names, one that runs them, and one that cleans up behind them."""

    TASKS = tuple(f"t{number}" for number in range(8))
    QUEUES = (None, *(f"q{number}" for number in range(4)))
    LEVELS = (
        psycopg.IsolationLevel.READ_COMMITTED,
        psycopg.IsolationLevel.REPEATABLE_READ,
        psycopg.IsolationLevel.SERIALIZABLE,
    )
    FORGOTTEN = 100
    """Names, before the sessions stop adding."""
    BACKLOG = 4
    """Jobs that wait when the sessions go on adding: most names are then in no job."""

    def __init__(self, app: App, queue: Queue) -> None:
        self.app = app
        self.queue = queue
        self.added: set[int] = set()
        self.done: set[int] = set()
        self.forgotten = 0
        self.stopped = threading.Event()

    def add(self, seed: int) -> None:
        """Add jobs until enough was forgotten."""
        chance = random.Random(seed)
        with self.queue.another() as session:
            while self.forgotten < self.FORGOTTEN:
                wait_until(lambda: len(self.added) - len(self.done) < self.BACKLOG, what="jobs to be run")
                try:
                    self.added |= self.add_some(session, chance)
                except pg.SerializationFailure:
                    continue

    def add_some(self, session: Queue, chance: random.Random) -> set[int]:
        """Add some jobs, and return the ids of those that were committed."""
        session.conn.isolation_level = chance.choice(self.LEVELS)
        specs: list[dict[str, Any]] = [
            {"identifier": chance.choice(self.TASKS), "queue_name": chance.choice(self.QUEUES)}
            for _ in range(chance.randint(1, 3))
        ]
        undo = chance.random() < 0.1
        with session.conn.transaction(force_rollback=undo):
            jobs = session.add_jobs(*specs) if len(specs) > 1 else [session.add_job(**specs[0])]
        return set() if undo else {job["id"] for job in jobs}

    def run(self) -> None:
        """Run jobs until told to stop and none is left."""
        with self.queue.another() as session:
            while True:
                last = self.stopped.is_set()
                jobs = session.claim(self.TASKS, limit=10)
                session.finish(*({**job, "outcome": "success"} for job in jobs))
                self.done |= {job["id"] for job in jobs}
                if last and not jobs:
                    return

    def clean(self) -> None:
        with psycopg.connect(self.queue.conn.info.dsn, autocommit=True) as own:
            while not self.stopped.is_set():
                cleaned = self.app.jobs.cleanup(TASKS, QUEUES, FAILED, connection=own)
                self.forgotten += cleaned.tasks + cleaned.queues


@every
def test_nothing_is_lost_when_all_of_it_happens_at_once(app: App, queue: Queue) -> None:
    stress = Stress(app, queue)
    running, cleaning = Background(stress.run), Background(stress.clean)
    try:
        for adding in [Background(functools.partial(stress.add, seed)) for seed in range(3)]:
            adding.result()
    finally:
        stress.stopped.set()
    cleaning.result()
    running.result()
    assert stress.done == stress.added
    assert dangling(queue) == []
    assert queue.job_ids() == []


@every
@adds
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_add_that_is_not_committed_does_not_stop_the_queue_that_it_adds_to(
    queue: Queue, other: Queue, add: Callable[[Queue], Any], level: str
) -> None:
    waiting = queue.add(queue_name="q")
    with other.conn.transaction():
        other.run(f"set transaction isolation level {level}")
        add(other)
        assert [job["id"] for job in queue.claim()] == [waiting]
