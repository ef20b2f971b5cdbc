"""When a claim looks everywhere, and when only near the marks. The clock is passed in."""

from __future__ import annotations

import pytest

from pgtasks.queue.claim import Claimed, Mark
from pgtasks.worker.marks import Marks

DEAR = 1.0
"""Seconds of a look that costs far more than a cheap one."""


def claimed(*marks: Mark, seconds: float = DEAR) -> Claimed:
    return Claimed([], list(marks), seconds)


def test_the_first_look_is_a_full_one() -> None:
    assert Marks().near(0.0) is None


def test_where_looks_are_cheap_all_are_full() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(0, 5, 1), seconds=0.0001), 10.001, full=True)
    assert marks.near(10.001) is None


def test_a_dear_look_is_followed_by_near_ones_for_nine_times_as_long() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(0, 5, 1), seconds=0.1), 11.0, full=True)
    assert marks.near(11.0) == [Mark(0, 5, 1)]
    marks.looked(claimed(Mark(0, 6, 2)), 11.5, full=False)
    assert marks.near(11.89) == [Mark(0, 6, 2)]
    assert marks.full_at == pytest.approx(11.9, abs=0.01)
    assert marks.near(11.9) is None


def test_a_look_that_took_very_long_is_followed_by_near_ones_for_five_seconds() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(0, 5, 1), seconds=20.0), 30.0, full=True)
    assert marks.full_at == 35.0


def test_marks_are_kept_by_priority_and_never_go_back() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(3, 50, 7), Mark(-1, 40, 9)), 1.0, full=True)
    marks.looked(claimed(Mark(3, 49, 8), Mark(0, 1, 1)), 1.1, full=False)
    assert marks.near(2.0) == [Mark(-1, 40, 9), Mark(0, 1, 1), Mark(3, 50, 7)]


def test_of_many_priorities_those_claimed_last_are_kept() -> None:
    marks = Marks()
    for priority in range(30):
        marks.looked(claimed(Mark(priority, 1, 1)), 1.0, full=True)
    marks.looked(claimed(Mark(10, 1, 2)), 1.1, full=False)
    marks.looked(claimed(Mark(100, 1, 1)), 1.2, full=False)
    near = marks.near(2.0)
    assert near is not None
    assert [mark.priority for mark in near] == [10, *range(12, 30), 100]


def test_a_full_look_that_found_nothing_counts_like_others() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(0, 5, 1)), 1.0, full=True)
    marks.looked(claimed(seconds=0.0002), 20.0, full=True)
    assert (marks.near(20.0), marks.pause) == (None, 0.0)
    marks.looked(claimed(seconds=0.1), 22.0, full=True)
    assert marks.near(22.0) is not None
    assert marks.full_at == 22.0 + marks.pause == pytest.approx(22.9, abs=0.01)


def test_without_a_mark_there_is_nothing_to_be_near_to() -> None:
    marks = Marks()
    marks.looked(claimed(), 1.0, full=True)
    assert marks.near(1.0) is None


def test_after_marks_were_forgotten_a_full_look_makes_new_ones() -> None:
    marks = Marks()
    marks.looked(claimed(Mark(0, 5, 1)), 10.0, full=True)
    marks.forget()
    assert marks.near(10.0) is None
    marks.looked(claimed(Mark(0, 2, 9)), 10.0, full=True)
    assert marks.near(10.0) == [Mark(0, 2, 9)]
