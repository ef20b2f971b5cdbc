"""What handlers return, from a worker to whoever waits for it."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from pgtasks import App, Job, JobCancelledError, JobFailedError, JobResultError, JobSpec, Retry
from pgtasks.job import OutcomeKind
from pgtasks.queue import hub
from pgtasks.worker import keeping
from tests.worker import returning
from tests.worker.conftest import LONG
from tests.worker.returning import Report

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker

PAYLOADS: dict[str, Any] = {
    "report": {"total": "0.10"},
    "double": 21,
    "loose": [1],
    "refuse": {},
    "lie": {},
    "pay": {},
    "items": [1, 2],
    "forget": [1, 2],
    "forget_and_pay": [1, 2],
    "second_time": {},
    "fail": {},
    "give_up": {},
    "plain": {},
}


def test_who_waits_gets_what_the_handler_has_returned(
    db: Database, database: str, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(registry=returning.app.registry, database_url=database, pool_max_size=2)
    monkeypatch.setattr(hub, "FIRST_PAUSE", 3600.0)  # they are told, and do not only look

    async def wait_for_all() -> dict[str, Any]:
        specs = [JobSpec(task=task, payload=payload, max_attempts=2) for task, payload in PAYLOADS.items()]
        jobs = await app.add_jobs_async(specs)
        for queued in range(3):
            jobs = [*jobs, await app.add_job_async("loose", queued, queue="in order")]
        waits = [asyncio.create_task(job.wait_async(LONG)) for job in jobs]
        waiting = "select count(*) from graphile_worker._pgtasks_waits"
        await asyncio.to_thread(db.wait, lambda: db.value(waiting) == len(jobs), "all to wait")
        await asyncio.to_thread(start_worker, "--processes", "1", modules=("tests.worker.returning",))
        ends = await asyncio.gather(*waits, return_exceptions=True)
        await app.aclose()
        assert ends[-3:] == [{"got": queued} for queued in range(3)]
        return {job.task: (job, end) for job, end in zip(jobs[:-3], ends, strict=False)}

    ends = asyncio.run(wait_for_all())
    results = {task: end for task, (_, end) in ends.items() if not isinstance(end, Exception)}
    assert results == {
        "report": Report(dt.date(2026, 1, 2), Decimal("0.10")),
        "double": 42,
        "loose": {"got": [1]},
        "pay": "paid",
        "items": None,
        "forget": None,
        "forget_and_pay": None,
        "second_time": 2,
        "plain": None,
    }
    failures = {task: end for task, (_, end) in ends.items() if isinstance(end, JobFailedError)}
    assert failures["fail"].last_error == "no such luck\n\nValueError: not at all"
    assert str(failures["fail"]) == f"job {ends['fail'][0].id} has failed for good: no such luck"
    assert str(failures["refuse"]).endswith(
        "has failed for good: the result cannot be stored: what task 'refuse' returned is a set, which JSON cannot hold"
    )
    assert str(failures["lie"]).endswith(
        "the result cannot be stored: what task 'lie' returned is not what its annotation says: it should be a valid "
        "integer, unable to parse string as an integer, not str"
    )
    assert db.rows("select job_id from ledger order by attempt") == [
        (ends[task][0].id,) for task in ("pay", "forget_and_pay")
    ]
    assert isinstance(ends["give_up"][1], JobCancelledError)
    assert str(ends["give_up"][1]) == f"job {ends['give_up'][0].id} was cancelled: not needed"

    report = ends["report"][0]
    assert app.jobs.wait(report.id) == Report(dt.date(2026, 1, 2), Decimal("0.10"))
    assert db.app.jobs.wait(report.id) == {"day": "2026-01-02", "total": "0.10"}  # it does not know the task
    kept = db.rows("select task, extract(epoch from expires_at - finished_at) from graphile_worker._pgtasks_results")
    assert dict(kept)["report"] == 86_400
    assert dict(kept)["double"] == 3600
    db.connection.execute("update graphile_worker._pgtasks_results set expires_at = now()")
    with pytest.raises(JobResultError, match=rf"^job {report.id} of task 'report' has ended, and left no result: "):
        report.wait()
    app.close()


def test_a_result_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LONGEST", 10)
    task = returning.app.registry["loose"]
    assert keeping.result_json(task, "x" * 8, None) == '"xxxxxxxx"'
    with pytest.raises(keeping.InvalidResult) as raised:
        keeping.result_json(task, "x" * 9, None)
    assert raised.value.outcome.kind is OutcomeKind.FAIL
    assert raised.value.outcome.error == "the result cannot be stored: it has 11 characters as JSON, and may have 10"


def test_type_checkers_know_what_a_job_returns() -> None:
    def check(typed: Job[Report]) -> None:
        assert_type(typed.wait(), Report)
        assert_type(returning.double.defer(21).wait(), int | Retry)

    assert callable(check)
