from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sql.queue import Background, wait_until_blocked

if TYPE_CHECKING:
    from tests.sql.queue import Queue

pytestmark = [pytest.mark.every_postgres, pytest.mark.every_schema]

EARLIER = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2040, 1, 1, tzinfo=UTC)

GWBKM = "Invalid job_key_mode value, expected 'replace', 'preserve_run_at' or 'unsafe_dedupe'."


# What is stored


def test_all_but_the_task_has_a_default(queue: Queue) -> None:
    job = queue.add_job("send")
    assert queue.value("select task_identifier from {gw}.jobs where id = %s", job["id"]) == "send"
    assert {name: job[name] for name in ("payload", "priority", "max_attempts", "attempts", "revision")} == {
        "payload": "{}",
        "priority": 0,
        "max_attempts": 25,
        "attempts": 0,
        "revision": 0,
    }
    assert job["run_at"] == job["created_at"] == job["updated_at"]
    assert not any(job[name] for name in ("job_queue_id", "key", "flags", "last_error", "locked_at", "locked_by"))
    assert job["is_available"]


def test_nulls_stand_for_the_defaults(queue: Queue) -> None:
    options = dict.fromkeys(("payload", "queue_name", "run_at", "max_attempts", "job_key", "priority", "flags"))
    job = queue.add_job("send", **options, job_key_mode=None)
    assert (job["payload"], job["max_attempts"], job["priority"]) == ("{}", 25, 0)
    assert job["run_at"] == job["created_at"]


def test_what_is_given_is_stored(queue: Queue) -> None:
    job = queue.add_job(
        "send",
        payload='{"to": 1}',
        queue_name="mails",
        run_at=LATER,
        max_attempts=3,
        job_key="a",
        priority=-7,
        flags=["slow", "big"],
    )
    assert (job["payload"], job["run_at"], job["max_attempts"]) == ('{"to": 1}', LATER, 3)
    assert (job["key"], job["priority"], job["flags"]) == ("a", -7, {"slow": True, "big": True})
    assert job["job_queue_id"] == queue.queue("mails")["id"]


def test_parameters_have_their_names_and_their_order(queue: Queue) -> None:
    job = queue.row(
        "select * from {gw}.add_job('send', '[1]', 'mails', '2040-01-01Z', 4, 'a', 5, array['slow'], 'replace')"
    )
    assert (job["payload"], job["run_at"], job["max_attempts"]) == ("[1]", LATER, 4)
    assert (job["key"], job["priority"], job["flags"]) == ("a", 5, {"slow": True})


@pytest.mark.parametrize("flags", [None, []])
@pytest.mark.parametrize("job_key", [None, "a"])
def test_no_flags_are_stored_as_null(queue: Queue, flags: list[str] | None, job_key: str | None) -> None:
    assert queue.add_job(flags=flags, job_key=job_key)["flags"] is None


@pytest.mark.parametrize("option", ["priority", "max_attempts"])
@pytest.mark.parametrize("job_key", [None, "a"])
def test_a_number_that_is_no_smallint_is_refused(queue: Queue, option: str, job_key: str | None) -> None:
    options: dict[str, Any] = {option: 32768}
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        queue.add_job("send", job_key=job_key, **options)
    assert queue.job_ids() == []


def test_the_largest_smallints_are_taken(queue: Queue) -> None:
    job = queue.add_job(priority=32767, max_attempts=32767)
    assert (job["priority"], job["max_attempts"]) == (32767, 32767)
    assert queue.add_job(priority=-32768)["priority"] == -32768


def test_the_longest_names_are_taken(queue: Queue) -> None:
    job = queue.add_job("é" * 128, queue_name="q" * 128, job_key="é" * 512, max_attempts=1)
    assert (len(job["key"]), job["max_attempts"]) == (512, 1)


