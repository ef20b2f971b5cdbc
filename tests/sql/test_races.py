"""What happens when two sessions want the same thing at once: nothing is lost, nothing runs twice, nothing stays held.

Each race is held at its point: the first session's transaction stays open until the second one waits for it (or has
gone past it). What is compared is the outcome: which rows were returned, which payloads were run in the end, what is
still locked. A job is an array of numbers, one for each event that led to it: of two adds that became one job, the
numbers show both.

The guards against these races, and what comes of a race without each of them, are in `GUARDS` below;
`test_without_its_guard_the_race_is_lost` takes them out one after the other. In short:

- adding: without the lock on the row that has the key, an add changes a job that a worker has just claimed, and its
  event is deleted with that job; without another look after a conflict, an add that comes second returns nothing and
  its event is lost; without `on conflict`, it fails on the unique index.
- adding many: without the same lock, and without the look for what others added meanwhile, events are lost in the same
  ways; without the locks on the keys, or with these, the rows, or new names of tasks and queues in an order of the
  caller's, calls deadlock; with rows held while it waits for a job that came late, it deadlocks with that job's end.
- finishing: without a fence on the time of the claim, the late end of a first run ends the second; without the row lock
  or the rule for superseded jobs, a job that is given back runs beside its successor; in an order of the caller's, ends
  deadlock with adds.
- removing: without the row lock, a job that a worker has just claimed is deleted under it; without another look, the
  job that has taken the key over is not found.
- claiming: without the list of retired workers and the lock on the worker, a worker that is dead holds jobs for ever;
  without the names being looked up once, a job comes without its task's.
"""

from __future__ import annotations

import functools
import json
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from tests.sql.mutations import without
from tests.sql.queue import Background, Queue, wait_until_blocked
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sql.queue import Row

pytestmark = pytest.mark.one_postgres_each

Events = list[int]


class Outcome(NamedTuple):
    """What came of a race, once everybody has ended and what was left was run."""

    answered: bool
    """Whether each add, and each removal, returned a row for each of its jobs."""

    runs: list[Events]
    """The payloads that were run to their end, in the order of these ends."""

    locked: int = 0
    """How many jobs and queues stayed locked."""


# Staging


@contextmanager
def sessions(queue: Queue, count: int) -> Iterator[list[Queue]]:
    """More sessions, which notice soon when they are in a deadlock."""
    with ExitStack() as stack:
        opened = [stack.enter_context(queue.another()) for _ in range(count)]
        for session in opened:
            session.run("set deadlock_timeout = '20ms'")
        yield opened


def at_once(
    queue: Queue, other: Queue, first: Callable[[Queue], Any], second: Callable[[Queue], Any]
) -> tuple[Any, Any]:
    """Let `second` begin while the transaction of `first` is open; commit that when the second waits or has ended."""
    ended = threading.Event()

    def call() -> Any:
        try:
            return second(other)
        finally:
            ended.set()

    with queue.conn.transaction():
        result = first(queue)
        calling = Background(call)
        wait_until(
            lambda: ended.is_set() or queue.value("select cardinality(pg_blocking_pids(%s)) > 0", other.pid),
            what="the second session to wait for the first, or to end",
        )
    return result, calling.result()


def in_turn(queue: Queue, other: Queue, first: Callable[[Queue], Any], second: Callable[[Queue], Any]) -> Any:
    return first(queue), second(other)


def is_real(row: Row) -> bool:
    """Whether what was returned is a job and not a row of nulls."""
    return None not in {row.get(name) for name in ("id", "task_id", "payload", "run_at", "attempts", "max_attempts")}


def drain(queue: Queue) -> list[Events]:
    """Run whatever can run, now or later."""
    runs: list[Events] = []
    while True:
        queue.run("update {gw}._private_jobs set run_at = now() where is_available")
        jobs = queue.claim(worker="last")
        if not jobs:
            return runs
        runs.extend(json.loads(job["payload"]) for job in jobs)
        assert queue.finish(*({**job, "outcome": "success"} for job in jobs), worker="last").keys() == {
            job["id"] for job in jobs
        }


def count_locked(queue: Queue) -> int:
    locked: int = queue.value(
        "select (select count(*) from {gw}._private_jobs where locked_at is not null) "
        "+ (select count(*) from {gw}._private_job_queues where locked_at is not null) "
        "+ (select count(*) from {gw}._pgtasks_key_locks) "
        "+ (select count(*) from pg_locks where locktype = 'advisory' "
        "   and database = (select oid from pg_database where datname = current_database()))"
    )
    return locked


