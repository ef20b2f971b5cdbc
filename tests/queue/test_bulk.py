"""Adding more jobs than one statement takes: in one transaction, in order, or not at all."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors as pg

from pgtasks import App, DatabaseUnavailableError, JobOptionError, JobSpec, PayloadError, Registry
from pgtasks.queue import bulk
from tests.queue.callers import callers
from tests.servers import free_port
from tests.sql.queue import Background
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from pgtasks import JobKeyMode, Task
    from tests.queue.callers import Caller
    from tests.sql.queue import Queue

every = pytest.mark.every_postgres
odd = pytest.mark.every_schema

BATCH = 10
"""Jobs in a statement, in the tests that want several."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH_JOBS", BATCH)
    monkeypatch.setattr(bulk, "GROUP_JOBS", 3)


@pytest.fixture
def full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest) -> Iterator[Caller]:
    with callers(request.param) as caller:
        yield caller


@pytest.fixture
def send(app: App) -> Task[Any, ..., Any]:
    @app.task
    def send(payload: Any) -> None: ...

    return send


def numbers(queue: Queue) -> list[int]:
    """The payloads of all jobs that can be seen, by id."""
    return queue.values("select (payload #>> '{}')::int from {gw}._private_jobs order by id")


def raise_after(jobs: Iterable[Any], error: BaseException) -> Iterator[Any]:
    yield from jobs
    raise error


# All, in order


@every
@odd
@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH, 5 * BATCH + 7])
def test_any_number_of_jobs_is_added_in_order(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, count: int
) -> None:
    jobs = call(send, "defer_many", iter(range(count)))
    assert [job.payload for job in jobs] == list(range(count))
    assert [job.id for job in jobs] == queue.values("select id from {gw}._private_jobs order by id")
    assert numbers(queue) == list(range(count))


def test_how_many_there_are_is_all_that_is_returned_where_that_is_wanted(
    call: Caller, send: Task[Any, ..., Any], app: App, queue: Queue
) -> None:
    assert call(send, "defer_many", iter(range(35)), returning=False) == 35
    keyed = [send.spec(number, job_key=str(number % 7)) for number in range(35)]
    assert call(send, "defer_many", keyed, returning=False) == 7
    assert call(app, "add_jobs", keyed[:5], returning=False) == 5
    assert len(numbers(queue)) == 42


def test_no_jobs_are_nothing_to_do(call: Caller) -> None:
    app = App(registry=Registry(), database_url=f"postgresql://127.0.0.1:{free_port()}/x")
    assert call(app, "add_jobs", []) == []
    assert call(app, "add_jobs", iter(()), returning=False) == 0
    app.close()


@every
def test_all_jobs_of_a_call_are_added_by_one_transaction(call: Caller, send: Task[Any, ..., Any], queue: Queue) -> None:
    call(send, "defer_many", range(35))
    assert queue.value("select count(distinct (xmin::text, run_at, created_at)) from {gw}._private_jobs") == 1


def test_jobs_may_come_from_an_asynchronous_iterable(send: Task[Any, ..., Any], app: App, queue: Queue) -> None:
    async def payloads() -> AsyncIterator[int]:
        for number in range(35):
            await asyncio.sleep(0)
            yield number

    async def add() -> None:
        jobs = await send.defer_many_async(payloads())
        assert [job.payload for job in jobs] == list(range(35))
        assert await app.add_jobs_async((send.spec(0) async for _ in payloads()), returning=False) == 35

    asyncio.run(add())
    with pytest.raises(JobOptionError, match="an iterable, not async_generator; defer_many_async takes"):
        send.defer_many(payloads())  # type: ignore[call-overload]


def test_what_cannot_be_added_is_named(call: Caller, send: Task[Any, ..., Any], app: App, queue: Queue) -> None:
    @app.task(name="resize")
    def resize() -> None: ...

    with pytest.raises(JobOptionError, match="jobs to add must be an iterable, not int"):
        call(send, "defer_many", 5)
    with pytest.raises(JobOptionError, match=r"objects of JobSpec, not dict \(number 1 of the jobs to add\)"):
        call(app, "add_jobs", [send.spec(), {"n": 1}])
    with pytest.raises(JobOptionError, match="defer_many of task 'send' was given a spec of task 'resize'"):
        call(send, "defer_many", [*range(25), resize.spec()])
    modes = [send.spec(number, job_key=str(number), job_key_mode="replace") for number in range(25)]
    with pytest.raises(JobOptionError, match="share one job_key_mode"):
        call(send, "defer_many", [*modes, send.spec(job_key="x", job_key_mode="preserve_run_at")])
    assert numbers(queue) == []


