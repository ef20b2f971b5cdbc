"""What handlers may say of how far their jobs have come."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pgtasks import JobOptionError, JobProgress
from pgtasks.progress import LONGEST_NOTE, Report, check_report


def progress(done: float, total: float | None) -> JobProgress:
    return JobProgress(1, "w", 1, done, total, None, dt.datetime.now(dt.UTC), 0.0)


def test_whole_numbers_and_others_are_taken_and_more_than_all_may_be_done() -> None:
    assert check_report(3) == Report(3.0, None, None)
    assert check_report(0.5, Fraction(3, 2), "reading") == Report(0.5, 1.5, "reading")
    assert check_report(11, 10, "") == Report(11.0, 10.0, "")
    assert len(check_report(1, note="x" * 1000).note or "") == LONGEST_NOTE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("3",), "done='3' must be a number, not str"),
        ((None,), "done=None must be a number, not NoneType"),
        ((True,), "done=True must be a number, not bool"),
        ((Decimal(1),), "done=Decimal('1') must be a number, not Decimal"),
        ((-1,), "done=-1 must not be negative or infinite"),
        ((10**400,), "must not be negative or infinite"),
        ((1, float("nan")), "total=nan must not be negative or infinite"),
        ((1, 2, 3), "note=3 must be a string, not int"),
        ((1, 2, "a\0"), "note='a\\x00' holds a character that PostgreSQL cannot store"),
        ((1, 2, "\ud800"), "note='\\ud800' holds a character that PostgreSQL cannot store"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(JobOptionError) as error:
        check_report(*arguments)
    assert message in str(error.value)


def test_the_fraction_is_never_more_than_all() -> None:
    assert [progress(*each).fraction for each in [(1, 4), (5, 4), (0, 0), (3, None)]] == [0.25, 1.0, 1.0, None]