def register(queue: Queue) -> None:
    """Make all tasks known: calls that both register one would wait for each other before they come to the keys."""
    queue.add_jobs({}, {"identifier": "others"})
    queue.run("delete from {gw}._private_jobs")


def remove(queue: Queue) -> Row:
    return queue.row("select * from {gw}.remove_job('a')")


# The ways to add an event to the job with key "a". Jobs of task "others" are there to be added with it, not to be run.

OTHERS = {"identifier": "others", "job_key": "b"}


def add_by_mode(mode: str) -> Callable[[Queue, str], list[Row]]:
    return lambda session, payload: [session.add_job(job_key="a", payload=payload, job_key_mode=mode)]


def add_with_others(session: Queue, payload: str) -> list[Row]:
    rows = session.add_jobs({"job_key": "a", "payload": payload}, OTHERS)
    return [*rows, *([{}] * (2 - len(rows)))]


def add_with_others_twice(session: Queue, payload: str) -> list[Row]:
    rows = session.add_jobs({"job_key": "a", "payload": payload}, OTHERS, OTHERS)
    return [*rows, *([{}] * (2 - len(rows)))]


ADDS: dict[str, Callable[[Queue, str], list[Row]]] = {
    "replace": add_by_mode("replace"),
    "preserve_run_at": add_by_mode("preserve_run_at"),
    "unsafe_dedupe": add_by_mode("unsafe_dedupe"),
    "bulk": add_with_others,
    "bulk, a key twice": add_with_others_twice,
}


# An add against a worker, which holds the job or wants to


ENDS = {"complete": "success", "fail for good": "retry", "retry": "retry", "snooze": "snooze", "give back": "return"}

WORK = ["claim", "claim from a queue", *ENDS, "remove", "remove while it runs"]


def race_of_add_and_work(queue: Queue, other: Queue, *, add: str, work: str, add_first: bool) -> Outcome:
    """An event is there; a second one is added while a worker does something with the first one's job."""
    held = work in ENDS or work == "remove while it runs"
    register(queue)
    queue.add(
        job_key="a",
        payload="[1]",
        max_attempts=1 if work == "fail for good" else 25,
        queue_name="q" if work == "claim from a queue" else None,
    )
    claims = queue.claim() if held else []
    removed: list[Row] = []

    def do_work(session: Queue) -> None:
        if work in ENDS:
            session.finish({**claims[0], "outcome": ENDS[work], "had_key": True})
        elif work.startswith("remove"):
            removed.append(remove(session))
        else:
            claims.extend(session.claim())

    def do_add(session: Queue) -> list[Row]:
        return ADDS[add](session, "[2]")

    if add_first:
        rows, _ = at_once(queue, other, do_add, do_work)
    else:
        _, rows = at_once(queue, other, do_work, do_add)

    runs = [json.loads(claim["payload"]) for claim in claims] if work == "complete" or work not in ENDS else []
    if work not in ENDS:
        queue.finish(*({**claim, "outcome": "success"} for claim in claims))
    return Outcome(all(map(is_real, rows + removed)), runs + drain(queue), count_locked(queue))


ONCE_WORKED_ON = {
    # The work is done when the add comes: what runs then, and what runs where the add only looks for a job.
    "claim": ([[1], [2]], [[1]]),
    "claim from a queue": ([[1], [2]], [[1]]),
    "complete": ([[1], [2]], [[1], [2]]),
    "fail for good": ([[2]], []),
    "retry": ([[1, 2]], [[1]]),
    "snooze": ([[1, 2]], [[1]]),
    "give back": ([[1, 2]], [[1]]),
    "remove": ([[2]], [[2]]),
    "remove while it runs": ([[1], [2]], [[1], [2]]),
}

ONCE_ADDED = {
    # The add is done when the work comes, which for a claim is after the add has committed.
    "claim": ([[1, 2]], [[1]]),
    "claim from a queue": ([[1, 2]], [[1]]),
    "complete": ([[1], [2]], [[1]]),
    "fail for good": ([[2]], []),
    "retry": ([[2]], [[1]]),
    "snooze": ([[2]], [[1]]),
    "give back": ([[2]], [[1]]),
    "remove": ([], []),
    "remove while it runs": ([[1]], [[1]]),
}


@pytest.mark.parametrize("add", [add for add in ADDS if add != "preserve_run_at"])
@pytest.mark.parametrize("work", WORK)
def test_an_add_that_comes_while_a_worker_is_at_the_job_waits_and_is_not_lost(
    queue: Queue, other: Queue, work: str, add: str
) -> None:
    outcome = race_of_add_and_work(queue, other, add=add, work=work, add_first=False)
    assert outcome == Outcome(True, ONCE_WORKED_ON[work][add == "unsafe_dedupe"])


