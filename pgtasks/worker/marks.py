"""How far claims have got, for when it takes long to look everywhere.

A claim looks for jobs from the head of the backlog. That is cheap, but for a few states of the table: a transaction
that stays open for long keeps the index entries of all jobs that are done meanwhile at the head; thousands of queues
wait behind a few that are busy. Then most claims look near the marks only, which are the last jobs that were claimed of
some priorities. New jobs come after them. What does not (a job of another priority, one that was given back, one that
a long transaction added) is found by a full look, and those are made so often that they take a tenth of the time, or
more if a look takes longer than half a second.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.queue.claim import Claimed, Mark

_CHEAP_SECONDS = 0.0003
_CHEAP_SECONDS_A_JOB = 0.00001
"""What a look may take to count as cheap."""
_PAUSE_FACTOR = 9
"""How many times longer the pause before the next full look is than what made the last one more than cheap."""
_LONGEST_PAUSE = 5.0
"""The longest such pause, in seconds. A look may also have waited for a lock on the table, which tells nothing."""
_MOST_MARKS = 20


class Marks:
    """The marks of one process, and when the next full look is due. Times are those of a monotonic clock."""

    def __init__(self) -> None:
        self._marks: dict[int, Mark] = {}
        self._full_at = -math.inf
        self._pause = 0.0

    def forget(self) -> None:
        """Look everywhere next, and go on from there: jobs before the marks may have become runnable."""
        self._marks.clear()

    @property
    def full_at(self) -> float:
        """When a full look is due."""
        return self._full_at

    def near(self, now: float) -> Sequence[Mark] | None:
        """Return where the next claim is to look, by priority, or None for a full look."""
        if now >= self._full_at or not self._marks:
            return None
        return sorted(self._marks.values())

    @property
    def pause(self) -> float:
        """How many seconds after the last full look the next one is due; 0 where looks are cheap."""
        return self._pause

    def looked(self, claimed: Claimed, ended: float, *, full: bool) -> None:
        """Learn from a claim that was answered at `ended`, and whether it was a full look.

        How long it took is by the database's clock: to this process it looks longer when its handlers compute.
        """
        for mark in claimed.marks:
            last = self._marks.pop(mark.priority, mark)
            self._marks[mark.priority] = max(last, mark)  # put last: it is the youngest now
        while len(self._marks) > _MOST_MARKS:
            del self._marks[next(iter(self._marks))]
        if full:
            excess = claimed.look_seconds - _CHEAP_SECONDS - _CHEAP_SECONDS_A_JOB * len(claimed.jobs)
            self._pause = min(_PAUSE_FACTOR * max(excess, 0.0), _LONGEST_PAUSE)
            self._full_at = ended + self._pause
