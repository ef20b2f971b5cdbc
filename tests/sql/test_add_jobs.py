from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue, Row

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]

EARLIER = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2040, 1, 1, tzinfo=UTC)


def payloads(rows: list[Row]) -> list[str]:
    return [row["payload"] for row in rows]


# What is stored


def test_all_but_the_task_has_a_default(queue: Queue) -> None:
    [job] = queue.add_jobs({"identifier": "send"})
    assert (job["payload"], job["max_attempts"], job["priority"], job["attempts"]) == ("{}", 25, 0, 0)
    assert job["run_at"] == job["created_at"] == job["updated_at"]
    assert not any(job[name] for name in ("job_queue_id", "key", "flags", "last_error", "locked_at", "locked_by"))


@pytest.mark.parametrize("job_key", [None, "a"])
def test_what_is_given_is_stored(queue: Queue, job_key: str | None) -> None:
    [job] = queue.add_jobs(
        {
            "identifier": "send",
            "payload": '{"to": 123456789012345678901234567890}',
            "queue_name": "mails",
            "run_at": LATER,
            "max_attempts": 3,
            "job_key": job_key,
            "priority": -7,
            "flags": ["slow"],
        }
    )
    assert (job["payload"], job["run_at"]) == ('{"to": 123456789012345678901234567890}', LATER)
    assert (job["max_attempts"], job["key"], job["priority"], job["flags"]) == (3, job_key, -7, {"slow": True})
    assert job["job_queue_id"] == queue.queue("mails")["id"]


@pytest.mark.parametrize(
    "spec",
    [
        {"identifier": "t" * 129},
        {"queue_name": "q" * 129},
        {"job_key": "k" * 513},
        {"job_key": ""},
        {"max_attempts": 0},
    ],
)
def test_a_spec_beyond_the_limits_refuses_them_all(queue: Queue, spec: Row) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        queue.add_jobs({}, spec, {"job_key": "a"})
    assert queue.job_ids() == []


def test_no_specs_add_nothing(queue: Queue) -> None:
    queue.listen()
    assert queue.rows("select * from {gw}.add_jobs(array[]::{gw}.job_spec[])") == []
    assert queue.counts_heard() == []


def test_a_spec_without_a_task_is_refused(queue: Queue) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation):
        queue.add_jobs({}, {"identifier": None})
    assert queue.job_ids() == []


def test_tasks_and_queues_are_registered_once_and_use_up_no_numbers_afterwards(queue: Queue) -> None:
    for _ in range(3):
        queue.add_jobs({"queue_name": "mails"}, {"queue_name": "mails", "job_key": "a"}, {})
    queue.add_jobs({"identifier": "another", "queue_name": "others"})
    assert queue.values("select id from {gw}._private_tasks order by id") == [1, 2]
    assert queue.values("select id from {gw}._private_job_queues order by id") == [1, 2]


def test_keyed_jobs_that_are_there_use_up_no_job_numbers(queue: Queue) -> None:
    [first] = queue.add_jobs({"job_key": "a"})
    queue.add_jobs({"job_key": "a"})
    queue.add_jobs({"job_key": "a"})
    assert queue.add() == first["id"] + 1


# Order


def test_jobs_are_returned_and_numbered_in_the_order_of_their_specs(queue: Queue) -> None:
    jobs = queue.add_jobs(*({"identifier": f"task {n * 7 % 10}", "payload": f"[{n}]"} for n in range(10)))
    assert payloads(jobs) == [f"[{n}]" for n in range(10)]
    assert [job["id"] for job in jobs] == sorted(job["id"] for job in jobs)


@pytest.mark.parametrize("job_key", ["null", "'key ' || n"])
def test_the_order_holds_with_thousands_of_distinct_tasks(queue: Queue, job_key: str) -> None:
    queue.run(
        "select {gw}.add_jobs(array(select row(md5(n::text), json_build_array(n), 'queue ' || n % 99, null, null, "
        f"{job_key}, null, null)::{{gw}}.job_spec from generate_series(1, 3000) as n order by n))"
    )
    assert queue.values("select (payload ->> 0)::integer from {gw}._private_jobs order by id") == list(range(1, 3001))
    wrong = queue.value(
        "select count(*) from {gw}._private_jobs as jobs join {gw}.jobs as named using (id) "
        "where named.task_identifier <> md5(payload ->> 0) or queue_name <> 'queue ' || (payload ->> 0)::integer % 99"
    )
    assert wrong == 0


