from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

MANY = 1100
"""More jobs than a claim's first look sees."""


def take(
    queue: Queue,
    tasks: Sequence[str] = ("send",),
    forbidden: Sequence[str] = (),
    forbidden_queues: Sequence[str] | None = None,
    **options: Any,
) -> list[int]:
    """Claim, and see that the look beforehand told whether there is something; return the ids in order."""
    runnable = queue.has_runnable(tasks, forbidden, forbidden_queues)
    claimed = queue.claim(tasks, forbidden=forbidden, forbidden_queues=forbidden_queues, **options)
    assert runnable == bool(claimed)
    return [job["id"] for job in claimed]


def add_many(queue: Queue, count: int, spec: str) -> None:
    """Add jobs by an SQL expression for a spec, in which `n` is the job's number."""
    queue.run(
        f"select count(*) from {{gw}}.add_jobs(array(select row({spec})::{{gw}}.job_spec "
        f"from generate_series(1, {count}) as n order by n))"
    )


SHARED_QUEUES = """
select job_queue_id from {gw}._private_jobs where locked_at is not null group by job_queue_id
having job_queue_id is not null and count(*) > 1
"""

AHEAD = {
    "nothing": (0, ""),
    "other tasks": (MANY, "'other', null, null, '2020-01-01', null, null, -5, null"),
    "other tasks in queues": (MANY, "'other', null, 'other ' || n % 7, '2020-01-01', null, null, -5, null"),
    "a busy queue": (MANY, "'send', null, 'busy', '2020-01-01', null, null, -5, null"),
    "forbidden flags": (MANY, "'send', null, null, '2020-01-01', null, null, -5, array['slow']"),
    "forbidden flags in queues": (MANY, "'send', null, 'f ' || n % 7, '2020-01-01', null, null, -5, array['slow']"),
    "many of each": (
        4 * MANY,
        """
        case n % 4 when 0 then 'other' else 'send' end, null, case n % 4 when 1 then 'busy' when 2 then 'f' end,
        '2020-01-01', null, null, n % 3 - 5, case when n % 4 >= 2 then array['slow'] end
        """,
    ),
}


def add_ahead(queue: Queue, ahead: str) -> None:
    """Add jobs that come before all others and cannot be taken (with `slow` forbidden)."""
    count, spec = AHEAD[ahead]
    if count:
        add_many(queue, count, spec)
        queue.run("update {gw}._private_job_queues set locked_at = now(), locked_by = 'x' where queue_name = 'busy'")


# What is returned and stored


@pytest.mark.every_schema
def test_a_claimed_job_is_locked_with_its_queue_for_the_worker(queue: Queue) -> None:
    added = queue.add_job(
        "send", payload='{"n": 123456789012345678901234567890}', queue_name="mails", job_key="a", flags=["slow"]
    )
    assert queue.has_runnable()
    [claimed] = queue.claim(worker="me")
    stored = queue.job(added["id"])
    assert stored == {
        **added,
        "attempts": 1,
        "locked_at": claimed["locked_at"],
        "locked_by": "me",
        "updated_at": claimed["locked_at"],
        "is_available": False,
    }
    same = {name: value for name, value in stored.items() if name in claimed}
    assert claimed == {**same, "task": "send", "queue_name": "mails"}
    held = queue.queue("mails")
    assert (held["locked_by"], held["locked_at"]) == ("me", claimed["locked_at"])
    assert not queue.has_runnable()


