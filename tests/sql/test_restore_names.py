from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

NOTHING = {"restored_tasks": 0, "restored_queues": 0, "renumbered_jobs": 0}


def restore(queue: Queue, tasks: Sequence[str] = (), max_age: str | None = None) -> Row:
    return queue.row("select * from {gw}._pgtasks_restore_names(%s::text[], %s::interval)", list(tasks), max_age)


def number(queue: Queue, task: str = "send") -> int:
    found: int = queue.value("select id from {gw}._private_tasks where identifier = %s", task)
    return found


def clean_up(queue: Queue) -> None:
    """Delete all names, as the reference's cleanup does when it does not see the jobs that have them yet."""
    queue.run("delete from {gw}._private_tasks")
    queue.run("delete from {gw}._private_job_queues where locked_at is null")


def register_anew(queue: Queue) -> None:
    """Register the task under a new number, as the reference does; our functions give it its old one."""
    queue.run("insert into {gw}._private_tasks (identifier) values ('send')")


@pytest.mark.every_schema
def test_names_that_a_job_turns_out_to_need_are_put_back_under_their_old_numbers(queue: Queue, other: Queue) -> None:
    queue.add(queue_name="q", run_at="2100-01-01Z")
    queue.run("delete from {gw}._private_jobs")
    numbers = (number(queue), queue.queue("q")["id"])
    with other.conn.transaction():
        plain, queued = other.add(), other.add(queue_name="q")
        clean_up(queue)
    assert queue.claim() == []
    queue.listen()
    assert restore(queue, max_age="1 minute") == {**NOTHING, "restored_tasks": 1, "restored_queues": 1}
    assert queue.counts_heard() == [2]
    assert (number(queue), queue.queue("q")["id"]) == numbers
    assert [(job["id"], job["queue_name"]) for job in queue.claim()] == [(plain, None), (queued, "q")]
    assert restore(queue) == NOTHING


def test_where_a_name_has_been_registered_anew_jobs_get_its_new_number(queue: Queue) -> None:
    first, second = queue.add(queue_name="q"), queue.add()
    clean_up(queue)
    register_anew(queue)
    third = queue.add(queue_name="q")
    assert restore(queue) == {**NOTHING, "renumbered_jobs": 2}
    assert {queue.job(job)["task_id"] for job in (first, second, third)} == {number(queue)}
    assert [job["id"] for job in queue.claim()] == [first, second]
    assert queue.queue("q")["locked_at"] is not None


def test_a_name_that_was_lost_under_two_numbers_is_put_back_once_and_serves_all_its_jobs(queue: Queue) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(queue.add(queue_name="q"))
        clean_up(queue)
    assert restore(queue) == {"restored_tasks": 1, "restored_queues": 1, "renumbered_jobs": 2}
    for job in jobs:
        [claimed] = queue.claim()
        assert claimed["id"] == job
        queue.finish({**claimed, "outcome": "success"})


def test_tasks_that_are_asked_for_are_registered_under_their_old_numbers_or_else_under_new_ones(queue: Queue) -> None:
    queue.run("delete from {gw}._private_jobs where id = %s", queue.add())
    before = number(queue)
    clean_up(queue)
    assert restore(queue, ["send", "new"], "1 minute") == {**NOTHING, "restored_tasks": 2}
    assert number(queue) == before
    assert number(queue, "new") > before
    assert restore(queue, ["send", "new"]) == NOTHING


def test_names_that_nobody_needs_stay_forgotten(queue: Queue) -> None:
    queue.run("delete from {gw}._private_jobs where id = %s", queue.add(queue_name="q"))
    clean_up(queue)
    assert restore(queue, ["another"]) == {**NOTHING, "restored_tasks": 1}
    assert queue.values("select identifier from {gw}._private_tasks") == ["another"]
    assert queue.values("select queue_name from {gw}._private_job_queues") == []


