"""What handlers and rules say becomes of jobs becomes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, JobSpec
from tests.worker.deciding import DECISIONS, LATER
from tests.worker.deciding import app as deciding

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker, Worker

MODULE = "tests.worker.deciding"
HOUR = 3600.0


@pytest.fixture
def app(database: str) -> App:
    return App(registry=deciding.registry, database_url=database)


def run(start_worker: StartWorker) -> Worker:
    """Let a worker do all that is due."""
    worker = start_worker("--once", "--processes", "1", "--concurrency", "4", modules=(MODULE,))
    assert worker.wait() == 0, worker.text
    return worker


def sql(db: Database, task: str, payload: Any) -> int:
    """Add a job as a trigger does, and return its id."""
    return int(db.value("select id from graphile_worker.add_job(%s, %s)", task, json.dumps(payload)))


def seconds_left(db: Database, job: int) -> float:
    """How long a job waits from when its last attempt has ended."""
    asked = "select extract(epoch from run_at - updated_at) from graphile_worker.jobs where id = %s"
    return float(db.value(asked, job))


def first_line(db: Database, job: int) -> str:
    return str(db.job(job).last_error).partition("\n")[0]


@pytest.mark.parametrize("tasks", [("plain", "on_loop"), ("paying", "paying_on_loop")], ids=["plain", "transactional"])
def test_what_a_handler_raises_or_returns_is_done_and_undoes_its_transaction(
    db: Database, app: App, start_worker: StartWorker, tasks: tuple[str, ...]
) -> None:
    jobs = {
        (task, decision, raises): app.add_job(task, {"decision": decision, "raises": raises}).id
        for task in tasks
        for decision in DECISIONS
        for raises in (True, False)
    }
    app.close()
    worker = run(start_worker)
    for (_, decision, _), job in jobs.items():
        stored = db.job(job)
        if decision == "cancel":
            assert stored is None
            assert worker.records("job_cancelled", job_id=job, reason="enough")
            continue
        assert stored.attempts == {"snooze": 0, "snooze to": 0, "fail": stored.max_attempts}.get(decision, 1)
        assert stored.last_error == {
            "retry": "busy",
            "retry at": "the task asked for another attempt",
            "retry by rule": "the task asked for another attempt",
            "fail": "gone",
        }.get(decision)
        if decision in ("retry at", "snooze to"):
            assert stored.run_at == LATER
        elif decision != "fail":
            assert seconds_left(db, job) == pytest.approx(2 * HOUR if decision == "retry by rule" else HOUR, abs=1)
    assert db.rows("select * from ledger") == []
    assert db.locked() == 0


def test_rules_and_payloads_that_handlers_do_not_take_end_jobs_as_tasks_say(
    db: Database, start_worker: StartWorker
) -> None:
    waits = {
        ("by_list", "KeyError"): HOUR,
        ("by_backoff", "KeyError"): HOUR,
        ("by_function", "KeyError"): HOUR,
        ("only", "KeyError"): HOUR,
        ("never", "ValueError"): HOUR,
        ("expected", "ValueError"): HOUR,
        ("by_function", "ValueError"): None,
        ("only", "ValueError"): None,
        ("never", "KeyError"): None,
    }
    jobs = {case: sql(db, case[0], {"error": case[1]}) for case in waits}
    bought, greeted, sold = (
        sql(db, "buy", {"name": "tea", "price": 1.10, "unknown": 5}),
        sql(db, "greet", {"name": "Ada", "unknown": 5}),
        sql(db, "sell", {"name": "tea"}),
    )
    wrong, wrong_for_now = sql(db, "buy", {"name": ["tea"]}), sql(db, "buy_sometime", [1])
    missing = sql(db, "greet", {"times": "many"})
    worker = run(start_worker)

    for case, wait in waits.items():
        stored = db.job(jobs[case])
        error = "KeyError: 'as told'" if case[1] == "KeyError" else "ValueError: as told"
        if wait is None:
            assert stored.attempts == stored.max_attempts
        else:
            assert seconds_left(db, jobs[case]) == pytest.approx(wait, abs=1)
            assert stored.attempts == 1
        if case == ("expected", "ValueError"):
            assert stored.last_error == error
            assert worker.records("job_retrying", job_id=jobs[case], error=error)[0]["exception"] is None
        elif case == ("by_function", "ValueError"):
            assert stored.last_error.startswith(f"by rule\n\n{error}\n\nTraceback")
        else:
            assert stored.last_error.startswith(f"{error}\n\nTraceback (most recent call last):\n")
            assert "pgtasks/" not in stored.last_error
            assert 'in fail\n    raise {"KeyError"' in stored.last_error

    whats = dict(db.rows("select job_id, what from effects"))
    assert whats == {bought: "tea for 1.1", greeted: "Ada 1 1", sold: "tea"}
    cannot = "PayloadError: task {!r} cannot take this payload: "
    assert db.job(wrong).last_error == (
        cannot.format("buy") + "'name' should be a valid string, not list; 'price' is missing"
    )
    assert db.job(missing).last_error == cannot.format("greet") + (
        "'name' is missing; 'times' should be a valid integer, unable to parse string as an integer, not str"
    )
    assert first_line(db, wrong_for_now) == cannot.format("buy_sometime") + "it should be an object, not list"
    assert [db.job(job).attempts for job in (wrong, missing, wrong_for_now)] == [25, 25, 1]
    assert worker.records("job_failed", job_id=wrong)[0]["error"] == db.job(wrong).last_error
    assert db.locked() == 0


def test_batches_keep_what_has_failed_and_jobs_know_themselves_and_add_others(
    db: Database, app: App, start_worker: StartWorker
) -> None:
    items = [
        {"name": name, "price": price, "more": None} for name, price in (("tea", 1.10), ("ink", -1.10), ("ash", -2))
    ]
    batches = {
        sql(db, "batch", items): (items[1:], "2 of 3 items failed; the first is item 1: ValueError: no ink"),
        sql(db, "batch_by_result", [1, 2, 3]): ([1, 3], "2 of 3 items failed; the first is item 0: ValueError: odd"),
        sql(db, "batch_on_loop", [2, 3, 4]): ([3], "1 of 3 items failed; the first is item 1: ValueError: odd"),
    }
    succeeded = sql(db, "batch_on_loop", [2, 4])
    told = app.add_jobs([JobSpec(task="tell"), JobSpec(task="tell_on_loop")])
    orders = ("order", "order_paid", "order_paid_on_loop")
    added = {(task, fails): app.add_job(task, {"fails": fails}).id for task in orders for fails in (True, False)}
    app.close()
    run(start_worker)

    for job, (left, error) in batches.items():
        assert (
            json.loads(db.value("select payload::text from graphile_worker._private_jobs where id = %s", job)) == left
        )
        assert first_line(db, job) == error
        assert db.job(job).attempts == 1
    assert db.job(succeeded) is None

    whats = db.rows("select job_id, what from effects")
    assert {(job, what) for job, what in whats if "known" in what} == {
        (told[0].id, "known in a thread"),
        (told[1].id, "known on the loop as tell_on_loop"),
    }
    # Outside of a transaction what is done is done; within one it is done with the job's success, or not at all.
    assert sorted(what for _, what in whats if "after" in what) == [
        "after order False",
        "after order True",
        "after order_paid False",
        "after order_paid_on_loop False",
    ]
    kept = {job for (task, fails), job in added.items() if task == "order" or not fails}
    assert {job for (job,) in db.rows("select job_id from ledger")} == kept
    assert [db.job(job) is None for (_, fails), job in added.items() if not fails] == [True] * 3
    assert [first_line(db, job) for (_, fails), job in added.items() if fails] == ["after all"] * 3