@pytest.mark.parametrize("add", [add for add in ADDS if add != "preserve_run_at"])
@pytest.mark.parametrize("work", WORK)
def test_a_worker_that_comes_while_an_add_is_at_the_job_finds_what_it_did(
    queue: Queue, other: Queue, work: str, add: str
) -> None:
    outcome = race_of_add_and_work(queue, other, add=add, work=work, add_first=True)
    assert outcome == Outcome(True, ONCE_ADDED[work][add == "unsafe_dedupe"])


# Two adds


def race_of_adds(
    queue: Queue, other: Queue, *, state: str, first: str, second: str, stage: Callable[..., Any] = at_once
) -> Outcome:
    register(queue)
    claims: list[Row] = []
    if state != "none":
        queue.add(job_key="a", payload="[0]")
    if state == "running":
        claims = queue.claim()
    before, after = stage(
        queue, other, lambda session: ADDS[first](session, "[1]"), lambda session: ADDS[second](session, "[2]")
    )
    live = queue.value("select count(*) from {gw}.jobs where task_identifier = 'send' and attempts < max_attempts")
    assert live == 1
    queue.finish(*({**claim, "outcome": "success"} for claim in claims))
    runs = [json.loads(claim["payload"]) for claim in claims]
    return Outcome(all(map(is_real, before + after)), runs + drain(queue), count_locked(queue))


@pytest.mark.parametrize("state", ["none", "waiting", "running"])
@pytest.mark.parametrize("second", ADDS)
@pytest.mark.parametrize("first", ADDS)
def test_two_adds_at_once_end_as_if_one_came_after_the_other(
    queue: Queue, other: Queue, first: str, second: str, state: str
) -> None:
    outcome = race_of_adds(queue, other, state=state, first=first, second=second)
    queue.run("delete from {gw}._private_jobs")
    assert outcome == race_of_adds(queue, other, state=state, first=first, second=second, stage=in_turn)
    assert outcome.answered
    events = sorted(event for run in outcome.runs for event in run)
    modes = {1: first, 2: second}
    assert [mode for event, mode in modes.items() if event not in events] in (
        [],
        ["unsafe_dedupe"],
        ["unsafe_dedupe"] * 2,
    )
    assert len(events) == len(set(events))


# Isolation levels in which a conflict is an error


CHANGES: dict[str, Callable[[Queue, Row], object]] = {
    "add": lambda session, _: session.add(job_key="a", payload="[1]"),
    "claim": lambda session, _: session.claim(),
    "complete": lambda session, claim: session.finish({**claim, "outcome": "success"}),
    "give back": lambda session, claim: session.finish({**claim, "outcome": "return", "had_key": True}),
    "remove": lambda session, _: remove(session),
}

AFTER_CHANGES = {
    "add": [[1, 2]],
    "add to another": [[0, 1, 2]],
    "claim": [[0], [2]],
    "complete": [[0], [2]],
    "give back": [[0, 2]],
    "remove": [[2]],
}


@pytest.mark.parametrize("meanwhile", ["done", "open"])
@pytest.mark.parametrize("change", AFTER_CHANGES)
@pytest.mark.parametrize("add", ["replace", "bulk", "bulk, a key twice"])
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_an_add_whose_snapshot_is_too_old_fails_as_usual_and_succeeds_when_tried_again(
    queue: Queue, other: Queue, level: str, add: str, change: str, meanwhile: str
) -> None:
    register(queue)
    if change != "add":
        queue.add(job_key="a", payload="[0]")
    claims = queue.claim() if change in {"complete", "give back"} else [{}]
    make_change = CHANGES[change.split(maxsplit=1)[0] if change.startswith("add") else change]
    failures = []
    looked = threading.Event()
    changed = threading.Event()

    def add_until_it_succeeds() -> list[Row]:
        while True:
            try:
                with other.conn.transaction():
                    other.run(f"set transaction isolation level {level}")
                    other.run("select count(*) from {gw}._private_jobs")
                    looked.set()
                    changed.wait(15)
                    return ADDS[add](other, "[2]")
            except psycopg.errors.SerializationFailure as failure:
                failures.append(failure.sqlstate)
                assert len(failures) < 3

    adding = Background(add_until_it_succeeds)
    assert looked.wait(15)
    with queue.conn.transaction():
        made = make_change(queue, claims[0])
        if meanwhile == "open":
            changed.set()
            wait_until_blocked(queue, other)
    changed.set()
    rows = adding.result()

    assert all(map(is_real, rows))
    assert failures == ["40001"]
    running = made if change == "claim" else claims if change == "complete" else []
    assert isinstance(running, list)
    if change == "claim":
        queue.finish(*({**claim, "outcome": "success"} for claim in running))
    runs = [json.loads(claim["payload"]) for claim in running]
    assert runs + drain(queue) == AFTER_CHANGES[change]
    assert count_locked(queue) == 0