@pytest.mark.parametrize("state", ["locked", "failed"])
def test_a_job_that_is_locked_or_has_failed_gets_its_name_back_at_a_full_look(queue: Queue, state: str) -> None:
    job = queue.add()
    if state == "locked":
        queue.lock(job)
    else:
        queue.run("select {gw}.permanently_fail_jobs(array[%s::bigint])", job)
    before = queue.job(job)
    clean_up(queue)
    assert queue.values("select id from {gw}.jobs") == []
    assert restore(queue, max_age="1 minute") == NOTHING
    assert restore(queue) == {**NOTHING, "restored_tasks": 1}
    assert queue.job(job) == before
    assert queue.values("select id from {gw}.jobs") == [job]


def test_a_locked_job_keeps_its_old_number_until_it_is_given_back(queue: Queue) -> None:
    job = queue.add()
    queue.lock(job)
    clean_up(queue)
    register_anew(queue)
    later = queue.add()
    held = queue.job(job)
    assert restore(queue) == NOTHING
    assert queue.job(job) == held
    queue.set(job, locked_at=None, locked_by=None)
    assert restore(queue) == {**NOTHING, "renumbered_jobs": 1}
    assert [claimed["id"] for claimed in queue.claim()] == [job, later]


def test_what_was_deleted_earlier_is_looked_at_only_in_full_and_for_a_day(queue: Queue) -> None:
    old, older = queue.add("old"), queue.add("older", queue_name="older")
    clean_up(queue)
    queue.run("update {gw}._pgtasks_forgotten_names set ts = now() - interval '2 minutes'")
    queue.run("update {gw}._pgtasks_forgotten_names set ts = now() - interval '25 hours' where name = 'older'")
    assert restore(queue, max_age="1 minute") == NOTHING
    assert restore(queue) == {**NOTHING, "restored_tasks": 1}
    assert queue.values("select id from {gw}.jobs") == [old]
    assert queue.exists(older)
    assert queue.values("select name from {gw}._pgtasks_forgotten_names where kind = 'queue'") == []


def test_the_numbers_of_tasks_are_kept_for_90_days(queue: Queue) -> None:
    for task in ("recent", "old"):
        queue.run("delete from {gw}._private_jobs where id = %s", queue.add(task))
    before = number(queue, "recent"), number(queue, "old")
    clean_up(queue)
    queue.run("update {gw}._pgtasks_forgotten_names set ts = now() - interval '89 days' where name = 'recent'")
    queue.run("update {gw}._pgtasks_forgotten_names set ts = now() - interval '91 days' where name = 'old'")
    assert restore(queue) == NOTHING
    assert restore(queue, ["old", "recent"], "1 minute") == {**NOTHING, "restored_tasks": 2}
    assert number(queue, "recent") == before[0]
    assert number(queue, "old") > before[1]


def test_whoever_may_delete_a_task_needs_no_right_on_our_tables(queue: Queue, role: str) -> None:
    queue.run("delete from {gw}._private_jobs where id = %s", queue.add())
    queue.run(f"alter role {role} bypassrls")
    queue.run(f"grant usage on schema {{gw}} to {role}")
    queue.run(f"grant select, delete on {{gw}}._private_tasks to {role}")
    queue.run(f"set role {role}")
    queue.run("delete from {gw}._private_tasks")
    queue.run("reset role")
    assert queue.values("select name from {gw}._pgtasks_forgotten_names where kind = 'task'") == ["send"]


def test_whoever_may_register_a_task_needs_no_right_on_our_tables(queue: Queue, role: str) -> None:
    before = queue.add_job("send")["task_id"]
    queue.run("delete from {gw}._private_jobs")
    queue.run("delete from {gw}._private_tasks")
    queue.run(f"alter role {role} bypassrls")
    queue.run(f"grant usage on schema {{gw}} to {role}")
    queue.run(f"grant all on {{gw}}._private_tasks, {{gw}}._private_jobs to {role}")
    queue.run(f"set role {role}")
    queue.add("send")
    queue.run("reset role")
    assert number(queue) == before