def test_jobs_with_and_without_a_key_mix(queue: Queue) -> None:
    waiting = queue.add(job_key="b", payload='{"old": 1}')
    jobs = queue.add_jobs(
        {"payload": '{"n": 0}'},
        {"payload": '{"n": 1}', "job_key": "b"},
        {"payload": '{"n": 2}', "job_key": "a"},
        {"payload": '{"n": 3}'},
    )
    assert payloads(jobs) == ['{"n": 0}', '{"n": 1}', '{"n": 2}', '{"n": 3}']
    assert [job["key"] for job in jobs] == [None, "b", "a", None]
    assert jobs[1]["id"] == waiting
    assert jobs[0]["id"] < jobs[2]["id"] < jobs[3]["id"]


# Keys


def test_a_waiting_job_is_updated_in_place(queue: Queue) -> None:
    first = queue.add_job("send", payload='{"a": 1}', queue_name="mails", max_attempts=3, job_key="a", flags=["slow"])
    queue.set(first["id"], attempts=2, last_error="broke")
    [second] = queue.add_jobs(
        {"identifier": "other", "payload": '{"b": 2}', "run_at": LATER, "max_attempts": 9, "job_key": "a"}
    )
    assert second == {
        **first,
        "task_id": queue.value("select id from {gw}._private_tasks where identifier = 'other'"),
        "job_queue_id": None,
        "payload": '{"b": 2}',
        "run_at": LATER,
        "max_attempts": 9,
        "flags": None,
        "revision": 1,
        "updated_at": second["updated_at"],
    }


@pytest.mark.parametrize("state", ["locked", "failed"])
def test_a_job_that_is_locked_or_has_failed_is_superseded(queue: Queue, state: str) -> None:
    old = queue.add(job_key="a", max_attempts=3, payload="[1]")
    if state == "locked":
        queue.lock(old)
    else:
        queue.set(old, attempts=3)
    [new] = queue.add_jobs({"job_key": "a", "payload": "[2]"})
    assert (new["key"], new["payload"], new["attempts"], new["revision"]) == ("a", "[2]", 0, 0)
    assert (queue.job(old)["key"], queue.job(old)["attempts"]) == (None, 3)


def test_new_jobs_are_numbered_in_the_order_of_their_specs_also_where_one_supersedes_another(queue: Queue) -> None:
    old, waiting = queue.add(job_key="b"), queue.add(job_key="d")
    queue.lock(old)
    keys = [None, "b", "c", "d", "e"]
    added = queue.add_jobs(*({"job_key": key} for key in keys))
    assert [job["key"] for job in added] == keys
    ids = [job["id"] for job in added]
    assert ids.pop(3) == waiting
    assert ids == sorted(ids)
    assert queue.job_ids() == [old, waiting, *ids]


@pytest.mark.parametrize(
    ("preserve", "attempts", "run_at"), [(True, 0, EARLIER), (True, 1, LATER), (False, 0, LATER), (False, 1, LATER)]
)
def test_run_at_is_only_preserved_where_wanted_and_not_attempted(
    queue: Queue, preserve: bool, attempts: int, run_at: datetime
) -> None:
    job_id = queue.add(job_key="a", run_at=EARLIER)
    queue.set(job_id, attempts=attempts)
    [job] = queue.add_jobs({"job_key": "a", "run_at": LATER}, job_key_preserve_run_at=preserve)
    assert job["run_at"] == run_at


def test_two_arrays_become_one_and_anything_else_replaces(queue: Queue) -> None:
    queue.add_jobs({"job_key": "a", "payload": '["\\u0000"]'}, {"job_key": "b", "payload": "[1]"}, {"job_key": "c"})
    jobs = queue.add_jobs(
        {"job_key": "a", "payload": "[1e400]"},
        {"job_key": "b", "payload": '{"n": 2}'},
        {"job_key": "c", "payload": "[3]"},
    )
    assert payloads(jobs) == ['["\\u0000",1e400]', '{"n": 2}', "[3]"]


