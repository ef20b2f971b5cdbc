"""Looking at jobs and changing them by hand, from Python: what is found, what is done, and why something was not."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgtasks import (
    App,
    DatabaseUnavailableError,
    Job,
    JobChange,
    JobOptionError,
    JobPage,
    QueueInfo,
    Registry,
    SchemaPendingError,
    TaskInfo,
)
from pgtasks.queue import admin as operations
from pgtasks.testing import make_job
from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.queue.conftest import Admin
    from tests.sql.queue import Queue

every = pytest.mark.one_postgres_each
odd = pytest.mark.every_schema

FRESH = "3 hours 59 minutes"
STALE = "4 hours 1 minute"
LATER = dt.datetime(2040, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)


class States(NamedTuple):
    """A job in each state, in the order of their ids."""

    ready: int
    scheduled: int
    running: int
    stale: int
    failed: int


@pytest.fixture
def states(queue: Queue) -> States:
    made = States(*(queue.add(max_attempts=3, priority=1, payload="[1]") for _ in States._fields))
    queue.set(made.scheduled, run_at=LATER)
    queue.lock(made.running, "worker-1", FRESH)
    queue.lock(made.stale, "worker-2", STALE)
    queue.set(made.failed, attempts=3, last_error="broke")
    return made


def ids(page: JobPage) -> list[int]:
    return [job.id for job in page.jobs]


def pages(admin: Admin, **filters: Any) -> Iterator[JobPage]:
    after: str | None = None
    while True:
        page: JobPage = admin.list(**filters, after=after)
        yield page
        if page.next is None:
            return
        after = page.next


def all_ids(admin: Admin, **filters: Any) -> list[int]:
    return list(itertools.chain.from_iterable(map(ids, pages(admin, **filters))))


# get


@every
@odd
def test_get_returns_all_that_is_stored(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(
        "send",
        payload='{"n": 1}',
        queue_name="q",
        run_at=LATER,
        max_attempts=2,
        job_key="k",
        priority=-3,
        flags=["b", "a"],
    )
    queue.set(job_id, last_error="broke")
    queue.lock(job_id, "worker-1")
    row = queue.job(job_id)
    assert admin.get(job_id) == Job(
        id=job_id,
        task="send",
        queue="q",
        payload_json='{"n": 1}',
        priority=-3,
        run_at=LATER,
        attempts=1,
        max_attempts=2,
        last_error="broke",
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        key="k",
        locked_at=row["locked_at"],
        locked_by="worker-1",
        revision=0,
        flags=("a", "b"),
    )


def test_get_returns_none_for_a_job_that_is_not_there(admin: Admin) -> None:
    assert admin.get(10**12) is None


def test_a_job_whose_task_is_not_registered_is_shown_all_the_same(admin: Admin, queue: Queue) -> None:
    job_id = queue.add("send")
    queue.run("delete from {gw}._private_tasks")
    task = f"unknown task {queue.job(job_id)['task_id']}"
    assert admin.get(job_id).task == task
    assert [job.task for job in admin.list().jobs] == [task]


# list


@every
@odd
def test_list_returns_the_newest_first(admin: Admin, queue: Queue) -> None:
    added = [queue.add(f"task {n}", queue_name="q" if n else None, payload=f"[{n}]") for n in range(3)]
    page = admin.list()
    assert ids(page) == added[::-1]
    assert [(job.task, job.queue, job.payload) for job in page.jobs] == [
        ("task 2", "q", [2]),
        ("task 1", "q", [1]),
        ("task 0", None, [0]),
    ]
    assert page.next is None


def test_an_empty_queue_has_one_empty_page(admin: Admin) -> None:
    assert admin.list() == JobPage((), None)


@every
def test_list_knows_the_states(admin: Admin, states: States) -> None:
    found = {state: ids(admin.list(state=state)) for state in ("ready", "scheduled", "running", "failed")}
    assert found == {
        "ready": [states.ready],
        "scheduled": [states.scheduled],
        "running": [states.stale, states.running],
        "failed": [states.failed],
    }


FILTERS: dict[str, str] = {
    "task": "send",
    "queue": "q",
    "state": "running",
    "key": "k",
    "flag": "smtp",
    "locked_by": "worker-1",
}


@every
def test_filters_are_joined_by_and(admin: Admin, queue: Queue) -> None:
    matches: dict[int, set[str]] = {}
    for absent in (None, *FILTERS):
        has = set(FILTERS) - {absent}
        if absent == "state":
            has.discard("locked_by")
        job_id = queue.add(
            "send" if "task" in has else "other",
            queue_name="q" if "queue" in has else None,
            job_key="k" if "key" in has and not matches else None,
            flags=["smtp", "x"] if "flag" in has else ["x"],
        )
        if matches:
            has.discard("key")
        if "state" in has:
            queue.lock(job_id, "worker-1" if "locked_by" in has else "worker-2")
        matches[job_id] = has
    newest_first = sorted(matches, reverse=True)
    for size in range(len(FILTERS) + 1):
        for names in itertools.combinations(FILTERS, size):
            expected = [job_id for job_id in newest_first if matches[job_id] >= set(names)]
            assert ids(admin.list(**{name: FILTERS[name] for name in names})) == expected, names


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_nothing_matches_finds_nothing(admin: Admin, states: States, name: str) -> None:
    value = "failed" if name == "state" else "no such"
    extra = {"task": "no such"} if name == "state" else {}
    assert admin.list(**{name: value}, **extra) == JobPage((), None)


@every
@pytest.mark.parametrize(
    "filters", [{}, {"task": "send"}, {"state": "ready", "queue": "q"}, {"state": "failed"}, {"locked_by": "w"}]
)
@pytest.mark.parametrize("limit", [1, 3, 4, 12, 13, 10_000])
def test_pages_hold_every_job_once(admin: Admin, queue: Queue, filters: dict[str, str], limit: int) -> None:
    added = [job["id"] for job in queue.add_jobs(*({"queue_name": "q"} for _ in range(12)))]
    if filters == {"state": "failed"}:
        queue.run("update {gw}._private_jobs set attempts = max_attempts")
    if "locked_by" in filters:
        queue.run("update {gw}._private_jobs set locked_at = now(), locked_by = 'w'")
    found = list(pages(admin, limit=limit, **filters))
    assert [job_id for page in found for job_id in ids(page)] == added[::-1]
    assert all(len(page.jobs) == limit for page in found[:-1])
    assert len(found[-1].jobs) > 0


def test_pages_are_stable_while_jobs_come_and_go(admin: Admin, queue: Queue) -> None:
    added = [queue.add() for _ in range(9)]
    seen: list[int] = []
    for page in pages(admin, limit=2):
        seen += ids(page)
        queue.add()
        queue.run("delete from {gw}._private_jobs where id = %s", seen[-1])
    assert seen == added[::-1]


@every
def test_a_look_up_is_bounded_and_leads_on(admin: Admin, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "LOOK_AT", 1_500)
    wanted = queue.add("wanted")
    queue.add_jobs(*({} for _ in range(2_999)))
    wanted_too = queue.add("wanted")
    assert [ids(page) for page in pages(admin, task="wanted")] == [[wanted_too], [], [wanted]]


def test_what_is_found_by_an_index_is_on_the_first_page(
    admin: Admin, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "LOOK_AT", 2)
    keyed, locked, failed = queue.add(job_key="k"), queue.add(), queue.add()
    queue.add_jobs(*({} for _ in range(10)))
    queue.lock(locked, "w")
    queue.set(failed, attempts=25)
    for filters, job_id in (
        ({"key": "k"}, keyed),
        ({"locked_by": "w"}, locked),
        ({"state": "running"}, locked),
        ({"state": "failed"}, failed),
    ):
        assert admin.list(**filters) == JobPage((admin.get(job_id),), None), filters


# Changing


def done(changes: list[operations.JobChange]) -> list[int]:
    return [change.id for change in changes if change.done]


def reasons(changes: list[operations.JobChange]) -> dict[int, str]:
    return {change.id: change.reason for change in changes if change.reason is not None}


CHANGES: dict[str, Callable[[Any, list[int]], Any]] = {
    "complete": lambda admin, job_ids: admin.complete(job_ids),
    "fail": lambda admin, job_ids: admin.fail(job_ids),
    "reschedule": lambda admin, job_ids: admin.reschedule(job_ids, priority=7),
}


@every
@odd
@pytest.mark.parametrize("change", CHANGES)
def test_each_id_has_its_answer_in_the_order_given(admin: Admin, queue: Queue, states: States, change: str) -> None:
    given = [states.failed, 10**12, states.running, states.ready, states.stale, states.scheduled]
    before = {job_id: admin.get(job_id) for job_id in states}
    changes = CHANGES[change](admin, given)
    assert [each.id for each in changes] == given
    assert done(changes) == [states.failed, states.ready, states.stale, states.scheduled]
    assert reasons(changes) == {10**12: "unknown", states.running: "locked by worker-1"}
    for each in changes:
        if each.done:
            assert each.job == (before[each.id] if change == "complete" else admin.get(each.id))
            assert change == "complete" or each.job != before[each.id]
    assert admin.get(states.running) == before[states.running]


def test_no_ids_are_no_changes(admin: Admin) -> None:
    assert [CHANGES[name](admin, []) for name in CHANGES] == [[], [], []]
    assert admin.retry([]) == []


def test_an_id_that_is_given_twice_has_one_answer(admin: Admin, queue: Queue) -> None:
    job_id = queue.add()
    assert done(admin.complete(iter([job_id, job_id]))) == [job_id]


@every
def test_complete_deletes(admin: Admin, queue: Queue, states: States) -> None:
    admin.complete(states)
    assert queue.job_ids() == [states.running]


@every
def test_fail_keeps_the_reason_and_the_job_does_not_run(admin: Admin, queue: Queue) -> None:
    one, two = queue.add(), queue.add()
    [first] = admin.fail([one], "the customer is gone")
    [second] = admin.fail([two])
    assert (first.job.last_error, second.job.last_error) == ("the customer is gone", "Manually marked as failed")
    assert ids(admin.list(state="failed")) == [two, one]
    assert queue.claim() == []


FIELDS: dict[str, Any] = {"run_at": LATER, "priority": -32768, "attempts": 2, "max_attempts": 32767}


@every
@pytest.mark.parametrize("names", [[name] for name in FIELDS] + [list(FIELDS)])
def test_reschedule_changes_what_is_given_and_nothing_else(admin: Admin, queue: Queue, names: list[str]) -> None:
    job_id = queue.add(max_attempts=3, priority=1)
    before = admin.get(job_id)
    [change] = admin.reschedule([job_id], **{name: FIELDS[name] for name in names})
    after = admin.get(job_id)
    assert change.job == after
    for name, value in FIELDS.items():
        assert getattr(after, name) == (value if name in names else getattr(before, name))
    assert (after.payload, after.key, after.revision) == (before.payload, before.key, before.revision)


@every
@pytest.mark.parametrize("delay", [0, 90, 90.25, dt.timedelta(days=400, microseconds=5)])
def test_a_delay_counts_from_the_databases_clock(admin: Admin, queue: Queue, delay: Any) -> None:
    job_id = queue.add(run_at=LATER)
    [change] = admin.reschedule([job_id], delay=delay)
    span = delay if isinstance(delay, dt.timedelta) else dt.timedelta(seconds=delay)
    assert change.job.run_at - change.job.updated_at == span


@every
def test_what_is_rescheduled_or_retried_wakes_workers(admin: Admin, queue: Queue, states: States) -> None:
    queue.listen()
    admin.reschedule(states, delay=0)
    assert queue.counts_heard() == [4]
    admin.retry([states.failed])
    assert queue.counts_heard() == [1]
    admin.reschedule([states.running], delay=0)
    admin.retry([states.ready])
    assert queue.counts_heard() == []


@every
def test_retry_runs_permanently_failed_jobs_again(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(max_attempts=2, job_key="k")
    for _ in range(2):
        [claimed] = queue.claim()
        queue.finish({**claimed, "outcome": "retry", "last_error": "broke", "delay": 0})
    assert (ids(admin.list(state="failed")), queue.claim()) == ([job_id], [])

    [change] = admin.retry([job_id])
    assert (change.done, change.reason) == (True, None)
    assert (change.job.attempts, change.job.max_attempts, change.job.last_error) == (0, 2, "broke")
    for attempt in (1, 2):
        [claimed] = queue.claim()
        assert (claimed["id"], claimed["attempts"]) == (job_id, attempt)
        queue.finish({**claimed, "outcome": "retry", "last_error": "broke again", "delay": 0})
    assert queue.claim() == []


@every
def test_retry_leaves_all_others_alone(admin: Admin, queue: Queue, states: States) -> None:
    stale_and_failed = queue.add(max_attempts=1)
    queue.lock(stale_and_failed, "worker-3", STALE)
    changes = admin.retry([*states, stale_and_failed, 10**12])
    assert done(changes) == [states.failed, stale_and_failed]
    assert reasons(changes) == {
        states.ready: "not failed",
        states.scheduled: "not failed",
        states.running: "locked by worker-1",
        states.stale: "not failed",
        10**12: "unknown",
    }


REVIVED: dict[str, Callable[[Admin, int], list[JobChange]]] = {
    "retry": lambda admin, job_id: admin.retry([job_id]),
    "reschedule": lambda admin, job_id: admin.reschedule([job_id], delay=0, attempts=0),
}


@every
@odd
@pytest.mark.parametrize("change", REVIVED.values(), ids=REVIVED)
def test_what_is_to_run_again_is_not_held_up_by_a_stale_lock(
    admin: Admin, queue: Queue, change: Callable[[Admin, int], list[JobChange]]
) -> None:
    job_id = queue.add(max_attempts=1, queue_name="q")
    queue.lock(job_id, "gone", STALE)
    [changed] = change(admin, job_id)
    assert changed.job == admin.get(job_id) is not None
    assert queue.job(job_id)["locked_by"] is None
    assert [job["id"] for job in queue.claim()] == [job_id]


def test_a_stale_job_that_is_marked_as_failed_does_not_show_as_running(admin: Admin, queue: Queue) -> None:
    job_id = queue.add()
    queue.lock(job_id, "gone", STALE)
    admin.fail([job_id])
    assert (ids(admin.list(state="running")), ids(admin.list(state="failed"))) == ([], [job_id])


@every
def test_a_lock_of_another_job_on_the_queue_stays(admin: Admin, queue: Queue) -> None:
    stale, running = queue.add(max_attempts=1, queue_name="q"), queue.add(queue_name="q")
    queue.lock(stale, "gone", STALE)
    queue.lock(running, "worker-1")
    admin.retry([stale])
    assert queue.queue("q")["locked_by"] == "worker-1"
    assert queue.claim() == []


@every
def test_a_stale_lock_of_a_job_that_is_left_alone_stays(admin: Admin, queue: Queue, states: States) -> None:
    before = queue.job(states.stale)
    assert reasons(admin.retry([states.stale])) == {states.stale: "not failed"}
    assert queue.job(states.stale) == before


@every
def test_what_a_worker_takes_while_a_change_waits_is_left_alone(app: App, queue: Queue, other: Queue) -> None:
    job_id = queue.add()
    with psycopg.connect(queue.conn.info.dsn, autocommit=True) as own:
        with other.conn.transaction():
            other.lock(job_id, "worker-1")
            change = Background(lambda: app.jobs.complete([job_id], connection=own))
            wait_until_blocked(queue, type(queue)(own, queue.schema))
        assert reasons(change.result()) == {job_id: "changed meanwhile"}
    assert queue.exists(job_id)


# remove


@every
@odd
def test_remove_deletes_the_job_with_the_key_and_returns_it(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(job_key="k", queue_name="q")
    before = admin.get(job_id)
    assert admin.remove("k") == before
    assert admin.get(job_id) is None
    assert admin.remove("k") is None


@every
def test_a_locked_job_loses_its_key_and_is_not_tried_again(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(job_key="k")
    queue.lock(job_id, "worker-1", FRESH)
    removed = admin.remove("k")
    assert (removed.id, removed.key, removed.locked_by, removed.attempts) == (job_id, None, "worker-1", 25)
    assert admin.get(job_id) == removed


def test_a_job_with_a_stale_lock_is_removed(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(job_key="k")
    queue.lock(job_id, "worker-1", STALE)
    assert admin.remove("k").id == job_id
    assert queue.job_ids() == []


# Workers, queues, tasks


@every
def test_cancel_removes_what_waits_and_tells_who_holds_the_rest(admin: Admin, queue: Queue, states: States) -> None:
    changes = admin.cancel([states.running, *states, 99], "no more")
    assert [(one.id, one.state, one.done) for one in changes] == [
        (states.running, "running", True),
        *((job_id, "removed", True) for job_id in states if job_id != states.running),
        (99, "unknown", False),
    ]
    running, *removed = [one.job for one in changes[:-1]]
    assert (running.locked_by, running.attempts, running.key) == ("worker-1", 4, None)
    assert [job.payload for job in removed] == [[1]] * 4
    assert queue.job_ids() == [states.running]


def test_force_unlock_takes_everything_from_workers(admin: Admin, queue: Queue) -> None:
    held = [queue.add(queue_name=f"q{n}") for n in range(4)]
    for n, job_id in enumerate(held):
        queue.lock(job_id, "dead" if n < 3 else "alive", f"{n} minutes")
    oldest = queue.queue("q2")["locked_at"]
    queue.listen()
    result = admin.force_unlock(["nobody", "dead", "dead"])
    assert [(worker.id, worker.jobs, worker.oldest_lock) for worker in result] == [
        ("nobody", 0, None),
        ("dead", 3, oldest),
    ]
    assert ids(admin.list(state="running")) == [held[3]]
    assert [each.locked_by for each in admin.queues()] == [None, None, None, "alive"]
    assert queue.counts_heard() == [3]
    assert sorted(job["id"] for job in queue.claim()) == held[:3]


def test_force_unlock_tells_of_a_worker_that_holds_only_a_queue(admin: Admin, queue: Queue) -> None:
    job_id = queue.add(queue_name="q")
    queue.lock(job_id, "dead")
    queue.run("delete from {gw}._private_jobs")
    [worker] = admin.force_unlock(["dead"])
    assert (worker.jobs, worker.oldest_lock is not None) == (0, True)
    assert [each.locked_by for each in admin.queues()] == [None]


@every
@odd
def test_queues_are_listed_by_name(admin: Admin, queue: Queue) -> None:
    for name, jobs in (("b", 2), ("a", 1), ("c", 3)):
        for _ in range(jobs):
            queue.add(queue_name=name, run_at=LATER)
    locked, failed = queue.add(queue_name="c"), queue.add(queue_name="c")
    queue.lock(locked, "worker-1")
    queue.set(failed, attempts=25)
    since = queue.queue("c")["locked_at"]
    a, b, c = (
        QueueInfo("a", None, None, 1),
        QueueInfo("b", None, None, 2),
        QueueInfo("c", "worker-1", since, 3),
    )
    assert admin.queues() == [a, b, c]
    assert admin.queues(2) == [a, b]
    assert admin.queues(2, after="b") == [c]
    assert admin.queues(after="c") == []


@every
def test_tasks_are_listed_by_name(admin: Admin, queue: Queue) -> None:
    for name, jobs in (("b", 2), ("a", 1)):
        for number in range(jobs):
            queue.add(name, queue_name="q" if number else None, run_at=LATER)
    for name in "bc":
        queue.lock(queue.add(name), "worker-1")
    queue.set(queue.add("c"), attempts=25)
    a, b, c = TaskInfo("a", 1, 0, 0), TaskInfo("b", 2, 1, 0), TaskInfo("c", 0, 1, 1)
    assert admin.tasks() == [a, b, c]
    assert admin.tasks(2) == [a, b]
    assert admin.tasks(2, after="b") == [c]


@every
def test_workers_are_those_that_hold_jobs(admin: Admin, queue: Queue) -> None:
    queue.add()
    assert admin.workers() == []
    held = [queue.add() for _ in range(5)]
    for number, job_id in enumerate(held):
        queue.lock(job_id, "b" if number < 3 else "ac"[number - 3], f"{number} minutes")
    locked_at = [queue.job(job_id)["locked_at"] for job_id in held]
    assert [(worker.id, worker.jobs, worker.oldest_lock) for worker in admin.workers()] == [
        ("a", 1, locked_at[3]),
        ("b", 3, locked_at[2]),
        ("c", 1, locked_at[4]),
    ]
    assert [worker.id for worker in admin.workers(2)] == ["a", "b"]


@every
def test_workers_are_also_those_that_are_running_with_what_their_heartbeats_told(admin: Admin, queue: Queue) -> None:
    for worker in ("b", "d", "ended"):
        queue.run("select {gw}._pgtasks_register_worker(%s, 'host', 'web3', 77, '1.2')", worker)
    queue.run("select {gw}._pgtasks_release_worker('ended', retire => true)")
    queue.run(
        "select {gw}._pgtasks_heartbeat("
        "'host', 'web3', '1.2', array['d'], array[77], array[2], array[30], array[4], 30)"
    )
    queue.lock(queue.add(), "a")
    queue.lock(queue.add(), "b")
    a, b, d = admin.workers()
    assert (a.id, a.jobs, a.host, a.pid, a.heartbeat_at, a.succeeded) == ("a", 1, None, None, None, None)
    assert (b.id, b.jobs, b.host, b.pid, b.version, b.succeeded) == ("b", 1, "web3", 77, "1.2", 0)
    assert (d.id, d.jobs, d.oldest_lock, d.succeeded, d.failed) == ("d", 0, None, 30, 4)
    assert d.heartbeat_at == queue.value("select heartbeat_at from {gw}._pgtasks_workers where id = 'd'")
    assert a.heartbeat_age is None
    queue.run("update {gw}._pgtasks_workers set heartbeat_at = heartbeat_at - interval '100 s' where id = 'b'")
    b, d = admin.workers()[1:]
    assert (b.heartbeat_age >= 100, d.heartbeat_age >= 0) == (True, True)
    [unlocked] = admin.force_unlock(["b"])
    assert unlocked.heartbeat_age >= b.heartbeat_age
    assert [worker.id for worker in admin.workers(2)] == ["a", "b"]


def test_counts_stop(admin: Admin, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "COUNT_LIMIT", 2)
    for _ in range(3):
        queue.add(queue_name="q")
    assert [each.waiting for each in admin.queues()] == [2]
    assert [each.waiting for each in admin.tasks()] == [2]
    queue.run("update {gw}._private_jobs set locked_at = now(), locked_by = 'w'")
    assert [each.jobs for each in admin.workers()] == [2]


# On a connection of the caller's


CALLS: dict[str, Callable[[Any, States, Any], Any]] = {
    "complete": lambda jobs, states, own: jobs.complete(states, connection=own),
    "fail": lambda jobs, states, own: jobs.fail(states, connection=own),
    "reschedule": lambda jobs, states, own: jobs.reschedule(states, priority=9, connection=own),
    "retry": lambda jobs, states, own: jobs.retry(states, connection=own),
    "remove": lambda jobs, _, own: jobs.remove("k", connection=own),
    "force_unlock": lambda jobs, _, own: jobs.force_unlock(["worker-1"], connection=own),
    "cleanup": lambda jobs, _, own: jobs.cleanup("DELETE_PERMAFAILED_JOBS", connection=own),
}


@every
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("commit", [True, False])
def test_a_change_belongs_to_the_callers_transaction(
    app: App, queue: Queue, states: States, database: str, call: str, commit: bool
) -> None:
    everything = "select * from {gw}._private_jobs order by id"
    queue.set(states.ready, key="k")
    before = queue.rows(everything)
    with psycopg.connect(database) as own:
        CALLS[call](app.jobs, states, own)
        assert queue.rows(everything) == before
        own.commit() if commit else own.rollback()
    assert (queue.rows(everything) == before) is not commit


@every
@pytest.mark.parametrize("call", CALLS)
def test_a_change_belongs_to_the_callers_asynchronous_transaction(
    app: App, queue: Queue, states: States, database: str, call: str
) -> None:
    everything = "select * from {gw}._private_jobs order by id"
    queue.set(states.ready, key="k")
    before = queue.rows(everything)

    async def change() -> None:
        async with await psycopg.AsyncConnection.connect(database) as own:
            await CALLS[call](app.jobs_async, states, own)
            await own.rollback()
            assert queue.rows(everything) == before
            await CALLS[call](app.jobs_async, states, own)

    asyncio.run(change())
    assert queue.rows(everything) != before


def test_a_look_sees_what_the_callers_transaction_has_done(app: App, database: str) -> None:
    with psycopg.connect(database) as own:
        job = app.add_job("send", connection=own)
        assert ids(app.jobs.list(connection=own)) == [job.id]
        assert app.jobs.get(job.id) is None


def test_the_wrong_kind_of_connection_is_named(app: App, connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(JobOptionError, match=r"connection cannot be a psycopg\.Connection here"):
        asyncio.run(app.jobs_async.get(1, connection=connection))
    with pytest.raises(JobOptionError, match="connection cannot be a str here"):
        app.jobs.list(connection="host=localhost")  # type: ignore[arg-type]


# What cannot be done

TOO_MANY = range(10_001)
JOB = make_job("send", id=7)

BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "id as text": (lambda jobs: jobs.get("7"), "job_id='7' must be a whole number, not str"),
    "id of true": (lambda jobs: jobs.get(True), "job_id=True must be a whole number, not bool"),
    "no id": (lambda jobs: jobs.get(None), "job_id=None must be a whole number, not NoneType"),
    "id too large": (lambda jobs: jobs.get(2**63), "job_id=9223372036854775808 is out of range"),
    "ids as one": (lambda jobs: jobs.complete(7), r"job_ids=7 must be a list of whole numbers; write \[7\]"),
    "ids as text": (lambda jobs: jobs.fail("7"), "job_id='7' must be a whole number, not str"),
    "ids as lists": (lambda jobs: jobs.complete([[1]]), r"job_id=\[1\] must be a whole number, not list"),
    "a job": (lambda jobs: jobs.cancel(JOB), r"job_ids=7 must be a list of whole numbers; write \[7\]"),
    "jobs as ids": (lambda jobs: jobs.cancel([JOB]), "job_id must be a whole number, not a Job; give its id, 7"),
    "an id of true": (lambda jobs: jobs.retry([1, True]), "job_id=True must be a whole number, not bool"),
    "too many ids": (lambda jobs: jobs.retry(TOO_MANY), "job_ids holds 10001, one call takes at most 10000"),
    "state": (lambda jobs: jobs.list(state="faild"), "state='faild' is none of .* did you mean 'failed'"),
    "state as list": (lambda jobs: jobs.list(state=["failed"]), r"state=\['failed'\] is none of"),
    "task": (lambda jobs: jobs.list(task=7), "task=7 must be a string, not int"),
    "queue": (lambda jobs: jobs.list(queue=b"q"), "queue=b'q' must be a string, not bytes"),
    "key": (lambda jobs: jobs.list(key="a\0b"), "key=.* holds a character that PostgreSQL cannot store"),
    "flag": (lambda jobs: jobs.list(flag="\ud800"), "flag=.* holds a character that PostgreSQL cannot store"),
    "locked_by": (lambda jobs: jobs.list(locked_by=7), "locked_by=7 must be a string"),
    "limit 0": (lambda jobs: jobs.list(limit=0), "limit=0 is out of range: it must be from 1 to 10000"),
    "limit too high": (lambda jobs: jobs.queues(10_001), "limit=10001 is out of range"),
    "limit of true": (lambda jobs: jobs.tasks(True), "limit=True must be a whole number"),
    "limit as text": (lambda jobs: jobs.workers("7"), "limit='7' must be a whole number"),
    "position": (lambda jobs: jobs.list(after="7"), "after='7' is not the `next` of a page"),
    "position out of range": (lambda jobs: jobs.list(after=f"before-{2**63}"), "is not the `next` of a page"),
    "position too long": (lambda jobs: jobs.list(after="before-" + "9" * 5_000), "is not the `next` of a page"),
    "position as number": (lambda jobs: jobs.list(after=7), "after=7 is not the `next` of a page"),
    "name": (lambda jobs: jobs.queues(after=7), "after=7 must be a string"),
    "reason": (lambda jobs: jobs.fail([1], 7), "reason=7 must be a string"),
    "reason with NUL": (lambda jobs: jobs.fail([1], "\0"), "reason=.* holds a character"),
    "nothing to change": (lambda jobs: jobs.reschedule([1]), "nothing is to be changed; give run_at, delay"),
    "naive time": (lambda jobs: jobs.reschedule([1], run_at=dt.datetime(2040, 1, 1)), "has no time zone"),  # noqa: DTZ001
    "two times": (lambda jobs: jobs.reschedule([1], run_at=LATER, delay=1), "both say when the job runs"),
    "delay": (lambda jobs: jobs.reschedule([1], delay=-1), "delay=-1 must not be negative"),
    "priority": (lambda jobs: jobs.reschedule([1], priority=32_768), "priority=32768 is out of range"),
    "attempts": (lambda jobs: jobs.reschedule([1], attempts=-1), "attempts=-1 is out of range"),
    "max_attempts": (lambda jobs: jobs.reschedule([1], max_attempts=0), "max_attempts=0 is out of range"),
    "no key": (lambda jobs: jobs.remove(None), "key=None must be a string, not NoneType"),
    "worker as text": (lambda jobs: jobs.force_unlock("w"), r"write \['w'\]"),
    "worker of none": (lambda jobs: jobs.force_unlock([None]), "worker_id=None must be a string"),
    "workers as number": (lambda jobs: jobs.force_unlock(7), "worker_ids=7 must be a list of strings"),
    "no operation": (lambda jobs: jobs.cleanup(), "nothing is to be cleaned up; give one or more of 'GC_TASK"),
    "operation": (lambda jobs: jobs.cleanup("GC_JOBS"), "operation='GC_JOBS' is none of .* did you mean"),
    "operations as list": (lambda jobs: jobs.cleanup(["GC_JOB_QUEUES"]), "is none of"),
    "cleanup limit": (lambda jobs: jobs.cleanup("GC_JOB_QUEUES", limit=0), "limit=0 is out of range"),
}


@pytest.mark.parametrize("call", BAD)
def test_a_bad_argument_is_named_and_nothing_is_done(admin: Admin, queue: Queue, states: States, call: str) -> None:
    bad, message = BAD[call]
    before = queue.rows("select * from {gw}._private_jobs")
    with pytest.raises(JobOptionError, match=message) as caught:
        bad(admin)
    assert "\n" not in str(caught.value)
    assert queue.rows("select * from {gw}._private_jobs") == before


def test_a_schema_that_is_not_there_is_named_with_what_to_run(empty_database: str) -> None:
    app = App(registry=Registry(), database_url=empty_database)
    for call in (
        lambda: app.jobs.get(1),
        app.jobs.list,
        lambda: app.jobs.complete([1]),
        lambda: app.jobs.cleanup("GC_JOB_QUEUES"),
        lambda: asyncio.run(app.jobs_async.queues()),
    ):
        with pytest.raises(SchemaPendingError, match="'graphile_worker' holds no queue: run `pgtasks migrate`"):
            call()
    app.close()


@pytest.fixture
def stranger(database: str, connection: psycopg.Connection[Any]) -> Iterator[str]:
    """The name of a role that can log in and has no rights."""
    role = f"stranger_{os.getpid()}_{threading.get_ident()}"
    connection.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    yield role
    connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
    connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def test_a_role_that_may_not_use_the_schema_is_told_so(database: str, stranger: str) -> None:
    app = App(registry=Registry(), database_url=make_conninfo(database, user=stranger))
    for call in (app.jobs.list, lambda: app.jobs.retry([1]), app.jobs.workers):
        with pytest.raises(DatabaseUnavailableError, match=r"the role may not do this on .* permission denied"):
            call()
    app.close()


@every
@odd
def test_a_role_that_sees_no_rows_is_told_so(queue: Queue, database: str, schema: str, stranger: str) -> None:
    job_id = queue.add(job_key="k", queue_name="q")
    for grant in ("usage on schema {gw}", "all on all tables in schema {gw}"):
        queue.run(f"grant {grant} to {stranger}")
    app = App(registry=Registry(), database_url=make_conninfo(database, user=stranger), schema=schema)
    message = f"row level security hides the queue in schema {schema!r} from role '{stranger}'"
    for call in (
        lambda: app.jobs.get(job_id),
        app.jobs.list,
        lambda: app.jobs.complete([job_id]),
        lambda: app.jobs.remove("k"),
        lambda: app.jobs.force_unlock(["w"]),
        app.jobs.queues,
        app.jobs.tasks,
        app.jobs.workers,
        lambda: app.jobs.cleanup("GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"),
        lambda: asyncio.run(app.jobs_async.get(job_id)),
    ):
        with pytest.raises(DatabaseUnavailableError) as caught:
            call()
        assert message in str(caught.value)
    assert queue.job_ids() == [job_id]

    queue.run(f"create policy looking on {{gw}}._private_jobs for select to {stranger} using (true)")
    assert ids(app.jobs.list()) == [job_id]
    assert app.jobs.get(job_id + 1) is None
    app.close()