# Which, and in which order


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("analyzed", [False, True])
def test_jobs_are_claimed_by_priority_then_run_at_then_id(queue: Queue, ahead: str, analyzed: bool) -> None:
    add_ahead(queue, ahead)
    order = [(p, f"2021-01-0{day}Z", q) for p in (-1, 0, 7) for day in (1, 2) for q in (None, "q", "r", None)]
    shuffled = random.Random(7).sample(order, len(order))
    queue.add_jobs(*({"priority": p, "run_at": at, "queue_name": q} for p, at, q in shuffled))
    if analyzed:
        queue.run("analyze")
    expected = queue.values(
        "select id from {gw}.jobs where locked_at is null and run_at > '2020-06-01' order by priority, run_at, id"
    )
    assert len(expected) == len(order)
    names = {row["id"]: row["queue_name"] for row in queue.rows("select id, queue_name from {gw}.jobs")}
    # A claim takes one job of each queue, and those that follow come with later claims.
    claimed: list[int] = []
    while taken := take(queue, forbidden=["slow"], limit=5):
        remaining = [job_id for job_id in expected if job_id not in claimed]
        firsts = {name: next((i for i in remaining if names[i] == name), 0) for name in ("q", "r")}
        possible = [i for i in remaining if names[i] is None or firsts[names[i]] == i]
        assert taken == possible[:5]
        claimed += taken
        queue.run("update {gw}._private_job_queues set locked_at = null where queue_name <> 'busy'")
    assert sorted(claimed) == sorted(expected)


def test_jobs_of_one_transaction_are_claimed_in_the_order_of_their_ids(queue: Queue) -> None:
    jobs = queue.add_jobs(*({} for _ in range(10)))
    assert take(queue, limit=4) == [job["id"] for job in jobs[:4]]
    assert take(queue, limit=100) == [job["id"] for job in jobs[4:]]


def test_no_more_than_the_limit_is_claimed_of_jobs_with_and_without_a_queue(queue: Queue) -> None:
    ids = [queue.add(queue_name=name) for name in ("a", None, "b", None, "c")]
    assert take(queue, limit=3) == ids[:3]
    assert queue.queue("c")["locked_at"] is None
    assert queue.claim(limit=0) == []
    assert take(queue, limit=3) == ids[3:]


def test_only_jobs_of_known_tasks_are_claimed(queue: Queue) -> None:
    queue.add("other")
    queue.add("other", queue_name="q")
    sent = queue.add("send")
    assert take(queue, ["send", "never heard of"]) == [sent]
    assert take(queue, ["never heard of"]) == []
    assert take(queue, []) == []


@pytest.mark.parametrize("queue_name", [None, "q"])
def test_jobs_with_a_forbidden_flag_are_not_claimed(queue: Queue, queue_name: str | None) -> None:
    queue.add(flags=["slow", "big"], queue_name=queue_name)
    allowed = queue.add(flags=["big"], queue_name=queue_name)
    assert take(queue, forbidden=["red", "slow"]) == [allowed]
    assert take(queue, forbidden=["big"]) == []


@pytest.mark.parametrize("queue_name", [None, "q"])
def test_a_flag_of_one_job_may_be_forbidden(queue: Queue, queue_name: str | None) -> None:
    queue.add(flags=["@a"], queue_name=queue_name)
    allowed = queue.add(flags=["@b"], queue_name=queue_name)
    assert take(queue, forbidden=["@a"]) == [allowed]


def test_jobs_behind_many_with_a_forbidden_flag_of_one_job_are_claimed(queue: Queue) -> None:
    queue.run("select {gw}.add_job('send', flags := array['@a', 'big']) from generate_series(1, 3000)")
    queue.run("select {gw}.add_job('send', flags := array['slow', '@' || n]) from generate_series(1, 1000) as n")
    allowed = queue.add(flags=["@b", "big"])
    assert take(queue, forbidden=["slow", "@a"]) == [allowed]


@pytest.mark.parametrize("queue_name", [None, "q"])
def test_jobs_of_the_future_are_not_claimed(queue: Queue, queue_name: str | None) -> None:
    queue.add(run_at="2100-01-01Z", queue_name=queue_name, priority=-1)
    queue.run("select id from {gw}.add_job('send', run_at := 'infinity', queue_name := %s)", queue_name)
    assert take(queue) == []
    due = queue.add(run_at="2020-01-01Z", queue_name=queue_name)
    assert take(queue) == [due]


