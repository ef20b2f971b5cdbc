from __future__ import annotations

import functools
import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

OUTCOMES = ["success", "retry", "fail", "snooze", "return"]
UNFINISHED = ["retry", "fail", "snooze", "return"]


def claim_one(queue: Queue, **options: object) -> Row:
    """Add a job and claim it."""
    queue.add(**{"max_attempts": 3, **options})  # type: ignore[arg-type]
    [claimed] = queue.claim()
    return claimed


# Outcomes


@pytest.mark.one_postgres_each
@pytest.mark.every_schema
@pytest.mark.parametrize(
    ("outcome", "state", "attempts"),
    [
        ("success", "deleted", None),
        ("cancel", "deleted", None),
        ("retry", "retrying", 1),
        ("fail", "failed", 3),
        ("snooze", "snoozed", 0),
        ("return", "returned", 0),
    ],
)
def test_an_outcome_leaves_its_state_and_unlocks_job_and_queue(
    queue: Queue, outcome: str, state: str, attempts: int | None
) -> None:
    job = claim_one(queue, queue_name="q", job_key="a", payload='{"n": 1}')
    assert queue.finish({**job, "outcome": outcome}) == {job["id"]: state}
    assert (queue.queue("q")["locked_at"], queue.queue("q")["locked_by"]) == (None, None)
    if attempts is None:
        assert not queue.exists(job["id"])
        return
    after = queue.job(job["id"])
    assert (after["attempts"], after["max_attempts"], after["key"], after["payload"]) == (attempts, 3, "a", '{"n": 1}')
    assert (after["locked_at"], after["locked_by"], after["revision"]) == (None, None, 0)
    assert after["updated_at"] > job["updated_at"]


def test_a_trigger_can_tell_which_jobs_were_cancelled_and_why(queue: Queue) -> None:
    queue.run("""
        create table seen (told text);
        create function see() returns trigger language plpgsql as $$
        begin
          insert into seen select current_setting('pgtasks.cancelled', true);
          return null;
        end $$;
        create trigger see after delete on {gw}._private_jobs for each statement execute function see();
    """)
    jobs = [claim_one(queue) for _ in range(4)]
    ends = [{**jobs[0], "outcome": "cancel", "last_error": 'it\'s "off"'}, {**jobs[1], "outcome": "cancel"}]
    queue.finish(*ends, {**jobs[2], "outcome": "success"})
    queue.finish({**jobs[3], "outcome": "success"})
    told, nothing = queue.values("select told from seen")
    assert json.loads(told) == {str(jobs[0]["id"]): 'it\'s "off"', str(jobs[1]["id"]): None}
    assert nothing == ""
    assert queue.value("select current_setting('pgtasks.cancelled', true)") == ""


def test_a_job_whose_attempts_are_used_up_fails_and_stays(queue: Queue) -> None:
    job = claim_one(queue, max_attempts=1)
    assert queue.finish({**job, "outcome": "retry", "last_error": "broke"}) == {job["id"]: "failed"}
    after = queue.job(job["id"])
    assert (after["attempts"], after["last_error"], after["is_available"]) == (1, "broke", False)


@pytest.mark.parametrize(
    ("outcome", "stored"), [("retry", "new"), ("fail", "new"), ("snooze", "old"), ("return", "old")]
)
def test_only_failures_write_the_error(queue: Queue, outcome: str, stored: str) -> None:
    job = claim_one(queue)
    queue.set(job["id"], last_error="old")
    queue.finish({**job, "outcome": outcome, "last_error": "new"})
    assert queue.job(job["id"])["last_error"] == stored


def test_what_is_left_of_a_batch_replaces_the_payload(queue: Queue) -> None:
    for outcome in UNFINISHED:
        for left in (None, '["\\u0000", 1e400]'):
            job = claim_one(queue, payload="[1,2,3]")
            queue.finish({**job, "outcome": outcome, "payload": left, "delay": 3600})
            assert queue.job(job["id"])["payload"] == (left or "[1,2,3]")
            queue.run("delete from {gw}._private_jobs")