# All or none


@pytest.mark.parametrize("returning", [True, False])
def test_a_payload_that_json_cannot_hold_undoes_them_all_and_is_named(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, returning: bool
) -> None:
    read: list[int] = []

    def payloads() -> Iterator[Any]:
        for number in range(1000):
            read.append(number)
            yield {"n": number, "none": None, "to": {1} if number == 37 else "ada"}

    message = r"payload of task 'send' \(number 37 of the jobs to add\)\['to'\] is a set, which JSON cannot hold"
    with pytest.raises(PayloadError, match=message):
        call(send, "defer_many", payloads(), returning=returning)
    assert numbers(queue) == []
    assert len(read) < 50
    call(send, "defer", 1)
    assert numbers(queue) == [1]


@pytest.mark.parametrize(
    "error", [KeyError("x"), KeyboardInterrupt(), pg.UniqueViolation("theirs"), psycopg.Rollback()]
)
@pytest.mark.parametrize("keyed", [False, True])
def test_what_an_iterator_raises_passes_and_undoes_them_all(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, error: BaseException, keyed: bool
) -> None:
    jobs = (send.spec(number, job_key=str(number) if keyed else None) for number in range(35))
    with pytest.raises(type(error)) as caught:
        call(send, "defer_many", raise_after(jobs, error))
    assert caught.value is error
    assert numbers(queue) == []
    assert queue.value("select count(*) from {gw}._pgtasks_staged_specs") == 0
    assert call(send, "defer_many", range(35), returning=False) == 35


def test_an_error_of_the_servers_undoes_them_all(call: Caller, send: Task[Any, ..., Any], queue: Queue) -> None:
    queue.run("alter table {gw}._private_jobs add check (payload::text <> '30')")
    with pytest.raises(pg.CheckViolation):
        call(send, "defer_many", range(35))
    assert numbers(queue) == []