@pytest.mark.parametrize("queue_name", [None, "q"])
def test_jobs_that_are_locked_or_have_failed_are_not_claimed(queue: Queue, queue_name: str | None) -> None:
    failed = queue.add(queue_name=queue_name, max_attempts=1)
    queue.set(failed, attempts=1)
    locked = queue.add(queue_name=queue_name)
    queue.lock(locked, age="5 hours")
    assert take(queue) == []


# Queues


def test_a_queue_has_one_job_in_flight_in_order(queue: Queue) -> None:
    ids = [queue.add(queue_name="q") for _ in range(3)]
    for job_id in ids:
        [claimed] = queue.claim()
        assert claimed["id"] == job_id
        assert take(queue) == []
        queue.finish({**claimed, "outcome": "success"})
    assert queue.job_ids() == []


def test_each_free_queue_gives_its_first_job(queue: Queue) -> None:
    firsts = [queue.add(queue_name=f"q{n}") for n in range(3)]
    for n in range(3):
        queue.add(queue_name=f"q{n}")
    assert take(queue) == firsts
    assert take(queue) == []


def test_a_queue_whose_first_job_is_locked_by_another_session_is_left_alone(queue: Queue, other: Queue) -> None:
    head = queue.add(queue_name="q")
    queue.add(queue_name="q")
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", head)
        assert queue.claim() == []
        assert queue.queue("q")["locked_at"] is None
        # Nor is the row of the queue left locked.
        other.run("select from {gw}._private_job_queues for update nowait")
    assert take(queue) == [head]


def test_a_queue_whose_row_is_locked_by_another_session_is_left_alone(queue: Queue, other: Queue) -> None:
    queue.add(queue_name="q")
    free = queue.add()
    with other.conn.transaction():
        other.run("select from {gw}._private_job_queues for update")
        assert [job["id"] for job in queue.claim()] == [free]


def test_a_job_that_another_session_has_locked_is_passed_over(queue: Queue, other: Queue) -> None:
    first, second = queue.add(), queue.add()
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", first)
        assert [job["id"] for job in queue.claim()] == [second]
    assert take(queue) == [first]


def test_a_queue_that_another_session_is_just_claiming_from_gives_nothing(queue: Queue, other: Queue) -> None:
    first = queue.add(queue_name="q")
    queue.add(queue_name="q")
    with other.conn.transaction():
        assert [job["id"] for job in other.claim()] == [first]
        assert queue.claim() == []
    assert take(queue) == []


def test_a_head_that_moves_to_another_queue_while_it_is_claimed_is_left_alone(queue: Queue, other: Queue) -> None:
    """The claim has seen the old row, and the new one by the time it can lock it."""
    moving = queue.add(queue_name="q", job_key="a")
    with other.conn.transaction():
        other.add(queue_name="r", job_key="a")
        assert queue.claim() == []
    assert take(queue) == [moving]
    assert queue.queue("q")["locked_at"] is None
    assert queue.queue("r")["locked_at"] is not None


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("ahead", AHEAD)
def test_the_first_job_of_a_queue_is_found_behind_what_cannot_be_taken(queue: Queue, ahead: str) -> None:
    add_ahead(queue, ahead)
    first = queue.add(queue_name="q")
    queue.add(queue_name="q")
    assert take(queue, forbidden=["slow"]) == [first]
    assert take(queue, forbidden=["slow"]) == []


# Forbidden queues


def test_a_forbidden_queue_is_left_alone_and_stays_unlocked(queue: Queue) -> None:
    queue.add(queue_name="q", priority=-1)
    ids = [queue.add(), queue.add(queue_name="r")]
    assert take(queue, forbidden_queues=["q", "never heard of"]) == ids
    assert take(queue, forbidden_queues=["q"]) == []
    assert queue.queue("q")["locked_at"] is None


