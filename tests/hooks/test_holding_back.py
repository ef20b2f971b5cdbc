"""Jobs that plugins hold back right before they start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker, Worker


def start(start_worker: StartWorker, **env: str) -> Worker:
    environment = {"PGTASKS_PLUGINS": "tests.hooks.gate", "PGTASKS_POLL_INTERVAL": "60", **env}
    return start_worker("--processes", "1", modules=("tests.worker.jobs",), env=environment)


def revision_of(db: Database, job_id: int) -> tuple[object, ...]:
    return db.rows("select run_at, attempts, locked_at from graphile_worker.jobs where id = %s", job_id)[0]


def test_a_job_that_is_given_back_is_as_it_was(start_worker: StartWorker, db: Database) -> None:
    job = db.app.add_job("note", {}, flags=["gated"])
    before = revision_of(db, job.id)
    worker = start(start_worker)
    worker.wait_for("job_returned", job_id=job.id)
    assert revision_of(db, job.id) == before
    assert db.effects() == []


def test_a_plugin_has_the_process_look_for_what_it_held_back(start_worker: StartWorker, db: Database) -> None:
    job = db.app.add_job("note", {}, flags=["gated"])
    worker = start(start_worker)
    worker.wait_for("job_returned", job_id=job.id)
    db.permit("all")
    db.wait_for_effects(1)


def test_no_job_starts_while_a_plugin_that_has_to_be_asked_does_not_answer(
    start_worker: StartWorker, db: Database
) -> None:
    job = db.app.add_job("note", {}, flags=["gated"])
    worker = start(start_worker, GATE="raise", GATE_VITAL="yes")
    worker.wait_for("job_returned", 4, job_id=job.id)  # more often than others are asked that fail
    assert db.effects() == []
    db.permit("all")
    db.wait_for_effects(1)


def test_jobs_start_without_the_answer_of_any_other_plugin(start_worker: StartWorker, db: Database) -> None:
    db.app.add_job("note", {}, flags=["gated"])
    start(start_worker, GATE="raise")
    db.wait_for_effects(1)