def test_many_ends_of_all_kinds_are_written_at_once(queue: Queue) -> None:
    queue.add_jobs(*({"queue_name": f"q{n}" if n % 2 else None} for n in range(20)))
    jobs = queue.claim()
    states = queue.finish(*({**job, "outcome": OUTCOMES[n % 5]} for n, job in enumerate(jobs)))
    words = ["deleted", "retrying", "failed", "snoozed", "returned"]
    assert states == {job["id"]: words[n % 5] for n, job in enumerate(jobs)}
    assert queue.value("select count(*) from {gw}._private_job_queues where locked_at is not null") == 0


def test_an_outcome_that_is_none_is_refused(queue: Queue) -> None:
    job = claim_one(queue)
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        queue.finish({**job, "outcome": "sucess"})
    assert queue.job(job["id"])["locked_by"] == "worker"


def test_nothing_to_finish_is_nothing(queue: Queue) -> None:
    assert queue.finish() == {}
    assert queue.finish(wait_for_locks=False) == {}


# When it runs again


def test_a_retry_backs_off_exponentially_up_to_the_tenth_attempt(queue: Queue) -> None:
    for attempts in (1, 2, 9, 10, 11, 24):
        job = claim_one(queue, max_attempts=25, run_at="2020-01-01Z")
        queue.set(job["id"], attempts=attempts)
        queue.finish({**job, "outcome": "retry"})
        pause = queue.value("select run_at - updated_at from {gw}.jobs where id = %s", job["id"])
        assert pause.total_seconds() == pytest.approx(math.exp(min(attempts, 10)), abs=1e-5)


def test_a_retry_of_a_job_that_was_put_off_backs_off_from_then(queue: Queue) -> None:
    job = claim_one(queue)
    queue.set(job["id"], run_at="2100-01-01Z")
    queue.finish({**job, "outcome": "retry"})
    late = queue.value("select run_at - '2100-01-01Z' from {gw}.jobs")
    assert late.total_seconds() == pytest.approx(math.e, abs=1e-5)


@pytest.mark.parametrize("outcome", ["retry", "snooze"])
@pytest.mark.parametrize(("delay", "seconds"), [(90.5, 90.5), (0.0, 0.0), (-5.0, 0.0)])
def test_a_delay_counts_from_now(queue: Queue, outcome: str, delay: float, seconds: float) -> None:
    job = claim_one(queue, run_at="2020-01-01Z")
    queue.finish({**job, "outcome": outcome, "delay": delay})
    assert queue.value("select run_at - updated_at from {gw}.jobs") == timedelta(seconds=seconds)


@pytest.mark.parametrize("delay", [1e300, math.inf, -math.inf, math.nan])
def test_no_delay_breaks_the_ends_of_other_jobs(queue: Queue, delay: float) -> None:
    queue.add_jobs({}, {})
    strange, usual = queue.claim()
    states = queue.finish({**strange, "outcome": "snooze", "delay": delay}, {**usual, "outcome": "success"})
    assert states == {strange["id"]: "snoozed", usual["id"]: "deleted"}
    assert queue.value("select run_at < '2400-01-01' from {gw}.jobs")


@pytest.mark.parametrize("outcome", ["fail", "return"])
def test_what_is_not_put_off_keeps_its_time(queue: Queue, outcome: str) -> None:
    job = claim_one(queue, run_at="2020-01-01Z")
    queue.finish({**job, "outcome": outcome, "delay": 60})
    assert queue.job(job["id"])["run_at"] == job["run_at"]


@pytest.mark.parametrize("outcome", UNFINISHED)
def test_a_job_that_cannot_run_at_any_time_that_python_knows_can_be_finished(queue: Queue, outcome: str) -> None:
    queue.run("select id from {gw}.add_job('send', run_at := '-infinity')")
    job = queue.row(
        "select id, locked_at from {gw}._pgtasks_claim_jobs('worker', array['send'], array[]::text[], 1, 1)"
    )
    queue.finish({**job, "outcome": outcome})
    assert queue.value("select locked_at is null from {gw}.jobs")


