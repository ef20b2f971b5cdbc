from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtasks import Backoff, Cancel, JobOptionError, Retry, Snooze
from pgtasks.retry import check_exceptions, check_retry, decide

if TYPE_CHECKING:
    from collections.abc import Callable

ERROR = ValueError()
limits = {"allow_nan": False, "allow_infinity": False}


def problem(call: Callable[[], object]) -> str:
    with pytest.raises(JobOptionError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Backoff


@given(
    st.floats(0, exclude_min=True, **limits),  # type: ignore[arg-type]
    st.floats(1, **limits),  # type: ignore[arg-type]
    st.floats(0, 1e9, exclude_min=True, **limits),  # type: ignore[arg-type]
    st.floats(0, 1),
    st.integers(1, 32767),
)
def test_a_delay_is_within_its_bounds_whatever_the_attempt(
    first: float, factor: float, longest: float, jitter: float, attempt: int
) -> None:
    backoff = Backoff(first=first, factor=factor, longest=longest, jitter=jitter)
    seconds = backoff(attempt, ERROR)
    assert min(first, longest) * (1 - jitter) <= seconds <= longest * (1 + jitter)
    assert decide(backoff, attempt, ERROR) is not None
    steady = Backoff(first=first, factor=factor, longest=longest, jitter=0)
    assert steady.seconds(attempt) <= steady.seconds(attempt + 1)


def test_jitter_makes_jobs_that_failed_together_come_back_at_different_times() -> None:
    backoff = Backoff(first=100, jitter=0.2)
    delays = {backoff.seconds(1) for _ in range(100)}
    assert len(delays) > 50
    assert all(80 <= delay <= 120 for delay in delays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "Backoff(first=0): it must be more than 0"),
        ({"factor": 0.5}, "Backoff(factor=0.5): it must be at least 1"),
        ({"longest": -1}, "Backoff(longest=-1): it must be more than 0"),
        ({"longest": 1e10}, "Backoff(longest=10000000000.0): it must be at most 1e+09"),
        ({"jitter": 1.5}, "Backoff(jitter=1.5): it must be at most 1"),
        ({"first": math.nan}, "Backoff(first=nan): it must be a finite number"),
        ({"longest": 10**400}, f"Backoff(longest={10**400}): it must be at most 1e+09"),
        ({"first": "1"}, "Backoff(first='1'): it must be a finite number"),
        ({"jitter": True}, "Backoff(jitter=True): it must be a finite number"),
    ],
)
def test_a_backoff_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    assert problem(lambda: Backoff(**options)) == message


# Rules


def test_the_last_of_a_list_of_delays_holds_for_all_further_attempts() -> None:
    rule = check_retry([1, dt.timedelta(minutes=1)])
    assert [decide(rule, attempt, ERROR) for attempt in (1, 2, 3)] == [
        Retry(1),
        Retry(dt.timedelta(minutes=1)),
        Retry(dt.timedelta(minutes=1)),
    ]


def test_a_function_returns_a_delay_or_a_decision_or_nothing() -> None:
    answers = iter([5, dt.timedelta(1), Snooze(3), Cancel("x"), None])
    rule = check_retry(lambda attempt, error: next(answers))
    assert [decide(rule, 1, ERROR) for _ in range(5)] == [
        Retry(5),
        Retry(dt.timedelta(1)),
        Snooze(3),
        Cancel("x"),
        None,
    ]


def test_a_function_is_told_of_the_attempt_and_the_error() -> None:
    rule = check_retry(lambda attempt, error, base=10: base**attempt if isinstance(error, ValueError) else None)
    assert decide(rule, 2, ERROR) == Retry(100)
    assert decide(rule, 2, TypeError()) is None


async def of_asyncio(attempt: int, error: BaseException) -> float:
    return 5


def of_one(attempt: int) -> float:
    return 5


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ([], "retry=[] says nothing; give at least one delay, or max_attempts=1 to try once"),
        ([1, -1], "retry=[1, -1]: Retry(-1): the delay must not be negative, infinite or longer than 300 years"),
        ("never", "retry='never' must be Backoff(…), a list of delays, or a function of attempt and error"),
        (5, "retry=5 must be Backoff(…), a list of delays, or a function of attempt and error"),
        (Backoff, "retry=Backoff is a class; write retry=Backoff(…)"),
        (of_asyncio, f"retry={of_asyncio!r} must be a plain function of attempt and error, not `async def`"),
        (of_one, f"retry={of_one!r} must be a function of attempt and error, but takes (attempt: 'int') -> 'float'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: Any, message: str) -> None:
    assert problem(lambda: check_retry(rule)) == message


def test_an_answer_that_is_no_delay_is_an_error() -> None:
    assert problem(lambda: decide(lambda attempt, error: "soon", 1, ERROR)) == (  # type: ignore[arg-type, return-value]
        "Retry('soon'): the delay must be a timedelta or a number of seconds"
    )


def test_exceptions_are_one_type_or_several() -> None:
    assert check_exceptions("retry_on", OSError) == (OSError,)
    assert check_exceptions("retry_on", [OSError, ValueError]) == (OSError, ValueError)
    assert problem(lambda: check_exceptions("retry_on", "OSError")) == (
        "retry_on='OSError' must be an exception type, or a list of them"
    )
    assert problem(lambda: check_exceptions("expected", [OSError()])) == (
        "expected=OSError() must be an exception type, or a list of them"
    )
