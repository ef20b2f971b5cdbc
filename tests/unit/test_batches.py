from __future__ import annotations

from typing import Any

import pytest

from pgtasks import BatchResult, JobOptionError, Retry

ERROR = ValueError("no such address")


def test_failures_are_told_by_position_and_come_in_the_order_of_the_items() -> None:
    other = TypeError()
    assert list(BatchResult({2: ERROR, 0: other}).failures_in(["a", "b", "c"], "send").items()) == [
        (0, other),
        (2, ERROR),
    ]


def test_exceptions_among_results_are_failures() -> None:
    assert BatchResult.of([None, ERROR, 5]).failures_in(["a", "b", "c"], "send") == {1: ERROR}
    failures = BatchResult.of([None, Retry, KeyError]).failures_in(["a", "b", "c"], "send")  # as one can raise them
    assert {place: repr(failure) for place, failure in failures.items()} == {1: "Retry()", 2: "KeyError()"}


@pytest.mark.parametrize("payload", [["a"], {}, None])
def test_without_failures_there_is_nothing_that_could_be_wrong(payload: Any) -> None:
    assert BatchResult().failures_in(payload, "send") == {}
    assert BatchResult.of([None, None]).failures_in(payload, "send") == {}


@pytest.mark.parametrize(
    ("result", "payload", "message"),
    [
        (BatchResult({0: ERROR}), {"a": 1}, "task 'send' told how items have fared, but its payload is a dict"),
        (BatchResult({2: ERROR}), ["a", "b"], "task 'send' told of item 2, and there are 2"),
        (BatchResult.of([ERROR]), ["a", "b"], "task 'send' returned 1 results for 2 items"),
    ],
)
def test_failures_of_what_is_not_there_are_an_error(result: BatchResult, payload: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        result.failures_in(payload, "send")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ({"a": ERROR}, "BatchResult: 'a' is not the position of an item"),
        ({-1: ERROR}, "BatchResult: -1 is not the position of an item"),
        ({True: ERROR}, "BatchResult: True is not the position of an item"),
        ({0: "no"}, "BatchResult: item 0 must be given an exception, not str"),
    ],
)
def test_a_result_that_cannot_be_is_refused(failures: Any, message: str) -> None:
    with pytest.raises(JobOptionError) as caught:
        BatchResult(failures)
    assert str(caught.value) == message