# The fence


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("wait", [True, False])
def test_an_end_of_another_workers_job_is_not_written(queue: Queue, outcome: str, wait: bool) -> None:
    job = claim_one(queue, queue_name="q")
    before = (queue.job(job["id"]), queue.queue("q"))
    assert queue.finish({**job, "outcome": outcome}, worker="another", wait_for_locks=wait) == {}
    assert (queue.job(job["id"]), queue.queue("q")) == before


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("wait", [True, False])
def test_an_end_of_an_earlier_claim_of_the_same_worker_is_not_written(queue: Queue, outcome: str, wait: bool) -> None:
    first = claim_one(queue, queue_name="q")
    queue.run("select {gw}.force_unlock_workers(array['worker'])")
    [second] = queue.claim()
    assert (second["id"], second["locked_by"]) == (first["id"], first["locked_by"])
    before = (queue.job(first["id"]), queue.queue("q"))
    assert queue.finish({**first, "outcome": outcome}, wait_for_locks=wait) == {}
    assert (queue.job(first["id"]), queue.queue("q")) == before


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_queue_that_somebody_else_holds_stays_locked(queue: Queue, outcome: str) -> None:
    job = claim_one(queue, queue_name="q")
    queue.run("update {gw}._private_job_queues set locked_by = 'another'")
    assert queue.finish({**job, "outcome": outcome}).keys() == {job["id"]}
    assert queue.queue("q")["locked_by"] == "another"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_queue_that_a_later_claim_of_the_same_worker_holds_stays_locked(queue: Queue, outcome: str) -> None:
    job = claim_one(queue, queue_name="q")
    queue.run("update {gw}._private_job_queues set locked_at = null")
    later = claim_one(queue, queue_name="q")
    assert queue.finish({**job, "outcome": outcome}).keys() == {job["id"]}
    assert queue.queue("q")["locked_at"] == later["locked_at"]


# Superseded jobs


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("had_key", [True, None])
@pytest.mark.parametrize("by", ["add_job", "add_jobs", "remove_job"])
def test_a_superseded_job_stays_dead(queue: Queue, outcome: str, had_key: bool | None, by: str) -> None:
    job = claim_one(queue, job_key="a")
    if by == "add_job":
        queue.add(job_key="a")
    elif by == "add_jobs":
        queue.add_jobs({"job_key": "a"})
    else:
        queue.run("select {gw}.remove_job('a')")
    states = queue.finish({**job, "outcome": outcome, "had_key": had_key})
    assert states == {job["id"]: "deleted" if outcome == "success" else "superseded"}
    assert len(queue.claim()) == (0 if by == "remove_job" else 1)
    if outcome != "success":
        after = queue.job(job["id"])
        assert (after["attempts"], after["locked_at"], after["is_available"]) == (3, None, False)


def test_a_job_is_superseded_also_by_a_transaction_that_began_before_its_claim(queue: Queue, other: Queue) -> None:
    with other.conn.transaction():
        other.run("select 1")
        job = claim_one(queue, job_key="a")
        other.add(job_key="a")
    assert queue.finish({**job, "outcome": "return"}) == {job["id"]: "superseded"}
    assert not queue.job(job["id"])["is_available"]


@pytest.mark.parametrize("had_key", [False, None])
@pytest.mark.parametrize(("outcome", "state"), [("return", "returned"), ("snooze", "snoozed")])
def test_a_job_without_a_key_on_its_last_attempt_is_given_back_alive(
    queue: Queue, had_key: bool | None, outcome: str, state: str
) -> None:
    job = claim_one(queue, max_attempts=1)
    assert queue.finish({**job, "outcome": outcome, "had_key": had_key}) == {job["id"]: state}
    assert queue.job(job["id"])["is_available"]


def test_attempts_never_go_below_none(queue: Queue) -> None:
    job = claim_one(queue)
    queue.set(job["id"], attempts=0)
    queue.finish({**job, "outcome": "return"})
    assert queue.job(job["id"])["attempts"] == 0


# Notifications


