"""Mistakes that would delete a job, or lose a part of it, without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, BatchResult, JobOptionError, Registry
from pgtasks.job import OutcomeKind
from pgtasks.testing import make_job
from pgtasks.worker.calling import outcome_of_error, outcome_of_result

if TYPE_CHECKING:
    from pgtasks.tasks import AnyTask

JOB = make_job("handle", payload_json="[1,2,3]")


def task_with(**options: Any) -> AnyTask:
    def handle(payload: Any) -> None: ...

    return App(registry=Registry()).task(name="handle", **options)(handle)


def test_a_batch_of_a_transactional_task_keeps_all_items_since_the_work_on_all_is_undone() -> None:
    task = task_with(transactional=True)
    outcome = outcome_of_result(task, JOB, [1, 2, 3], [None, ValueError("x"), None], None)
    assert outcome.kind is OutcomeKind.RETRY
    assert outcome.payload_json is None


@pytest.mark.parametrize(
    ("result", "payload", "message"),
    [
        ([ValueError("x")], {"to": ["ada"]}, "'handle' told how items have fared, but its payload is a dict"),
        ([ValueError("x")] * 2, {1, 2}, "its payload is a set"),
        (ValueError("x"), {}, "'handle' returned a ValueError, which would count as success; raise it"),
        (ValueError, {}, "'handle' returned a ValueError, which would count as success; raise it"),
        ((each for each in ""), {}, "'handle' returned a generator, which nobody runs"),
    ],
)
def test_what_would_count_as_success_by_mistake_is_an_error(result: Any, payload: Any, message: str) -> None:
    job = make_job("handle", payload_json='{"to":["ada"]}' if isinstance(payload, dict) else "[1,2]")
    with pytest.raises(TypeError, match=message):
        outcome_of_result(task_with(), job, payload, result, None)


def test_an_error_that_cannot_even_be_looked_at_is_one_like_others() -> None:
    class HostileError(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError

    outcome = outcome_of_error(task_with(), JOB, HostileError(), None)
    assert outcome.kind is OutcomeKind.RETRY
    assert str(outcome.error).endswith("HostileError: <it cannot be looked at>")


def test_exceptions_may_be_given_as_a_set() -> None:
    outcome = outcome_of_error(task_with(no_retry_on={KeyError, ValueError}), JOB, ValueError("x"), None)
    assert outcome.kind is OutcomeKind.FAIL


def test_a_list_for_failures_by_position_is_refused() -> None:
    failures: Any = [ValueError()]
    with pytest.raises(JobOptionError, match="takes failures by position"):
        BatchResult(failures)
