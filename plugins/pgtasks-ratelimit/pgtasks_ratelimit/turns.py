"""Whose turn it is: which limited flags the next claim lets through, and for how many jobs.

A claim for one flag brings no more jobs than there are tokens, and so none in vain. Where many flags have a token or
two each, as with one for each tenant, a claim for each would cost more than the jobs. Then one goes for all flags with
tokens at once. It may bring several jobs of one flag and none of another; what is over goes back. So the number of jobs
that such a claim asks for is doubled as long as none goes back, and halved when too many do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pgtasks_ratelimit.bucket import SETTLING_SECONDS

if TYPE_CHECKING:
    from pgtasks.plugins import ClaimPlan
    from pgtasks_ratelimit.bucket import Bucket
    from pgtasks_ratelimit.ledger import Ledger

_OPEN_SECONDS: Final = 1.0
"""How often a claim goes through all flags and tasks: it finds jobs with flags that were not seen together before."""
_WIDEST: Final = 64.0
_NARROWEST: Final = 2.0


@dataclass(slots=True)
class _Round:
    """A claim for several flags."""

    buckets: list[tuple[Bucket, int]]
    """And how many jobs of each had come before."""
    limit: int
    began: float
    refused: int
    """How many jobs had been refused before."""


class Turns:
    """Makes the plans of claims for limited flags."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open_at = 0.0
        self._width = _NARROWEST
        self._round: _Round | None = None

    def ready(self, now: float) -> list[Bucket]:
        """Return the buckets for which a claim can be made now, those first whose turn it is."""
        if self._round is not None and not self._settle(self._round, now):
            return []
        return [bucket for bucket in self._ledger.limited.values() if bucket.is_ready(now)]

    def next_claim(self, ready: list[Bucket], plan: ClaimPlan, now: float) -> ClaimPlan:
        """Return the plan of a claim for some of the ready buckets."""
        first = ready[0]
        if now - self._open_at >= _OPEN_SECONDS:
            self._open_at = now
            return self._let_through(ready, plan, plan.tasks, min(bucket.claimable(now) for bucket in ready))
        self._ledger.put_last(first)
        if len(ready) > 1 and self._width > first.claimable(now):
            limit = min(int(self._width), sum(bucket.claimable(now) for bucket in ready))
            claim = self._let_through(ready, plan, _tasks(ready, plan), limit)
            self._round = _Round([(one, one.seen) for one in ready], claim.limit, now, self._ledger.refused)
            return claim
        allowed = [bucket for bucket in ready if bucket is first or bucket.key in first.together]
        limit = min(bucket.claimable(now) for bucket in allowed)
        claim = self._let_through(allowed, plan, _tasks([first], plan), limit)
        first.offer(claim.limit, now)
        return claim

    def _let_through(self, buckets: list[Bucket], plan: ClaimPlan, tasks: tuple[str, ...], limit: int) -> ClaimPlan:
        forbidden = plan.forbidden_flags | (self._ledger.limited.keys() - {bucket.key for bucket in buckets})
        return replace(plan, limit=min(plan.limit, limit), tasks=tasks, forbidden_flags=forbidden)

    def _settle(self, last: _Round, now: float) -> bool:
        """Learn from a claim for several flags; returns False if its jobs may be still to come."""
        came = sum(bucket.seen - before for bucket, before in last.buckets)
        if came < last.limit and now - last.began <= SETTLING_SECONDS:
            return False
        self._round = None
        for bucket, before in last.buckets:
            if came < last.limit or bucket.seen > before:
                bucket.learn(short=bucket.seen == before)
        refused = self._ledger.refused - last.refused
        if refused * 4 > last.limit:
            self._width = max(self._width / 2, _NARROWEST)
        elif not refused and came >= last.limit:
            self._width = min(self._width * 2, _WIDEST)
        return True


def _tasks(buckets: list[Bucket], plan: ClaimPlan) -> tuple[str, ...]:
    wanted = set().union(*(bucket.tasks for bucket in buckets))
    return tuple(task for task in plan.tasks if task in wanted)