def test_only_jobs_that_were_given_back_are_notified_of(queue: Queue) -> None:
    queue.add_jobs(*({} for _ in range(6)))
    jobs = queue.claim()
    queue.listen()
    queue.finish(*({**job, "outcome": outcome} for job, outcome in zip(jobs[:4], OUTCOMES, strict=False)))
    assert queue.counts_heard() == []
    queue.finish(*({**job, "outcome": "return"} for job in jobs[4:]))
    assert queue.counts_heard() == [2]


# At the same time


@pytest.mark.parametrize("outcome", ["success", "retry"])
def test_a_job_whose_queue_somebody_has_locked_is_busy_and_not_waited_for(
    queue: Queue, other: Queue, outcome: str
) -> None:
    queue.add(queue_name="held")
    for name in ("free", None):
        queue.add(queue_name=name)
    claims = [{**claim, "outcome": outcome} for claim in queue.claim()]
    [held, *free] = claims
    ended = "deleted" if outcome == "success" else "retrying"
    with other.conn.transaction():
        other.run("select from {gw}._private_job_queues where queue_name = 'held' for update")
        assert queue.finish_as_workers_do(*claims) == {held["id"]: "busy", **{claim["id"]: ended for claim in free}}
        assert queue.exists(held["id"])
        assert queue.queue("held")["locked_by"] == "worker"
    assert queue.finish_as_workers_do(held) == {held["id"]: ended}
    assert queue.queue("held")["locked_by"] is None


def test_a_queue_whose_row_somebody_has_locked_is_not_advanced(queue: Queue, other: Queue) -> None:
    for name in ("held", "free", "held", "free"):
        queue.add(queue_name=name)
    claims = queue.claim()
    with other.conn.transaction():
        other.run("select from {gw}._private_job_queues where queue_name = 'held' for update")
        ended, taken = queue.advance(*claims)
    assert (ended, [job["queue_name"] for job in taken]) == ([claims[1]["id"]], ["free"])


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_job_whose_row_somebody_has_locked_is_busy_and_not_waited_for(
    queue: Queue, other: Queue, outcome: str
) -> None:
    queue.add_jobs({"queue_name": "q"}, {"queue_name": "r"})
    held, free = queue.claim()
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", held["id"])
        ends: list[Any] = [{**held, "outcome": outcome}, {**free, "outcome": "success"}]
        assert queue.finish(*ends, wait_for_locks=False) == {held["id"]: "busy", free["id"]: "deleted"}
        assert queue.job(held["id"])["locked_at"] == queue.queue("q")["locked_at"] == held["locked_at"]
        assert queue.queue("r")["locked_at"] is None
    assert queue.finish(*ends, wait_for_locks=False).keys() == {held["id"]}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_job_whose_row_somebody_has_locked_is_waited_for_where_wanted(
    queue: Queue, other: Queue, outcome: str
) -> None:
    job = claim_one(queue, job_key="a")
    with queue.conn.transaction():
        queue.add(job_key="a")
        finishing = Background(lambda: other.finish({**job, "outcome": outcome, "had_key": True}))
        wait_until_blocked(queue, other)
    assert finishing.result() == {job["id"]: "deleted" if outcome == "success" else "superseded"}


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("analyzed", [True, False])
@pytest.mark.parametrize("outcomes", [["success"], ["retry"], ["success", "retry"]])
def test_two_sessions_that_finish_the_same_jobs_in_opposite_order_do_not_deadlock(
    queue: Queue, other: Queue, outcomes: list[str], analyzed: bool
) -> None:
    queue.add_jobs(*({"queue_name": f"q{n}"} for n in range(100)))
    jobs = queue.claim()
    ends = [{**job, "outcome": outcomes[n % len(outcomes)]} for n, job in enumerate(jobs)]
    if analyzed:
        queue.run("analyze")
    with queue.another() as third, queue.another() as blocker:
        # Both come as far as they can before the job in the middle is free: neither may hold what the other waits for.
        with blocker.conn.transaction():
            blocker.run("select from {gw}._private_jobs where id = %s for update", jobs[50]["id"])
            finishing = []
            for session, order in ((other, ends), (third, ends[::-1])):
                finishing.append(Background(functools.partial(session.finish, *order)))
                wait_until_blocked(queue, session)
        results = [each.result() for each in finishing]
    assert sorted(len(states) for states in results) == [0, 100]
    assert queue.value("select count(*) from {gw}._private_job_queues where locked_at is not null") == 0


