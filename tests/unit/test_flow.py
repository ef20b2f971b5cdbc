from __future__ import annotations

import copy
import datetime as dt
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import Cancel, Fail, JobOptionError, Retry, Snooze
from pgtasks.job import Outcome, OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)


def test_a_decision_says_what_becomes_of_a_job() -> None:
    assert Retry().outcome("why") == Outcome(OutcomeKind.RETRY, "why")
    assert Retry(dt.timedelta(minutes=1), reason="busy").outcome() == Outcome(OutcomeKind.RETRY, "busy", 60.0)
    assert Retry(run_at=NOON).outcome() == Outcome(OutcomeKind.RETRY, run_at=NOON)
    assert Snooze(5).outcome("why") == Outcome(OutcomeKind.SNOOZE, delay=5.0)
    assert Snooze(run_at=NOON).outcome() == Outcome(OutcomeKind.SNOOZE, run_at=NOON)
    assert Cancel("gone").outcome() == Outcome(OutcomeKind.CANCEL, "gone")
    assert Fail("gone").outcome() == Outcome(OutcomeKind.FAIL, "gone")
    assert Fail("gone").outcome("ValueError: 404") == Outcome(OutcomeKind.FAIL, "gone\n\nValueError: 404")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(-1), "Retry(-1): the delay must not be negative, infinite or longer than 300 years"),
        (lambda: Retry(float("nan")), "Retry(nan): the delay must not be negative, infinite or longer than 300 years"),
        (
            lambda: Retry(10**400),
            f"Retry({10**400}): the delay must not be negative, infinite or longer than 300 years",
        ),
        (
            lambda: Snooze("5"),  # type: ignore[arg-type]
            "Snooze('5'): the delay must be a timedelta or a number of seconds",
        ),
        (lambda: Snooze(True), "Snooze(True): the delay must be a timedelta or a number of seconds"),
        (Snooze, "Snooze(…): say when the job runs, with either delay or run_at"),
        (lambda: Snooze(5, NOON), "Snooze(…): say when the job runs, with either delay or run_at"),
        (lambda: Retry(5, NOON), "Retry(delay=…, run_at=…): both say when the job runs; give one of them"),
        (
            lambda: Retry(run_at="noon"),  # type: ignore[arg-type]
            "Retry(run_at='noon'): it must be a datetime, not str",
        ),
        (
            lambda: Retry(run_at=NOON.replace(tzinfo=None)),
            (
                "Retry(run_at=datetime.datetime(2026, 11, 29, 12, 0)): it has no time zone; say which is meant, "
                "for example with .replace(tzinfo=datetime.UTC)"
            ),
        ),
        (
            lambda: Fail(404),  # type: ignore[arg-type]
            "Fail(404): the reason must be text, not int",
        ),
    ],
)
def test_a_decision_that_cannot_be_is_refused_where_it_is_made(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(JobOptionError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "decision", [Retry(5, reason="busy"), Retry(run_at=NOON), Snooze(5), Cancel("gone"), Fail("x")]
)
def test_decisions_that_say_the_same_are_equal_and_can_be_copied(decision: Any) -> None:
    for same in (copy.copy(decision), pickle.loads(pickle.dumps(decision))):
        assert (same, hash(same), repr(same)) == (decision, hash(decision), repr(decision))
        assert same.outcome() == decision.outcome()
    assert decision not in (Retry(), Snooze(6), Cancel("x"), Fail("gone"))


def test_a_decision_shows_what_it_says() -> None:
    assert [str(each) for each in (Retry(), Retry(5, reason="busy"), Snooze(run_at=NOON), Fail("gone"))] == [
        "Retry()",
        "Retry(delay=5, reason='busy')",
        "Snooze(run_at=datetime.datetime(2026, 11, 29, 12, 0, tzinfo=datetime.timezone.utc))",
        "Fail(reason='gone')",
    ]


def test_a_reason_is_stored_as_postgresql_can_hold_it() -> None:
    assert Fail("\0\ud800é").outcome().error == "\\0\\ud800é"