# Calls on many jobs that meet in the middle


KEYS = [f"key {n}" for n in range(12)]
MIDDLE = KEYS[6]


def race_in_the_middle(
    queue: Queue, hold: Callable[[Queue], object], calls: list[Callable[[Queue], object]]
) -> list[object]:
    """Let all calls come as far as they can while somebody holds something in the middle, then let them go on.

    Returns what each returned, or the class of its error.
    """
    with sessions(queue, 1 + len(calls)) as (holder, *callers):
        with holder.conn.transaction():
            hold(holder)
            calling = []
            for caller, call in zip(callers, calls, strict=True):
                calling.append(Background(functools.partial(call, caller)))
                wait_until_blocked(queue, caller)
        results: list[object] = []
        for each in calling:
            try:
                results.append(each.result())
            except psycopg.Error as error:
                results.append(type(error))
        return results


def add_keys(session: Queue, payload: str, keys: list[str]) -> int:
    rows = session.add_jobs(*({"job_key": key, "payload": payload} for key in keys))
    assert [(row["key"], is_real(row)) for row in rows] == [(key, True) for key in keys]
    return len(rows)


def race_of_bulk_adds(queue: Queue, other: Queue, *, hold: str, there_before: bool = False) -> list[object]:
    """Two calls on the same keys in opposite order, of which one in the middle is held by a single or a bulk add."""
    register(queue)
    if there_before:
        add_keys(queue, "[0]", KEYS)
    holds: dict[str, Callable[[Queue], object]] = {
        "single": lambda session: session.add(job_key=MIDDLE, payload="[]"),
        "bulk": lambda session: add_keys(session, "[]", [MIDDLE, "key of its own"]),
        "row": lambda session: session.run("select from {gw}._private_jobs where key = %s for update", MIDDLE),
    }
    return race_in_the_middle(
        queue,
        holds[hold],
        [
            lambda session: add_keys(session, "[1]", KEYS),
            lambda session: add_keys(session, "[2]", KEYS[::-1]),
        ],
    )


@pytest.mark.parametrize(
    ("hold", "there_before"), [("single", False), ("bulk", False), ("single", True), ("row", True)]
)
def test_bulk_adds_of_the_same_keys_in_opposite_order_do_not_deadlock(
    queue: Queue, other: Queue, hold: str, there_before: bool
) -> None:
    assert race_of_bulk_adds(queue, other, hold=hold, there_before=there_before) == [len(KEYS)] * 2
    merged = queue.values("select payload::text from {gw}._private_jobs where key = any(%s)", KEYS)
    assert [sorted(set(json.loads(payload)) - {0}) for payload in merged] == [[1, 2]] * len(KEYS)
    assert count_locked(queue) == 0


def race_of_new_names(queue: Queue, other: Queue, *, field: str, way: str = "add_jobs") -> list[object]:
    """Two calls that register the same tasks or queues in opposite order, of which one is just being registered."""
    register(queue)

    def add(session: Queue, names: list[str]) -> int:
        specs = [{field: name} for name in names]
        return len(session.add_jobs(*specs)) if way == "add_jobs" else session.add_unkeyed(*specs)

    return race_in_the_middle(
        queue,
        lambda session: add(session, [MIDDLE]),
        [lambda session: add(session, KEYS), lambda session: add(session, KEYS[::-1])],
    )


@pytest.mark.parametrize("way", ["add_jobs", "add_unkeyed"])
@pytest.mark.parametrize("field", ["identifier", "queue_name"])
def test_bulk_adds_that_register_the_same_names_in_opposite_order_do_not_deadlock(
    queue: Queue, other: Queue, field: str, way: str
) -> None:
    assert race_of_new_names(queue, other, field=field, way=way) == [len(KEYS)] * 2
    column = {"identifier": "task_identifier"}.get(field, field)
    assert queue.value(f"select count(distinct {column}) from {{gw}}.jobs where {column} = any(%s)", KEYS) == len(KEYS)