def test_ends_and_adds_of_the_same_keys_in_opposite_order_do_not_deadlock(queue: Queue, other: Queue) -> None:
    keys = [f"key {n}" for n in range(40)]
    queue.add_jobs(*({"job_key": key} for key in keys))
    jobs = queue.claim()
    with queue.another() as third, queue.another() as blocker:
        with blocker.conn.transaction():
            blocker.run("select from {gw}._private_jobs where id = %s for update", jobs[20]["id"])
            adding = Background(lambda: other.add_jobs(*({"job_key": key} for key in reversed(keys))))
            wait_until_blocked(queue, other)
            finishing = Background(lambda: third.finish(*({**job, "outcome": "success"} for job in jobs[::-1])))
            wait_until_blocked(queue, third)
        assert len(adding.result()) == 40
        assert set(finishing.result().values()) == {"deleted"}
    assert json.dumps(queue.values("select key from {gw}.jobs order by id")) == json.dumps(keys[::-1])


# Successes at once


@pytest.mark.every_schema
def test_successes_are_deleted_at_once_with_their_queues_unlocked(queue: Queue) -> None:
    queue.add_jobs({"queue_name": "q"}, {"job_key": "a"}, {})
    jobs = queue.claim()
    assert len({job["locked_at"].microsecond for job in jobs}) == 1
    assert queue.finish_successes(*jobs) == []
    assert queue.job_ids() == []
    assert queue.queue("q")["locked_at"] is None


def test_successes_of_several_claims_are_deleted_together(queue: Queue) -> None:
    queue.add_jobs({}, {}, {})
    claims = [*queue.claim(limit=1), *queue.claim(limit=2)]
    assert len({claim["locked_at"] for claim in claims}) == 2
    assert queue.finish_successes(*reversed(claims)) == []
    assert queue.job_ids() == []


def test_a_success_of_a_claim_that_is_not_held_is_left_and_changes_nothing(queue: Queue) -> None:
    queue.add_jobs({"queue_name": "q"}, {}, {})
    lost, moved, held = queue.claim()
    queue.finish({**lost, "outcome": "return"})
    queue.set(moved["id"], locked_by="somebody")
    gone = {**held, "id": held["id"] + 1000}
    later = {**held, "locked_at": held["locked_at"] + timedelta(microseconds=1)}
    [again] = queue.claim(worker="worker", limit=1)
    assert again["id"] == lost["id"]
    before = queue.rows("select * from {gw}._private_jobs order by id")
    for claim in (lost, moved, gone, later):
        assert queue.finish_successes(claim) == [claim["id"]]
    assert queue.rows("select * from {gw}._private_jobs order by id") == before
    assert queue.queue("q")["locked_at"] == again["locked_at"]
    assert queue.finish_successes(lost, held, moved) == [lost["id"], moved["id"]]
    assert queue.job_ids() == [lost["id"], moved["id"]]


def test_a_success_whose_row_somebody_has_locked_is_left_and_not_waited_for(queue: Queue, other: Queue) -> None:
    queue.add_jobs({"queue_name": "q"}, {"queue_name": "r"})
    held, free = queue.claim()
    with other.conn.transaction():
        other.run("select from {gw}._private_jobs where id = %s for update", held["id"])
        assert queue.finish_successes(held, free) == [held["id"]]
        assert queue.queue("q")["locked_at"] == held["locked_at"]
        assert queue.queue("r")["locked_at"] is None
    assert queue.finish_successes(held) == []


def test_the_success_of_a_superseded_job_deletes_it(queue: Queue) -> None:
    job = claim_one(queue, job_key="a")
    queue.add(job_key="a")
    assert queue.finish_successes(job) == []
    assert not queue.exists(job["id"])