def test_of_specs_with_the_same_key_the_later_wins(queue: Queue) -> None:
    jobs = queue.add_jobs(
        {"job_key": "a", "payload": '{"n": 1}', "priority": 1},
        {"payload": '{"n": 2}'},
        {"identifier": "other", "job_key": "a", "payload": '{"n": 3}', "priority": 3},
        {"payload": '{"n": 4}'},
    )
    assert payloads(jobs) == ['{"n": 3}', '{"n": 2}', '{"n": 4}']
    assert (jobs[0]["key"], jobs[0]["priority"]) == ("a", 3)
    assert queue.values("select task_identifier from {gw}.jobs order by id") == ["other", "send", "send"]


def test_arrays_of_specs_with_the_same_key_are_merged_in_order(queue: Queue) -> None:
    queue.add(job_key="a", payload="[0]")
    [job] = queue.add_jobs(*({"job_key": "a", "payload": f"[{n}]"} for n in range(1, 5)))
    assert job["payload"] == "[0,1,2,3,4]"


def test_specs_with_the_same_key_supersede_a_locked_job_once(queue: Queue) -> None:
    old = queue.add(job_key="a")
    queue.lock(old)
    [job] = queue.add_jobs({"job_key": "a", "payload": "[1]"}, {"job_key": "a", "payload": "[2]"})
    assert (job["payload"], queue.job_ids()) == ("[1,2]", [old, job["id"]])


# Notifications


def test_one_notification_tells_how_many_jobs_there_are(queue: Queue) -> None:
    queue.listen()
    queue.add_jobs({}, {}, {"job_key": "a"})
    assert queue.counts_heard() == [3]
    queue.add_jobs({"job_key": "a"}, {"job_key": "a"}, {})
    assert queue.counts_heard() == [2]


# At the same time


def test_an_add_whose_job_is_just_being_claimed_leaves_a_job_that_will_run(queue: Queue, other: Queue) -> None:
    old = queue.add(job_key="a")
    with queue.conn.transaction():
        queue.claim()
        adding = Background(lambda: other.add_jobs({"job_key": "a", "payload": "[1]"}, {}))
        wait_until_blocked(queue, other)
    new, _ = adding.result()
    assert (new["key"], new["payload"], new["is_available"]) == ("a", "[1]", True)
    assert (queue.job(old)["key"], queue.job(old)["attempts"]) == (None, 25)


def test_an_add_waits_for_a_single_add_of_the_same_key(queue: Queue, other: Queue) -> None:
    with queue.conn.transaction():
        first = queue.add(job_key="a", payload="[1]")
        adding = Background(lambda: other.add_jobs({"job_key": "b"}, {"job_key": "a", "payload": "[2]"}))
        wait_until_blocked(queue, other)
    _, second = adding.result()
    assert (second["id"], second["payload"], second["revision"]) == (first, "[1,2]", 1)


@pytest.mark.parametrize("there_before", [True, False])
def test_adds_of_the_same_keys_in_opposite_order_wait_for_each_other(
    queue: Queue, other: Queue, there_before: bool
) -> None:
    keys = [f"key {n}" for n in range(20)]
    if there_before:
        queue.add_jobs(*({"job_key": key, "payload": "[]"} for key in reversed(keys)))

    def specs(payload: str, order: list[str]) -> list[Row]:
        return [{"job_key": key, "payload": payload} for key in order]

    with queue.conn.transaction():
        queue.add_jobs(*specs("[1]", keys))
        adding: Background[Any] = Background(lambda: other.add_jobs(*specs("[2]", keys[::-1])))
        wait_until_blocked(queue, other)
    assert payloads(adding.result()) == ["[1,2]"] * 20


# Many


@pytest.mark.parametrize("repeated", [0, 5_000], ids=["distinct", "repeated"])
def test_a_session_that_has_added_few_adds_many_with_another_plan(queue: Queue, repeated: int) -> None:
    """The plan for few would take a quarter of a minute; the right one takes less than a second."""
    queue.run("set plan_cache_mode = force_generic_plan")  # what a session comes to after some calls
    for _ in range(2):
        queue.add_jobs({"job_key": "a"}, {"job_key": "b"}, {"job_key": "b"})
        queue.run("analyze {gw}._private_jobs")
    queue.run("set statement_timeout = '12s'")
    added = queue.value(
        "select count(*) from {gw}.add_jobs(array(select row('send', null, null, null, null, 'key ' || n %% %s, null, "
        "null)::{gw}.job_spec from generate_series(1, 20000) as n))",
        20_000 - repeated,
    )
    assert added == 20_000 - repeated