def test_a_queue_that_was_forbidden_goes_on_with_its_first_job(queue: Queue) -> None:
    first = queue.add(queue_name="q")
    queue.add(queue_name="q")
    assert take(queue, forbidden_queues=["q"]) == []
    assert take(queue, forbidden_queues=[]) == [first]


def test_jobs_behind_those_of_forbidden_queues_are_found(queue: Queue) -> None:
    names = [f"f{n}" for n in range(3)]
    add_many(queue, MANY, "'send', null, 'f' || n % 3, '2020-01-01', null, null, -5, null")
    ids = [queue.add(queue_name="q"), queue.add()]
    assert take(queue, forbidden_queues=names, limit=5) == ids
    assert take(queue, forbidden_queues=names, limit=5) == []


def test_a_queue_behind_many_forbidden_ones_is_found(queue: Queue) -> None:
    add_many(queue, MANY, "'send', null, 'f' || n, '2020-01-01', null, null, -5, null")
    first = queue.add(queue_name="q")
    names = [f"f{n + 1}" for n in range(MANY)]
    assert take(queue, forbidden_queues=names, limit=5) == [first]
    assert take(queue, forbidden_queues=names, limit=5) == []


def test_a_job_of_a_forbidden_queue_that_somebody_holds_is_no_reason_to_look_again(queue: Queue, other: Queue) -> None:
    queue.add(queue_name="q")
    with other.conn.transaction():
        other.run("select from {gw}._private_job_queues for update")
        assert queue.claim(forbidden_queues=["q"]) == []
    assert not queue.has_runnable(forbidden_queues=["q"])


def test_near_a_mark_a_forbidden_queue_is_left_alone(queue: Queue) -> None:
    mark = queue.job(queue.add())
    queue.add(queue_name="q")
    free = queue.add(queue_name="r")
    assert [job["id"] for job in queue.claim(marks=[mark], forbidden_queues=["q"])] == [free]


# Near marks


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("ahead", AHEAD)
def test_near_marks_only_what_comes_after_one_of_them_is_looked_at(queue: Queue, ahead: str) -> None:
    add_ahead(queue, ahead)
    day = ["2021-01-01Z", "2021-01-02Z"]
    before = queue.add(run_at=day[0])
    mark = queue.add(run_at=day[0])
    after = [queue.add(run_at=day[0]), queue.add(run_at=day[1]), queue.add(run_at=day[1], queue_name="q")]
    other = [queue.add(run_at=day[1], priority=1), queue.add(run_at=day[1], priority=-1)]
    queue.add(run_at="2100-01-01Z")
    row = queue.job(mark)
    assert [job["id"] for job in queue.claim(marks=[row], forbidden=["slow"])] == after
    assert queue.claim(marks=[row], forbidden=["slow"]) == []
    assert [job["id"] for job in queue.claim(forbidden=["slow"])] == [other[1], before, mark, other[0]]


def test_near_several_marks_jobs_come_in_claim_order(queue: Queue) -> None:
    marks = [queue.job(queue.add(priority=priority)) for priority in (2, -2)]
    ids = [queue.add(priority=priority, queue_name=name) for priority in (2, -2) for name in (None, "q", "r", None)]
    by_priority = ids[4:] + ids[:4]
    claimed = [job["id"] for job in queue.claim(marks=sorted(marks, key=lambda job: job["priority"]))]
    assert claimed == [*by_priority[:4], by_priority[4], by_priority[7]]


def test_near_a_mark_a_queue_gives_its_first_job_wherever_that_is(queue: Queue) -> None:
    first = queue.add(queue_name="q")
    mark = queue.job(queue.add())
    queue.add(queue_name="q")
    assert [job["id"] for job in queue.claim(marks=[mark])] == [first]
    assert queue.claim(marks=[mark]) == []


# Last attempts


