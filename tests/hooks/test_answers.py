"""Answers that the database could not be asked with, or told, harm nobody but the plugin that gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks.errors import JobOptionError
from pgtasks.flow import Cancel, Fail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

PLUGIN = """
from dataclasses import replace
from pgtasks.plugins import Fail, hookimpl


class Own(BaseException): ...


def fail():
    raise Own("own")


@hookimpl
async def {signature}:
    return {answer}
"""
NONSENSE = [
    ("forbidden_flags()", r"['a\0']"),
    ("forbidden_flags()", r"['\ud800']"),
    ("forbidden_flags()", "fail()"),
    ("before_claim(plan)", "replace(plan, limit=plan.limit / 2)"),
    ("before_claim(plan)", "replace(plan, limit=True)"),
    ("before_claim(plan)", r"replace(plan, forbidden_queues=frozenset(['q\0']))"),
    ("before_claim(plan)", "fail()"),
    ("admit_jobs(jobs)", "{job.id: Fail(ValueError('no')) for job in jobs}"),
    ("admit_jobs(jobs)", "fail()"),
    ("resolve_task(job)", "fail()"),
]


@pytest.mark.parametrize(("signature", "answer"), NONSENSE)
def test_jobs_run_whatever_a_plugin_answers(
    start_worker: StartWorker, db: Database, tmp_path: Path, signature: str, answer: str
) -> None:
    (tmp_path / "nonsense.py").write_text(PLUGIN.format(signature=signature, answer=answer))
    for _ in range(3):
        db.app.add_job("note")
    worker = start_worker("--processes", "1", "-p", "nonsense", env={"PYTHONPATH": str(tmp_path)})
    db.wait_for_effects(3)
    assert worker.stop() == 0
    assert worker.records("hook_failed", plugin="nonsense", hook=signature.partition("(")[0])
    assert not worker.records("worker_failed")


def test_reasons_can_be_stored(start_worker: StartWorker, db: Database, tmp_path: Path) -> None:
    answer = r"{job.id: Fail('bad \0 \ud800') for job in jobs}"
    (tmp_path / "nonsense.py").write_text(PLUGIN.format(signature="admit_jobs(jobs)", answer=answer))
    job = db.app.add_job("note")
    worker = start_worker("--once", "--processes", "1", "-p", "nonsense", env={"PYTHONPATH": str(tmp_path)})
    assert worker.wait() == 0
    assert db.job(job.id).last_error == r"bad \0 \ud800"


@pytest.mark.parametrize("decision", [Fail, Cancel])
def test_reasons_are_text(decision: type[Fail | Cancel]) -> None:
    with pytest.raises(JobOptionError, match="the reason must be text, not ValueError"):
        decision(ValueError("no"))  # type: ignore[arg-type]