def race_of_bulk_add_and_ends(
    queue: Queue, other: Queue, *, outcomes: list[str], add_first: bool = True
) -> list[object]:
    """Jobs with keys end, in one order, while a bulk add supersedes them, in the other; one's row is locked."""
    # The ids of jobs go against the order of their keys, in which an index would find them.
    add_keys(queue, "[1]", sorted(KEYS, reverse=True))
    claims = queue.claim()
    ends = [{**claim, "outcome": outcomes[n % len(outcomes)], "had_key": True} for n, claim in enumerate(claims)]
    held = claims[len(claims) // 2]["id"]
    calls: list[Callable[[Queue], object]] = [
        lambda session: add_keys(session, "[2]", sorted(KEYS)),
        lambda session: len(session.finish(*ends[::-1])),
    ]
    return race_in_the_middle(
        queue,
        lambda session: session.run("select from {gw}._private_jobs where id = %s for update", held),
        calls if add_first else calls[::-1],
    )


@pytest.mark.parametrize("add_first", [True, False])
@pytest.mark.parametrize("outcomes", [["success"], ["return"], ["retry"], ["success", "fail", "snooze"]])
def test_bulk_adds_and_ends_of_the_same_jobs_in_opposite_order_do_not_deadlock(
    queue: Queue, other: Queue, outcomes: list[str], add_first: bool
) -> None:
    results = race_of_bulk_add_and_ends(queue, other, outcomes=outcomes, add_first=add_first)
    assert results == [len(KEYS)] * 2
    runs = drain(queue)
    assert sorted(event for run in runs for event in run if event == 2) == [2] * len(KEYS)
    assert len(runs) == len(KEYS)
    assert count_locked(queue) == 0


def race_of_bulk_add_and_late_key(queue: Queue, other: Queue, *, twice: bool) -> list[object]:
    """A job of a bulk add goes while it is waited for, and the one that has its key now ends with another of them.

    That one's id is smaller than that of the other, since it comes from a transaction that began before the other was
    added.
    """
    register(queue)
    queue.add(job_key="gone", payload="[0]")
    with sessions(queue, 4) as (holder, adder, bulk, worker), ExitStack() as stack:
        replacing, holding = stack.enter_context(ExitStack()), stack.enter_context(ExitStack())
        replacing.enter_context(adder.conn.transaction())
        adder.run("select from {gw}.remove_job('gone')")
        adder.add(job_key="gone", payload="[0]")
        queue.add(job_key="held", payload="[0]")
        queue.add(job_key="early", payload="[0]")
        holding.enter_context(holder.conn.transaction())
        holder.run("select from {gw}._private_jobs where key = 'held' for update")

        keys = ["gone", "held", "early"] + ["held"] * twice
        adding = Background(lambda: bulk.add_jobs(*({"job_key": key, "payload": "[1]"} for key in keys)))
        wait_until_blocked(adder, bulk, by=adder)
        replacing.close()
        wait_until_blocked(holder, bulk, by=holder)
        first, second = worker.claim(limit=2)
        assert (first["key"], second["key"]) == ("gone", "early")
        assert first["id"] < second["id"]

        results: list[object] = []
        try:
            with worker.conn.transaction():
                worker.finish({**first, "outcome": "success"})
                holding.close()
                wait_until_blocked(worker, bulk, by=worker)
                worker.finish({**second, "outcome": "success"})
            results.append(2)
        except psycopg.errors.DeadlockDetected as error:
            results.append(type(error))
        try:
            results.append(len(adding.result()))
        except psycopg.errors.DeadlockDetected as error:
            results.append(type(error))
    return results


@pytest.mark.parametrize("twice", [False, True])
def test_a_bulk_add_holds_nothing_when_it_looks_again_for_a_job_that_has_gone(
    queue: Queue, other: Queue, twice: bool
) -> None:
    assert race_of_bulk_add_and_late_key(queue, other, twice=twice) == [2, 3]
    assert sorted(drain(queue)) == [[0, 1, 1] if twice else [0, 1], [1], [1]]
    assert count_locked(queue) == 0


# Ends that come late


def race_of_late_end(queue: Queue, other: Queue, *, outcome: str, wait: bool = True) -> tuple[bool, str | None]:
    """The end of a first claim begins while the same worker is just claiming the job a second time.

    Returns whether the end was written, and who holds the job afterwards.
    """
    queue.add(payload="[1]")
    [first] = queue.claim()

    def claim_again(session: Queue) -> None:
        session.run("select {gw}.force_unlock_workers(array['worker'])")
        # A transaction's time stands still: the second claim of this one would be as old as its first.
        [second] = session.claim()
        assert (second["id"], second["locked_by"]) == (first["id"], first["locked_by"])

    _, states = at_once(
        queue,
        other,
        claim_again,
        lambda session: session.finish({**first, "outcome": outcome}, wait_for_locks=wait),
    )
    if not wait:  # it was busy, or is nobody's business any more
        states = other.finish({**first, "outcome": outcome}, wait_for_locks=False)
    holders = queue.values("select locked_by from {gw}.jobs")
    return bool(states), holders[0] if holders else None


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("outcome", ["success", "retry", "fail", "snooze", "return"])
def test_a_late_end_of_an_earlier_claim_leaves_the_later_one_alone(
    queue: Queue, other: Queue, outcome: str, wait: bool
) -> None:
    assert race_of_late_end(queue, other, outcome=outcome, wait=wait) == (False, "worker")


def race_of_add_begun_before_claim(queue: Queue, other: Queue, *, add: str) -> Outcome:
    """A transaction begins, a worker claims the job, the transaction adds to it, the worker gives the job back."""
    queue.add(job_key="a", payload="[1]")
    with other.conn.transaction():
        other.run("select 1")
        [claim] = queue.claim()
        rows = ADDS[add](other, "[2]")
    queue.finish({**claim, "outcome": "return"})
    return Outcome(all(map(is_real, rows)), drain(queue), count_locked(queue))


@pytest.mark.parametrize("add", ["replace", "bulk", "bulk, a key twice"])
def test_a_job_is_superseded_by_a_transaction_that_is_older_than_its_claim(
    queue: Queue, other: Queue, add: str
) -> None:
    assert race_of_add_begun_before_claim(queue, other, add=add) == Outcome(True, [[2]])


# Removing, against a worker


def race_of_removal(queue: Queue, other: Queue, *, work: str) -> tuple[bool, list[Events], int]:
    """Remove a job that a worker is just claiming or ending; tells whether its worker's end was written."""
    queue.add(job_key="a", payload="[1]", max_attempts=1 if work == "fail for good" else 25)
    claims = [] if work == "claim" else queue.claim()

    def do_work(session: Queue) -> dict[int, str]:
        if work == "claim":
            claims.extend(session.claim())
            return {}
        return session.finish({**claims[0], "outcome": ENDS[work], "had_key": True})

    states, _ = at_once(queue, other, do_work, remove)
    if work == "claim":
        states = queue.finish({**claims[0], "outcome": "return", "had_key": True})
    return bool(states), drain(queue), len(queue.values("select key from {gw}.jobs where key is not null"))


@pytest.mark.parametrize("work", ["claim", *ENDS])
def test_a_job_that_is_removed_while_a_worker_is_at_it_does_not_run_again(
    queue: Queue, other: Queue, work: str
) -> None:
    assert race_of_removal(queue, other, work=work) == (True, [], 0)


# Workers that are dead


def release(session: Queue) -> list[str]:
    return session.values("select state from {gw}._pgtasks_release_worker('worker', retire => true)")


def claim_if_allowed(session: Queue) -> None:
    with suppress(psycopg.DatabaseError), session.conn.transaction():
        session.claim()


def race_of_claim_and_retirement(queue: Queue, other: Queue, *, claim_first: bool) -> tuple[list[Events], int]:
    """A worker is given up while a claim of its is on its way; who gave it up tries until nothing is left to do."""
    queue.add(payload="[1]", queue_name="q")

    def release_all(session: Queue) -> None:
        wait_until(lambda: not {"claiming", "busy"} & set(release(session)), what="the worker's jobs to be given back")

    if claim_first:
        with queue.conn.transaction():
            assert len(queue.claim()) == 1
            first_answer = release(other)
        if first_answer:
            release_all(other)
    else:
        at_once(queue, other, release, claim_if_allowed)
    claim_if_allowed(queue)
    locked = count_locked(queue)
    return drain(queue), locked


@pytest.mark.parametrize("claim_first", [True, False])
def test_a_worker_that_is_given_up_while_it_claims_is_left_with_nothing(
    queue: Queue, other: Queue, claim_first: bool
) -> None:
    assert race_of_claim_and_retirement(queue, other, claim_first=claim_first) == ([[1]], 0)


# A name that goes while its job is being claimed


def race_of_claim_and_forgotten_task(queue: Queue, other: Queue) -> list[str | None]:
    """A task is deleted, as the reference's cleanup does that has not seen its job, in the middle of a claim."""
    queue.add("send", queue_name="q")
    queue.run(
        "create function public.pause() returns trigger language plpgsql as "
        "$$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$"
    )
    queue.run(
        "create trigger pause before update on {gw}._private_job_queues for each row execute function public.pause()"
    )
    with queue.conn.transaction():
        queue.run("select pg_advisory_xact_lock(1)")
        claiming = Background(other.claim)
        wait_until_blocked(queue, other)
        with psycopg.connect(queue.conn.info.dsn, autocommit=True) as third:
            Queue(third, queue.schema).run("delete from {gw}._private_tasks")
    return [claim["task"] for claim in claiming.result()]


def test_a_task_that_is_deleted_while_its_job_is_being_claimed_is_named_all_the_same(
    queue: Queue, other: Queue
) -> None:
    assert race_of_claim_and_forgotten_task(queue, other) == ["send"]


# The same without its guard


@dataclass(frozen=True)
class Guard:
    """What keeps a race from being lost, and what is lost without it."""

    function: str
    removed: dict[str, str]
    """Texts of the function, and what is put in their place."""

    race: Callable[[Queue, Queue], object]
    lost: object
    """What comes of the race, or the error that it raises."""


def deadlock(first: int = len(KEYS), second: int = len(KEYS)) -> list[list[object]]:
    """One of two calls is the victim, whichever."""
    victim = psycopg.errors.DeadlockDetected
    return [[first, victim], [victim, second]]


add_and_work = functools.partial(functools.partial, race_of_add_and_work)
adds = functools.partial(functools.partial, race_of_adds)

GUARDS = {
    "add_job: lock on the row": Guard(
        "_pgtasks_put_keyed_job",
        {"    for update;": "    ;"},
        add_and_work(add="replace", work="claim", add_first=False),
        Outcome(True, [[1]]),  # written into the job that runs, and deleted with it
    ),
    "add_job: another look after a conflict": Guard(
        "_pgtasks_put_keyed_job",
        {"-- Someone else added a job with this key after the look for it.": "return v_job;"},
        adds(state="none", first="replace", second="replace"),
        Outcome(False, [[1]]),
    ),
    "add_job: another look after a conflict, at a job that was superseded": Guard(
        "_pgtasks_put_keyed_job",
        {"-- Someone else added a job with this key after the look for it.": "return v_job;"},
        adds(state="running", first="replace", second="replace"),
        Outcome(False, [[0], [1]]),
    ),
    "add_job: on conflict": Guard(
        "_pgtasks_put_keyed_job",
        {"on conflict (key) do nothing": ""},
        adds(state="none", first="replace", second="replace"),
        psycopg.errors.UniqueViolation,
    ),
    "add_job: a superseded job has changed after its claim": Guard(
        "_pgtasks_put_keyed_job",
        {"clock_timestamp()": "now()"},
        functools.partial(race_of_add_begun_before_claim, add="replace"),
        Outcome(True, [[1], [2]]),
    ),
    "add_jobs: a superseded job has changed after its claim": Guard(
        "_pgtasks_put_distinct_jobs",
        {"clock_timestamp()": "now()"},
        functools.partial(race_of_add_begun_before_claim, add="bulk"),
        Outcome(True, [[1], [2]]),
    ),
    "add_jobs: lock on the rows": Guard(
        "_pgtasks_put_distinct_jobs",
        {"        for update\n": ""},
        add_and_work(add="bulk", work="claim", add_first=False),
        Outcome(True, [[1]]),
    ),
    "add_jobs: another look after a conflict": Guard(
        "_pgtasks_put_distinct_jobs",
        {"if cardinality(v_held_ids) < cardinality(v_there_keys) then": "if false then"},
        add_and_work(add="bulk", work="complete", add_first=False),
        Outcome(False, [[1]]),
    ),
    "add_jobs: on conflict": Guard(
        "_pgtasks_put_distinct_jobs",
        {"on conflict (key) do nothing": ""},
        adds(state="none", first="replace", second="bulk"),
        psycopg.errors.UniqueViolation,
    ),
    "add_jobs: locks on the keys": Guard(
        "_pgtasks_lock_job_keys",
        {"if cardinality(_pgtasks_lock_job_keys.job_keys) < 2 then": "if true then"},
        functools.partial(race_of_bulk_adds, hold="single"),
        deadlock(),
    ),
    "add_jobs: order of the keys": Guard(
        "_pgtasks_lock_job_keys",
        {
            "array_agg(hash order by hash)": "array_agg(hash)",
            "select distinct hashtextextended": "select hashtextextended",
        },
        functools.partial(race_of_bulk_adds, hold="bulk"),
        deadlock(),
    ),
    "add_jobs: order of the rows": Guard(
        "_pgtasks_put_distinct_jobs",
        {"        order by jobs.id\n": "        order by array_position(v_keys, jobs.key)\n"},
        functools.partial(race_of_bulk_add_and_ends, outcomes=["success"]),
        deadlock(),
    ),
    "add_jobs: rows let go before the next look": Guard(
        "_pgtasks_put_distinct_jobs",
        {"raise exception using errcode = 'GWAGN';": "continue;"},
        functools.partial(race_of_bulk_add_and_late_key, twice=False),
        deadlock(2, 3),
    ),
    "add_jobs: order of new tasks": Guard(
        "_pgtasks_add_specs",
        {
            "select distinct spec.identifier\n      from unnest(specs) as spec": "select spec.identifier\n"
            "      from unnest(specs) with ordinality as spec",
            "order by spec.identifier": "order by spec.ordinality",
        },
        functools.partial(race_of_new_names, field="identifier"),
        deadlock(),
    ),
    "add_jobs: order of new queues": Guard(
        "_pgtasks_add_specs",
        {
            "select distinct spec.queue_name\n      from unnest(specs) as spec": "select spec.queue_name\n"
            "      from unnest(specs) with ordinality as spec",
            "order by spec.queue_name": "order by spec.ordinality",
        },
        functools.partial(race_of_new_names, field="queue_name"),
        deadlock(),
    ),
    "add_unkeyed: order of new tasks": Guard(
        "_pgtasks_task_ids",
        {"order by wanted.identifier\n": "order by array_position(identifiers, wanted.identifier)\n"},
        functools.partial(race_of_new_names, field="identifier", way="add_unkeyed"),
        deadlock(),
    ),
    "add_unkeyed: order of new queues": Guard(
        "_pgtasks_queue_ids",
        {"order by wanted.queue_name\n": "order by array_position(queue_names, wanted.queue_name)\n"},
        functools.partial(race_of_new_names, field="queue_name", way="add_unkeyed"),
        deadlock(),
    ),
    "finish: order of the rows of jobs that succeeded": Guard(
        "_pgtasks_finish_jobs",
        {"order by done.id": ""},
        functools.partial(race_of_bulk_add_and_ends, outcomes=["success"]),
        deadlock(),
    ),
    "finish: order of the rows of other jobs": Guard(
        "_pgtasks_finish_jobs",
        {"order by done.id": ""},
        functools.partial(race_of_bulk_add_and_ends, outcomes=["return"]),
        deadlock(),
    ),
    **{
        f"finish: fence on the time of the claim, {outcome}": Guard(
            "_pgtasks_finish_jobs",
            {"and jobs.locked_at = done.locked_at": ""},
            functools.partial(race_of_late_end, outcome=outcome),
            (True, None),
        )
        for outcome in ("success", "retry", "fail", "snooze", "return")
    },
    "finish: lock on the rows": Guard(
        "_pgtasks_finish_jobs",
        {"      for update\n": ""},
        add_and_work(add="replace", work="give back", add_first=True),
        Outcome(True, [[1], [2]]),
    ),
    "finish: superseded jobs stay dead": Guard(
        "_pgtasks_finish_jobs",
        {"and done.superseded is not true": ""},
        add_and_work(add="replace", work="give back", add_first=True),
        Outcome(True, [[1], [2]]),
    ),
    "remove_job: lock on the row": Guard(
        "remove_job",
        {"  for update;": "  ;"},
        functools.partial(race_of_removal, work="claim"),
        (False, [], 0),  # deleted while it ran
    ),
    "remove_job: another look for the key": Guard(
        "remove_job",
        {"if not exists (select": "if true or not exists (select"},
        add_and_work(add="replace", work="remove while it runs", add_first=True),
        Outcome(False, [[1], [2]]),  # it runs although it was removed after it was added
    ),
    "claim: names of tasks looked up once": Guard(
        "_pgtasks_claim_jobs",
        {
            "v_task_names[array_position(v_task_ids, claimed.task_id)]": "(select tasks.identifier from "
            "graphile_worker._private_tasks as tasks where tasks.id = claimed.task_id)"
        },
        race_of_claim_and_forgotten_task,
        [None],  # a worker process would end over it, and what it runs with it
    ),
    "claim: lock on the worker": Guard(
        "_pgtasks_begin_claim",
        {"perform pg_advisory_xact_lock_shared(": "perform abs("},
        functools.partial(race_of_claim_and_retirement, claim_first=True),
        ([], 2),
    ),
    "claim: retired workers": Guard(
        "_pgtasks_begin_claim",
        {"where workers.id = _pgtasks_begin_claim.worker_id and workers.retired_at is not null": "where false"},
        functools.partial(race_of_claim_and_retirement, claim_first=False),
        ([], 2),
    ),
}


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_without_its_guard_the_race_is_lost(queue: Queue, other: Queue, schema: str, guard: Guard) -> None:
    for old, new in guard.removed.items():
        without(queue.conn, schema, guard.function, old, new)
    if isinstance(guard.lost, type):
        with pytest.raises(guard.lost):
            guard.race(queue, other)
    elif guard.lost in (deadlock(), deadlock(2, 3)):
        assert guard.race(queue, other) in guard.lost
    else:
        assert guard.race(queue, other) == guard.lost