@pytest.mark.parametrize(
    ("identifier", "options"),
    [
        ("t" * 129, {}),
        ("send", {"queue_name": "q" * 129}),
        ("send", {"job_key": "k" * 513}),
        ("send", {"job_key": ""}),
        ("send", {"max_attempts": 0}),
        ("send", {"max_attempts": -1}),
    ],
)
def test_what_is_beyond_the_limits_is_refused(queue: Queue, identifier: str, options: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        queue.add_job(identifier, **options)
    assert queue.job_ids() == []


def test_a_task_is_required(queue: Queue) -> None:
    with pytest.raises(psycopg.errors.NotNullViolation):
        queue.add_job(None)


def test_legal_json_and_times_that_few_clients_can_read_are_stored_as_they_are(queue: Queue) -> None:
    payload = '{"a": 123456789012345678901234567890, "b": 1e400, "c": "\\ud800", "d": "\\u0000"}'
    job_id = queue.value("select id from {gw}.add_job('send', %s, run_at := '-infinity')", payload)
    stored = queue.row("select payload, run_at::text from {gw}._private_jobs where id = %s", job_id)
    assert stored == {"payload": payload, "run_at": "-infinity"}


# Names


def test_tasks_and_queues_are_registered_once_and_use_up_no_numbers_afterwards(queue: Queue) -> None:
    for _ in range(5):
        queue.add("send", queue_name="mails")
        queue.add("send", queue_name="mails", job_key="a")
    queue.add("another", queue_name="others")
    assert queue.values("select id from {gw}._private_tasks order by id") == [1, 2]
    assert queue.values("select id from {gw}._private_job_queues order by id") == [1, 2]


def test_a_task_that_another_session_is_just_registering_is_waited_for(queue: Queue, other: Queue) -> None:
    with queue.conn.transaction():
        first = queue.add_job("send", queue_name="mails")
        adding = Background(lambda: other.add_job("send", queue_name="mails"))
        wait_until_blocked(queue, other)
    second = adding.result()
    assert (second["task_id"], second["job_queue_id"]) == (first["task_id"], first["job_queue_id"])


# Modes


@pytest.mark.parametrize("mode", ["merge", "", "REPLACE"])
def test_an_invalid_mode_is_refused(queue: Queue, mode: str) -> None:
    with pytest.raises(psycopg.Error) as raised:
        queue.add_job(job_key="a", job_key_mode=mode)
    assert (raised.value.sqlstate, raised.value.diag.message_primary) == ("GWBKM", GWBKM)


def test_the_mode_is_only_looked_at_with_a_key(queue: Queue) -> None:
    assert queue.add_job(job_key_mode="merge")["key"] is None


def test_a_null_mode_means_replace(queue: Queue) -> None:
    first = queue.add(job_key="a", run_at=EARLIER)
    second = queue.add_job(job_key="a", run_at=LATER, job_key_mode=None)
    assert (second["id"], second["run_at"]) == (first, LATER)


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at", "unsafe_dedupe"])
def test_a_new_key_adds_a_job_in_every_mode(queue: Queue, mode: str) -> None:
    job = queue.add_job(job_key="a", job_key_mode=mode)
    assert (job["key"], job["revision"]) == ("a", 0)


def test_a_waiting_job_is_updated_in_place(queue: Queue) -> None:
    first = queue.add_job("send", payload='{"a": 1}', queue_name="mails", max_attempts=3, job_key="a", flags=["slow"])
    second = queue.add_job("other", payload='{"b": 2}', run_at=LATER, max_attempts=9, job_key="a", priority=4)
    assert queue.job_ids() == [second["id"]] == [first["id"]]
    assert (second["payload"], second["run_at"], second["max_attempts"]) == ('{"b": 2}', LATER, 9)
    assert (second["priority"], second["flags"], second["job_queue_id"]) == (4, None, None)
    assert (second["revision"], second["created_at"]) == (1, first["created_at"])
    assert second["updated_at"] > first["updated_at"]
    assert queue.value("select task_identifier from {gw}.jobs") == "other"


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
def test_an_update_forgets_earlier_attempts(queue: Queue, mode: str) -> None:
    job_id = queue.add(job_key="a")
    queue.set(job_id, attempts=5, last_error="broke")
    job = queue.add_job(job_key="a", job_key_mode=mode)
    assert (job["id"], job["attempts"], job["last_error"], job["revision"]) == (job_id, 0, None, 1)


def test_preserve_run_at_keeps_the_time_of_a_job_that_was_not_attempted(queue: Queue) -> None:
    queue.add(job_key="a", run_at=EARLIER)
    job = queue.add_job(job_key="a", run_at=LATER, payload='{"new": 1}', job_key_mode="preserve_run_at")
    assert (job["run_at"], job["payload"]) == (EARLIER, '{"new": 1}')


def test_preserve_run_at_takes_the_new_time_once_a_job_was_attempted(queue: Queue) -> None:
    job_id = queue.add(job_key="a", run_at=EARLIER)
    queue.set(job_id, attempts=1)
    assert queue.add_job(job_key="a", run_at=LATER, job_key_mode="preserve_run_at")["run_at"] == LATER


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
@pytest.mark.parametrize("state", ["locked", "failed"])
def test_a_job_that_is_locked_or_has_failed_is_superseded(queue: Queue, mode: str, state: str) -> None:
    old = queue.add_job(job_key="a", max_attempts=3, payload='["old"]')
    if state == "locked":
        queue.lock(old["id"])
    else:
        queue.set(old["id"], attempts=3, last_error="broke")
    new = queue.add_job(job_key="a", payload='["new"]', job_key_mode=mode)
    assert (new["key"], new["payload"], new["attempts"], new["revision"]) == ("a", '["new"]', 0, 0)
    assert new["id"] != old["id"]
    left = queue.job(old["id"])
    assert (left["key"], left["attempts"], left["payload"]) == (None, 3, '["old"]')
    assert (left["locked_by"], left["last_error"]) == (("somebody", None) if state == "locked" else (None, "broke"))


@pytest.mark.parametrize("state", ["waiting", "locked", "failed"])
def test_unsafe_dedupe_leaves_a_job_as_it_is_in_whatever_state(queue: Queue, state: str) -> None:
    job_id = queue.add("send", job_key="a", payload='{"a": 1}', run_at=EARLIER, max_attempts=2, flags=["slow"])
    if state == "locked":
        queue.lock(job_id)
    elif state == "failed":
        queue.set(job_id, attempts=2, last_error="broke")
    before = queue.job(job_id)
    returned = queue.add_job(
        "other", job_key="a", payload='{"b": 2}', run_at=LATER, queue_name="q", job_key_mode="unsafe_dedupe"
    )
    assert returned["updated_at"] > before["updated_at"]
    assert returned == {**before, "revision": 1, "updated_at": returned["updated_at"]}
    assert queue.rows("select * from {gw}._private_jobs") == [returned]


# Payloads


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ("[1]", "[2]", "[1,2]"),
        ("[1, 2]", " [3] ", "[1, 2,3]"),
        ("[]", "[1]", "[1]"),
        ("[1]", "[ ]", "[1]"),
        ("[]", "[]", "[]"),
        ('["\\u0000"]', '["\\ud800"]', '["\\u0000","\\ud800"]'),
        ("[123456789012345678901234567890]", "[1.10, 1e400]", "[123456789012345678901234567890,1.10, 1e400]"),
        ('[{"b": 1, "a": 2, "b": 3}]', "[[]]", '[{"b": 1, "a": 2, "b": 3},[]]'),
    ],
)
def test_two_arrays_become_one(queue: Queue, old: str, new: str, merged: str) -> None:
    queue.add(job_key="a", payload=old)
    assert queue.add_job(job_key="a", payload=new)["payload"].strip() == merged