def test_an_interrupt_while_the_server_works_undoes_them_all(
    send: Task[Any, ..., Any], app: App, queue: Queue, other: Queue
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        wait_until(lambda: is_waiting(other), what="the call to wait")
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    with queue.conn.transaction():
        queue.run("lock table {gw}._pgtasks_staged_specs in access exclusive mode")
        interrupting = Background(interrupt)
        with pytest.raises(KeyboardInterrupt):
            send.defer_many([*range(25), send.spec(job_key="k")])
        interrupting.result()
    assert numbers(queue) == []
    app.add_job("send", 1)
    assert numbers(queue) == [1]


@pytest.mark.parametrize("own", [False, True], ids=["pooled", "own"])
def test_a_cancellation_while_the_server_works_undoes_them_all(
    send: Task[Any, ..., Any], app: App, queue: Queue, other: Queue, database: str, own: bool
) -> None:
    async def add() -> None:
        connection = await psycopg.AsyncConnection.connect(database, autocommit=True) if own else None
        adding = asyncio.create_task(send.defer_many_async([*range(25), send.spec(job_key="k")], connection=connection))
        await asyncio.to_thread(wait_until, lambda: is_waiting(other))
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        await send.defer_async(1, connection=connection)
        if connection is not None:
            await connection.close()
        await app.aclose()

    with queue.conn.transaction():
        queue.run("lock table {gw}._pgtasks_staged_specs in access exclusive mode")
        asyncio.run(add())
    assert numbers(queue) == [1]


def is_waiting(observer: Queue) -> bool:
    waiting: bool = observer.value(
        "select exists (select from pg_locks where not granted and relation = %s::regclass)",
        f"{observer.name}._pgtasks_staged_specs",
    )
    return waiting


def test_a_connection_that_is_lost_is_told_of(call: Caller, send: Task[Any, ..., Any], queue: Queue) -> None:
    def payloads() -> Iterator[int]:
        yield from range(25)
        queue.run(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        yield from range(25)

    with pytest.raises(DatabaseUnavailableError, match="was lost during add_jobs"):
        call(send, "defer_many", payloads())
    assert numbers(queue) == []
    assert call(send, "defer_many", range(25), returning=False) == 25


# The caller's connection


def test_jobs_join_the_transaction_that_is_open(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, database: str
) -> None:
    own = call.connect(database)
    call.own(own, "execute", "create table note (n int)")
    assert len(call(send, "defer_many", range(35), connection=own)) == 35
    assert numbers(queue) == []
    call.own(own, "commit")
    assert numbers(queue) == list(range(35))


@pytest.mark.parametrize("count", [5, 35])
def test_jobs_begin_the_transaction_of_a_connection_that_has_none(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, database: str, count: int
) -> None:
    own = call.connect(database)
    call(send, "defer_many", range(count), connection=own)
    assert numbers(queue) == []
    call.own(own, "rollback")
    assert numbers(queue) == []
    call(send, "defer_many", range(count), connection=own)
    call.own(own, "commit")
    assert numbers(queue) == list(range(count))


@pytest.mark.parametrize("count", [5, 35])
def test_with_autocommit_jobs_are_committed_when_the_call_ends(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, database: str, count: int
) -> None:
    own = call.connect(database, autocommit=True)
    call(send, "defer_many", range(count), connection=own)
    assert numbers(queue) == list(range(count))
    with pytest.raises(KeyError):
        call(send, "defer_many", raise_after(range(count), KeyError()), connection=own)
    call.own(own, "execute", "begin")
    call(send, "defer_many", range(count), connection=own)
    call.own(own, "execute", "rollback")
    assert numbers(queue) == list(range(count))


@pytest.mark.parametrize("autocommit", [False, True])
def test_of_a_call_that_fails_nothing_is_left_in_the_callers_transaction_which_goes_on(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, database: str, autocommit: bool
) -> None:
    own = call.connect(database, autocommit=autocommit)
    with call.transaction(own):
        call(send, "defer", 1000, connection=own)
        for error in (KeyError(), psycopg.Rollback()):
            with pytest.raises(type(error)):
                call(send, "defer_many", raise_after(range(35), error), connection=own)
        with pytest.raises(PayloadError):
            call(send, "defer_many", [*range(35), object()], connection=own)
        call(send, "defer_many", [2000, 3000], connection=own)
    assert numbers(queue) == [1000, 2000, 3000]


def test_a_transaction_that_has_failed_is_named_before_any_job_is_taken(
    call: Caller, send: Task[Any, ..., Any], app: App, queue: Queue, database: str
) -> None:
    own = call.connect(database)
    with pytest.raises(pg.DivisionByZero):
        call.own(own, "execute", "select 1 / 0")
    jobs = iter(range(35))
    with pytest.raises(JobOptionError, match=r"transaction of the given psycopg\.\w+ has failed.*: roll it back first"):
        call(send, "defer_many", jobs, connection=own)
    with pytest.raises(JobOptionError, match="roll it back first"):
        call(send, "defer", 1, connection=own)
    assert next(jobs) == 0
    call.own(own, "rollback")
    call(send, "defer_many", jobs, connection=own)
    call.own(own, "commit")
    assert numbers(queue) == list(range(1, 35))


@pytest.mark.parametrize("count", [5, 35])
def test_a_connection_that_is_closed_is_the_callers_error(
    call: Caller, send: Task[Any, ..., Any], database: str, count: int
) -> None:
    own = call.connect(database)
    call.own(own, "close")
    with pytest.raises(JobOptionError, match=r"the connection of the given psycopg\.\w+ is closed"):
        call(send, "defer_many", range(count), connection=own)


def test_the_jobs_may_be_read_from_the_connection_that_they_are_added_on(
    send: Task[Any, ..., Any], queue: Queue, database: str
) -> None:
    with psycopg.connect(database) as own, own.cursor("users") as cursor:
        cursor.itersize = 7
        cursor.execute("select n from generate_series(0, 34) as n")
        send.defer_many((number for (number,) in cursor), connection=own)
    assert numbers(queue) == list(range(35))


def test_a_call_within_a_call_is_part_of_it(send: Task[Any, ..., Any], queue: Queue, database: str) -> None:
    def jobs(own: psycopg.Connection[Any], depth: int) -> Iterator[JobSpec]:
        for number in range(25):
            yield send.spec(number, job_key=f"{depth} {number}")
        if depth:
            send.defer_many(jobs(own, depth - 1), connection=own)

    with psycopg.connect(database) as own:
        send.defer_many(jobs(own, 2), connection=own)
        assert numbers(queue) == []
    assert numbers(queue) == list(range(25)) * 3


def test_a_pipeline_of_the_callers_is_joined(send: Task[Any, ..., Any], queue: Queue, database: str) -> None:
    with psycopg.connect(database) as own, own.pipeline():
        send.defer_many(range(35), connection=own)
        send.defer(35, connection=own)
    assert numbers(queue) == list(range(36))


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
@pytest.mark.parametrize("known", [True, False])
def test_jobs_are_added_at_any_isolation_level(
    send: Task[Any, ..., Any], queue: Queue, database: str, level: str, known: bool
) -> None:
    if known:
        send.defer(-1)
    with psycopg.connect(database) as own:
        own.isolation_level = psycopg.IsolationLevel[level]
        send.defer_many((send.spec(number, queue=f"q{number % 3}") for number in range(35)), connection=own)
        send.defer_many(range(35, 38), connection=own)
    assert numbers(queue)[known:] == list(range(38))


# Keys and names


@every
@odd
def test_of_jobs_with_the_same_key_the_later_wins_wherever_they_are(
    call: Caller, send: Task[Any, ..., Any], app: App, queue: Queue
) -> None:
    there = call(send, "defer", [0], job_key="there")
    specs = [JobSpec(task=f"t{n % 3}", payload=n, queue=f"q{n % 2}" if n % 5 else None) for n in range(20)]
    specs += [JobSpec(task="a", payload=[n], job_key="there" if n % 2 else f"new {n % 4}") for n in range(20)]
    specs += [JobSpec(task="z", payload=[99], job_key="new 0", queue="last", priority=3)]
    jobs = call(app, "add_jobs", specs)
    assert [job.payload for job in jobs] == [
        *range(20),
        [0, 4, 8, 12, 16, 99],
        [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19],
        [2, 6, 10, 14, 18],
    ]
    assert [(job.task, job.queue, job.key, job.revision) for job in jobs[-3:]] == [
        ("z", "last", "new 0", 5),
        ("a", None, "there", 10),
        ("a", None, "new 2", 4),
    ]
    assert [(job.task, job.queue) for job in jobs[:20]] == [(spec.task, spec.queue) for spec in specs[:20]]
    assert jobs[21].id == there.id
    new = [job.id for job in jobs if job.id != there.id]
    assert new == sorted(new)
    assert [app.jobs.get(job.id) for job in jobs] == list(jobs)


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
def test_the_mode_holds_for_all_batches(call: Caller, send: Task[Any, ..., Any], mode: JobKeyMode) -> None:
    first = call(send, "defer", job_key="9", delay=60)
    specs = [send.spec(job_key=str(number), job_key_mode=mode) for number in range(15)]
    jobs = call(send, "defer_many", [*range(20), *specs])
    assert (jobs[29].run_at == first.run_at) == (mode == "preserve_run_at")


def both_at_once(add: Callable[[Iterable[Any]], int], first: list[Any], second: list[Any]) -> list[int]:
    """Let two calls meet after each has sent some batches, and before it goes on."""
    meeting = threading.Barrier(2, timeout=60)

    def meet(jobs: list[Any]) -> Iterator[Any]:
        yield from jobs[: len(jobs) // 2]
        meeting.wait()
        yield from jobs[len(jobs) // 2 :]

    calls = [Background(lambda jobs=jobs: add(meet(jobs))) for jobs in (first, second)]  # type: ignore[misc]
    return [call.result() for call in calls]


@pytest.mark.parametrize("there_before", [False, True])
def test_calls_with_the_same_keys_in_opposite_order_wait_for_each_other(
    send: Task[Any, ..., Any], queue: Queue, there_before: bool
) -> None:
    specs = [send.spec([1], job_key=str(number)) for number in range(50)]
    if there_before:
        send.defer_many(specs)
    added = both_at_once(lambda jobs: send.defer_many(jobs, returning=False), specs, specs[::-1])
    assert added == [50, 50]
    runs = queue.values("select json_array_length(payload) from {gw}._private_jobs")
    assert runs == [3 if there_before else 2] * 50


@pytest.mark.parametrize("own", [False, True], ids=["pooled", "own"])
@pytest.mark.parametrize("kind", ["tasks", "queues"])
def test_calls_with_the_same_new_names_in_opposite_order_wait_for_each_other(
    app: App, queue: Queue, database: str, kind: str, own: bool
) -> None:
    app.add_job("known")
    names = [f"name {number}" for number in range(50)]
    specs = [JobSpec(task=name) if kind == "tasks" else JobSpec(task="known", queue=name) for name in names]

    def add(jobs: Iterable[Any]) -> int:
        if not own:
            return app.add_jobs(jobs, returning=False)
        with psycopg.connect(database) as connection:
            return app.add_jobs(jobs, returning=False, connection=connection)

    assert both_at_once(add, specs, specs[::-1]) == [50, 50]
    column = "task_identifier" if kind == "tasks" else "queue_name"
    found = queue.rows(f"select {column} as name, count(*) as n from {{gw}}.jobs where {column} is not null group by 1")
    assert {row["name"]: row["n"] for row in found if row["name"] != "known"} == dict.fromkeys(names, 2)


def test_a_call_that_takes_long_holds_up_nobody_who_adds_the_same(
    send: Task[Any, ..., Any], app: App, queue: Queue
) -> None:
    app.add_job("send", job_key="there")

    def jobs() -> Iterator[Any]:
        for number in range(25):
            yield send.spec(number, job_key=str(number) if number else "there", queue="new")
        queue.run("set lock_timeout = '10s'")
        assert queue.add("send", job_key="there", queue_name="new")
        assert queue.add("send", job_key="1")

    assert len(send.defer_many(jobs())) == 25


def test_the_first_call_for_a_task_registers_it_beforehand(send: Task[Any, ..., Any], queue: Queue) -> None:
    def payloads() -> Iterator[int]:
        yield from range(25)
        assert queue.values("select identifier from {gw}._private_tasks") == ["send"]

    assert len(send.defer_many(payloads())) == 25


# Notifications


@pytest.mark.parametrize("count", [1, 5, 35])
def test_a_call_sends_one_notification(call: Caller, send: Task[Any, ..., Any], queue: Queue, count: int) -> None:
    queue.listen()
    call(send, "defer_many", range(count))
    assert queue.counts_heard() == [count]
    call(send, "defer_many", [*range(count), *(send.spec(0, job_key=str(n % 7)) for n in range(35))], returning=False)
    assert queue.counts_heard() == [count + 7]


@pytest.mark.parametrize("key", [None, "k"])
def test_a_call_sends_none_where_that_is_wanted(
    call: Caller, send: Task[Any, ..., Any], app: App, queue: Queue, key: str | None
) -> None:
    queue.listen()
    for count in (5, 35):
        call(send, "defer_many", [send.spec(job_key=key)] * count, notify=False)
        call(app, "add_jobs", [send.spec(job_key=key)] * count, notify=False, returning=False)
    job = call(send, "defer", {"n": 1}, job_key=key, notify=False)
    assert (job.task, job.payload, job.key) == ("send", {"n": 1}, key)
    call(app, "add_job", "send", job_key=key, notify=False)
    assert queue.counts_heard() == []
    call(app, "add_job", "send", job_key=key)
    assert queue.counts_heard() == [1]


# What is stored and returned

MOMENTS = [
    dt.datetime(2040, 2, 29, 12, 30, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    dt.datetime(1883, 11, 18, 12, tzinfo=dt.timezone(-dt.timedelta(hours=4, minutes=56, seconds=2))),
    dt.datetime.min.replace(tzinfo=dt.UTC),
    dt.datetime.max.replace(tzinfo=dt.UTC),
    None,
]
OPTIONS: list[dict[str, Any]] = [
    {},
    *({"run_at": moment} for moment in MOMENTS),
    *({"delay": delay} for delay in (0, 0.0000005, 1.0000015, 90.5, 10**9, dt.timedelta(days=2, microseconds=1))),
    *({"priority": priority} for priority in (-(2**15), 0, 2**15 - 1)),
    *({"max_attempts": attempts} for attempts in (1, 2**15 - 1)),
    *({"flags": flags} for flags in ([], ["b", "a", "b"], ['quote " \\ {', "größer", "\n"])),
    *({"queue": name} for name in ("q", 'quote " \\ {},', "größer", "null", "q" * 128)),
    {"task": "t\n'{}\"\\", "queue": "q", "priority": 3, "max_attempts": 2, "flags": ["x"], "delay": 3},
]
PAYLOADS: list[Any] = [
    None,
    [None],
    0.1,
    123456789012345678901234567890,
    "\ud800",
    "\0 \n \u2028 größer 🐘",
    {"nested": [[[[{}]]]], "": dt.date(2030, 1, 1)},
    "null",
]


@every
@odd
@pytest.mark.parametrize("alike", [True, False])
def test_jobs_are_stored_and_returned_as_if_each_was_added_by_itself(
    call: Caller, app: App, queue: Queue, alike: bool
) -> None:
    specs = []
    for number, options in enumerate(OPTIONS):
        flags = tuple(options["flags"]) if "flags" in options else None
        spec = JobSpec(**{"task": "send", **options, "flags": flags, "payload": PAYLOADS[number % len(PAYLOADS)]})
        specs += [spec] * (BATCH if alike else 1)
    with queue.conn.transaction():
        jobs = call(app, "add_jobs", specs)
    look = """
        select
            named.task_identifier, named.queue_name, named.priority, named.max_attempts, named.attempts, named.key,
            named.flags, named.revision, jobs.payload::text, jobs.run_at::text,
            (jobs.run_at - jobs.created_at)::text as wait
        from {gw}.jobs as named join {gw}._private_jobs as jobs using (id)
        where id = any(%s)
        order by id
    """
    many = queue.rows(look, [job.id for job in jobs])
    singly = [app.add_spec(spec) for spec in specs]
    one = queue.rows(look, [job.id for job in singly])
    for row, other, spec in zip(many, one, specs, strict=True):
        at_another_time = {"run_at" if spec.run_at is None else "wait": None}
        assert {**row, **at_another_time} == {**other, **at_another_time}
    stored = [app.jobs.get(job.id) for job in jobs]
    assert stored == list(jobs)
    assert [app.jobs.get(job.id) for job in singly] == singly


def test_a_connection_in_another_encoding_changes_nothing(
    send: Task[Any, ..., Any], queue: Queue, database: str
) -> None:
    with psycopg.connect(database, client_encoding="latin1") as own:
        jobs = send.defer_many([{"name": "Åda"}, send.spec({"name": "Åda"}, queue="größer")], connection=own)
        own.commit()
        assert [job.payload for job in jobs] == [{"name": "Åda"}] * 2
    assert queue.values("select payload ->> 'name' from {gw}._private_jobs") == ["Åda"] * 2


# Memory

MEGABYTE = 2**20


def peak(call: Callable[[], object]) -> int:
    """How many bytes Python holds at most while it makes a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("full_batches")
@pytest.mark.parametrize("keyed", [False, True], ids=["unkeyed", "keyed"])
def test_memory_does_not_grow_with_the_number_of_jobs(
    call: Caller, send: Task[Any, ..., Any], queue: Queue, keyed: bool
) -> None:
    def add(count: int) -> None:
        jobs = (send.spec({"n": n}, job_key=str(n)) if keyed else {"n": n} for n in range(count))
        assert call(send, "defer_many", jobs, returning=False) == count

    few, many = 15_000, 40_000
    add(few)
    assert few > bulk.BATCH_JOBS
    first = peak(lambda: add(few))
    assert first < 16 * MEGABYTE
    assert peak(lambda: add(many)) < first * 1.1


@pytest.mark.usefixtures("full_batches")
def test_memory_does_not_grow_with_the_size_of_jobs(call: Caller, send: Task[Any, ..., Any], queue: Queue) -> None:
    payloads = ("x" * 200_000 for _ in range(500))
    assert peak(lambda: call(send, "defer_many", payloads, returning=False)) < 24 * MEGABYTE
    assert queue.value("select count(*) from {gw}._private_jobs where length(payload::text) = 200002") == 500
