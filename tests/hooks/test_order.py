"""Hooks are called in the order that docs/explanation/plugins.md shows."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Kind
from tests.docs.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hooks.conftest import Recorded
    from tests.worker.conftest import Database

    Record = Callable[..., Recorded]

PAGE = (DOCS / "explanation" / "plugins.md").read_text()

OF_JOBS = {
    name for name in HOOKS if re.match(r"job_|jobs_|admit|resolve|retry|recover|before_claim|on_worker_lost", name)
}
OF_PROCESSES = {"supervisor_ready", "worker_spawned", "shutdown_requested", "worker_exited", "supervisor_stopped"}
IN_PROCESSES = {"worker_process_init", "worker_ready", "worker_draining", "worker_process_shutdown"}


def shown(heading: str, what: str) -> list[str]:
    """The hooks that the page lists under a heading, behind `Asked:` or `Told …:`."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n##")[0]
    [line] = [line for line in section.splitlines() if line.startswith(f"{what}:")]
    return re.findall(r"`(\w+)`", line)


def in_order(calls: list[dict[str, Any]], among: set[str]) -> list[str]:
    """The hooks that were called, in the order of their first calls."""
    return list(dict.fromkeys(call["hook"] for call in calls if call["hook"] in among))


def check(recorded: Recorded, heading: str) -> None:
    told = {name for name in OF_JOBS if HOOKS[name].kind is Kind.OBSERVE}
    calls = recorded.calls()
    assert in_order(calls, OF_JOBS - told) == shown(heading, "Asked")
    assert in_order(calls, told) == shown(heading, "Told")


@pytest.mark.parametrize("task", ["works", "works_async"])
def test_success(record: Record, db: Database, task: str) -> None:
    db.app.add_job(task)
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    check(recorded, "A job succeeds")
    assert [call["given"] for call in recorded.calls("job_context exit")] == [{"error": None}]


def test_retry(record: Record, db: Database) -> None:
    job = db.app.add_job("raises")
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    check(recorded, "An attempt fails")
    assert [call["given"] for call in recorded.calls("job_context exit")] == [{"error": "ValueError: it does"}]
    assert db.job(job.id).attempts == 1


def test_permanent_failure(record: Record, db: Database) -> None:
    db.app.add_job("raises", max_attempts=1)
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    check(recorded, "The last attempt fails")


def test_what_a_handler_has_decided_stands(record: Record, db: Database) -> None:
    db.app.add_job("gives_up")
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    assert recorded.calls("job_failed")
    assert not recorded.calls("retry_decision")


def test_time_out(record: Record, db: Database) -> None:
    db.app.add_job("overruns")
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    check(recorded, "A job runs for too long and stops when asked to")


def test_crash(record: Record, db: Database) -> None:
    job = db.app.add_job("dies", max_attempts=1)
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    until = next(number for number, call in enumerate(recorded.calls()) if call["hook"] == "jobs_recovered")
    calls = recorded.calls()[: until + 1]
    told = {name for name in OF_JOBS if HOOKS[name].kind is Kind.OBSERVE} | {"worker_exited"}
    assert in_order(calls, OF_JOBS - told) == shown("A job takes its process down", "Asked")
    assert in_order(calls, told) == shown("A job takes its process down", "Told")
    assert "exit code 3" in db.job(job.id).last_error


def test_cancel(record: Record, db: Database) -> None:
    job = db.app.add_job("cancelled")
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    check(recorded, "A plugin cancels a job before it runs")
    assert db.job(job.id) is None
    [logged] = recorded.worker.records("job_cancelled")
    assert (logged["job_id"], logged["reason"]) == (job.id, "not wanted")


def test_cancel_while_it_runs(record: Record, db: Database) -> None:
    job = db.app.add_job("waits")
    recorded = record("--once", "--processes", "1")
    recorded.wait_for("job_started")
    db.app.jobs.cancel([job.id])
    assert recorded.worker.wait() == 0
    check(recorded, "Somebody cancels a job that runs")


def test_abort(record: Record, db: Database) -> None:
    job = db.app.add_job("waits")
    recorded = record("--processes", "1")
    recorded.wait_for("job_started")
    for event in ("worker_draining", "worker_aborting"):
        recorded.worker.signal(signal.SIGTERM)
        recorded.worker.wait_for(event)
    recorded.worker.wait()
    check(recorded, "A worker stops without waiting for a job")
    assert db.job(job.id).attempts == 0


def test_a_worker_from_its_start_to_its_end(record: Record) -> None:
    recorded = record("--once", "--processes", "1")
    assert recorded.worker.wait() == 0
    heading = "A worker from its start to its end"
    supervisor = recorded.calls(role="supervisor")
    assert in_order(supervisor, OF_PROCESSES) == shown(heading, "Told in the supervisor")
    assert in_order(recorded.calls(role="worker"), IN_PROCESSES) == shown(heading, "Told in a worker process")