def test_a_job_on_its_last_attempt_is_only_taken_where_it_starts_at_once(queue: Queue) -> None:
    ids = [queue.add(max_attempts=attempts, queue_name=name) for attempts, name in [(2, None), (1, None), (1, "q")]]
    ids += [queue.add(max_attempts=2), queue.add(max_attempts=2, queue_name="r")]
    assert [job["id"] for job in queue.claim(limit=5, free_slots=1)] == [ids[0], ids[3], ids[4]]
    assert queue.queue("q")["locked_at"] is None
    assert [job["id"] for job in queue.claim(limit=5, free_slots=0)] == []
    assert take(queue, limit=5, free_slots=2) == ids[1:3]


# At the same time


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("ahead", AHEAD)
def test_sessions_that_claim_at_once_never_share_a_job_or_a_queue(queue: Queue, ahead: str) -> None:
    add_ahead(queue, ahead)
    add_many(
        queue,
        2000,
        "case when n % 3 = 0 then 'mail' else 'send' end, null, case when n % 4 > 0 then 'queue ' || n % 70 end, null, "
        "null, null, n % 3, case when n % 50 = 0 then array['slow'] end",
    )
    expected = queue.values(
        "select id from {gw}.jobs where run_at > '2020-06-01' and coalesce(not flags ? 'slow', true) order by id"
    )
    taken: list[Row] = []

    def work(worker: str, tasks: list[str]) -> None:
        with queue.another() as mine:
            while len(taken) < len(expected):
                jobs = mine.claim(tasks, limit=40, worker=worker, forbidden=["slow"])
                taken.extend(jobs)
                assert mine.rows(SHARED_QUEUES) == []
                states = mine.finish(*({**job, "outcome": "success"} for job in jobs), worker=worker)
                assert states == {job["id"]: "deleted" for job in jobs}

    # Workers that know different tasks see different first jobs of the same queue.
    known = [["send", "mail"], ["mail"], ["send"], ["mail", "send"]]
    working = [Background(functools.partial(work, f"worker {n}", tasks)) for n, tasks in enumerate(known)]
    for each in working:
        each.result(60)
    assert sorted(job["id"] for job in taken) == expected
    by_queue: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for job in taken:
        if job["queue_name"]:
            by_queue.setdefault((job["queue_name"], job["task"]), []).append((job["priority"], job["id"]))
    assert all(order == sorted(order) for order in by_queue.values())


def test_a_claim_does_not_wait_for_an_add_of_the_same_key(queue: Queue, other: Queue) -> None:
    old = queue.add(job_key="a")
    with queue.conn.transaction():
        queue.add(job_key="a", payload="[1]")
        assert other.claim() == []
    assert [(job["id"], job["payload"]) for job in other.claim()] == [(old, "[1]")]


def test_a_claim_that_is_rolled_back_leaves_nothing_locked(queue: Queue) -> None:
    job_id = queue.add(queue_name="q")
    with queue.conn.transaction(force_rollback=True):
        queue.claim()
    assert take(queue) == [job_id]


def test_has_runnable_does_not_wait_for_claims(queue: Queue, other: Queue) -> None:
    queue.add(queue_name="q")
    queue.add()
    with other.conn.transaction():
        other.claim()
        assert queue.has_runnable()
    assert not queue.has_runnable()


def test_has_runnable_keeps_nothing_from_claims(queue: Queue, other: Queue) -> None:
    """A claim that passed over what is locked by a look would take jobs out of order."""
    first, second = queue.add(), queue.add(queue_name="q")
    with other.conn.transaction():
        assert other.has_runnable()
        assert [job["id"] for job in queue.claim()] == [first, second]


def test_a_keyed_add_waits_for_the_claim_of_its_job(queue: Queue, other: Queue) -> None:
    old = queue.add(job_key="a", queue_name="q")
    with queue.conn.transaction():
        queue.claim()
        adding = Background(lambda: other.add(job_key="a", queue_name="q"))
        wait_until_blocked(queue, other)
    new = adding.result()
    assert take(queue) == []
    queue.run("select {gw}.force_unlock_workers(array['worker'])")
    assert take(queue) == [new]
    assert not queue.job(old)["is_available"]