def test_arrays_are_merged_in_mode_preserve_run_at_too(queue: Queue) -> None:
    queue.add(job_key="a", payload="[1]")
    assert queue.add_job(job_key="a", payload="[2]", job_key_mode="preserve_run_at")["payload"] == "[1,2]"


@pytest.mark.parametrize(
    ("old", "new"), [('{"a": 1}', "[2]"), ("[1]", '{"a": 2}'), ("[1]", "null"), ("[1]", '"x"'), ("[1]", None)]
)
def test_anything_else_replaces_the_payload(queue: Queue, old: str, new: str | None) -> None:
    queue.add(job_key="a", payload=old)
    assert queue.add_job(job_key="a", payload=new)["payload"] == (new or "{}")


# Notifications


def test_each_call_sends_one_notification(queue: Queue) -> None:
    queue.listen()
    queue.add()
    queue.add(job_key="a")
    queue.add(job_key="a")
    assert queue.counts_heard() == [1, 1, 1]


def test_a_notification_has_a_number_that_tells_it_from_others(queue: Queue) -> None:
    queue.listen()
    with queue.conn.transaction():  # where equal notifications become one
        queue.add()
        queue.add()
    assert queue.counts_heard() == [1, 1]


def test_unsafe_dedupe_notifies_only_of_a_job_that_it_added(queue: Queue) -> None:
    queue.listen()
    queue.add(job_key="a", job_key_mode="unsafe_dedupe")
    assert queue.counts_heard() == [1]
    queue.add(job_key="a", job_key_mode="unsafe_dedupe")
    assert queue.counts_heard() == []


# At the same time


def test_an_add_whose_job_is_just_being_claimed_leaves_a_job_that_will_run(queue: Queue, other: Queue) -> None:
    old = queue.add(job_key="a")
    with queue.conn.transaction():
        assert [job["id"] for job in queue.claim()] == [old]
        adding = Background(lambda: other.add_job(job_key="a", payload='{"new": 1}'))
        wait_until_blocked(queue, other)
    new = adding.result()
    assert (new["key"], new["payload"], new["is_available"]) == ("a", '{"new": 1}', True)
    assert new["id"] != old
    assert queue.job(old)["key"] is None


@pytest.mark.parametrize("mode", ["replace", "unsafe_dedupe"])
def test_an_add_waits_for_another_that_adds_the_same_key(queue: Queue, other: Queue, mode: str) -> None:
    with queue.conn.transaction():
        first = queue.add(job_key="a", payload="[1]")
        adding = Background(lambda: other.add_job(job_key="a", payload="[2]", job_key_mode=mode))
        wait_until_blocked(queue, other)
    second = adding.result()
    assert (second["id"], second["revision"]) == (first, 1)
    assert second["payload"] == ("[1,2]" if mode == "replace" else "[1]")


def test_an_add_whose_job_is_just_being_completed_adds_a_new_one(queue: Queue, other: Queue) -> None:
    old = queue.add(job_key="a")
    with queue.conn.transaction():
        queue.run("select {gw}.complete_jobs(array[%s::bigint])", old)
        adding = Background(lambda: other.add_job(job_key="a"))
        wait_until_blocked(queue, other)
    new = adding.result()
    assert queue.job_ids() == [new["id"]]
    assert new["id"] != old
