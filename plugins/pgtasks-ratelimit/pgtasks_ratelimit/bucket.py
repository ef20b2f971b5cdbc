"""What one process knows of a bucket: its lease, its places, whether there is a backlog, and when to ask again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from pgtasks_ratelimit.store import LIFETIME, Request

if TYPE_CHECKING:
    from pgtasks_ratelimit.rules import Limit
    from pgtasks_ratelimit.store import Grant

_ANY: Final = 1 << 30
LEAD: Final = 0.03
"""Jobs are claimed so many seconds before tokens that were taken ahead may be used, and start on time."""
SPACING: Final = 0.05
"""Seconds between two exchanges of a process, so that there are 20 a second at most."""
_USABLE: Final = 0.75 * LIFETIME
"""Seconds for which a lease may be used. It expires later, in case clocks do not run at the same speed."""
_AHEAD_SECONDS: Final = 1.0
"""How long before it comes in a token may be taken."""
_SLACK_SECONDS: Final = 0.1
_LONGEST_GRACE: Final = 0.05
_SHORTEST_GRACE: Final = 0.002
_CAP_PAUSE: Final = 0.25
"""Seconds after which to ask again for places that others occupy."""
_SHORTEST_DELAY: Final = 0.01
_LONGEST_FAILURE_PAUSE: Final = 2.0
_PACE_SECONDS: Final = 0.1
"""A lease is to last for so long where there is no backlog."""
SETTLING_SECONDS: Final = 0.25
"""So long after a claim its jobs have come."""
_SHORT_LEASES: Final = 2
"""After so many claims in a row that left tokens over there is no backlog any more."""


class Bucket:
    """A bucket as one process sees it.

    States: *open* (jobs are claimed as if there were no limit, and need a token to start) and *limited* (a start was
    refused: jobs are claimed only when tokens or places for them are there). Places of a cap that its own jobs leave
    stay with the process for the next ones as long as there are any.
    """

    def __init__(self, key: str, limit: Limit) -> None:
        self.key = key
        self.limit = limit
        self.limited = False
        self.lease = 0
        self.tokens = 0
        """Of the lease, not used yet."""
        self.used = 0
        """Of the lease; 0 as soon as an answer says that the database has it."""
        self.used_at = 0.0
        self.usable_from = 0.0
        self.usable_until = 0.0
        self.places = 0
        """How many the process holds."""
        self.running = 0
        """How many of them its jobs occupy."""
        self.due = 0.0
        """Before this it is of no use to ask for more."""
        self.touched = 0.0
        self.tasks: set[str] = set()
        """Tasks whose jobs have needed it."""
        self.together: set[str] = set()
        """Other flags with limits that such jobs had."""
        self._wanted = 1
        self._granted = 0
        self._taken = 0
        """Starts since the last exchange."""
        self._asked_at = 0.0
        self._pace = 0.0
        self._claims = 0
        """Claims for it since the last exchange."""
        self.seen = 0
        """How many jobs have come."""
        self._offered = 0
        """How many are to have come when the last claim for it has brought all that it may."""
        self._offered_at = 0.0
        self._failures = 0
        self._vain = 0
        """Exchanges in a row that have brought nothing."""
        self._short = 0
        self._token_at = 0.0
        """When the next token comes in that nobody has."""
        self._tail = 0.0
        """When the next token comes in that is for none of the jobs that were put off."""

    def free(self, now: float) -> int:
        """Return how many jobs can start now."""
        free = _ANY
        if self.limit.tokens is not None:
            free = self.tokens if self.usable_from <= now < self.usable_until else 0
        if self.limit.max_running is not None:
            free = min(free, max(0, self.places - self.running))
        return free

    def has_room(self, now: float) -> bool:
        """Whether a job can start now."""
        return self.free(now) > 0

    def take(self, now: float) -> None:
        """Start a job."""
        if self.limit.tokens is not None:
            self.tokens -= 1
            self.used += 1
            # A moment later than now: the job has to be handed to a thread first.
            self.used_at = now + self.grace
            if self.tokens == 0 and self._comes_singly:
                self.due = now  # to have the next one before it comes in
        if self.limit.max_running is not None:
            self.running += 1
        self._taken += 1

    def leave(self, now: float) -> None:
        """Note that a job has ended."""
        self.running = max(0, self.running - 1)
        self.touched = now

    @property
    def grace(self) -> float:
        """How much later than it is admitted a job is said to start, where that costs no tokens."""
        slack = ((self.limit.burst or 1) - 1) * self.limit.seconds_per_token - _SLACK_SECONDS
        return min(max(slack, _SHORTEST_GRACE), _LONGEST_GRACE)

    # Exchanges

    @property
    def _comes_singly(self) -> bool:
        """Whether tokens come in so slowly that each is worth an exchange, ahead of its time so that none is lost."""
        return self.limit.seconds_per_token >= 2 * SPACING

    def request(self, wanted: int, *, ahead: bool = False) -> Request:
        """Return what to send; until the answer is there nothing can start."""
        self.tokens = 0
        self.places = min(self.places, self.running)
        self._wanted = wanted
        seconds = _AHEAD_SECONDS if ahead and self._comes_singly else 0.0
        return Request(self.key, self.limit, self.lease, self.used, self.used_at, self.running, wanted, seconds)

    def granted(self, grant: Grant, request: Request, lease: int, sent: float, now: float) -> None:
        """Take in an answer."""
        self.limit = grant.limit
        self.lease, self.used = lease, 0
        self._failures = 0
        self.tokens = grant.granted if grant.limit.tokens is not None else 0
        self.places = request.busy + grant.granted if grant.limit.max_running is not None else 0
        self.usable_from = now + grant.starts_in if grant.starts_in else 0.0
        self.usable_until = sent + grant.starts_in + _USABLE
        elapsed = now - self._asked_at
        if self._asked_at and elapsed > 0:
            self._pace = max(self._taken / elapsed, self._pace * 0.7)
        self._asked_at, self._taken = now, 0
        self._granted = grant.granted
        if grant.granted:
            self._vain = 0
        self.touched = now
        self._token_at = now + grant.wait
        self.due = now + self._pause(grant, request.wanted)

    def failed(self, now: float) -> None:
        """Note that there was no answer; what was reported is reported again."""
        self._failures += 1
        self.due = now + min(SPACING * 2**self._failures, _LONGEST_FAILURE_PAUSE)

    def _pause(self, grant: Grant, wanted: int) -> float:
        if grant.starts_in:
            return grant.starts_in + _CAP_PAUSE
        if grant.granted >= wanted:
            return 0.0
        each = self.limit.seconds_per_token
        if grant.granted == 0:
            self._vain += 1
        if self._comes_singly and grant.wait > _AHEAD_SECONDS:
            # Whoever of all processes comes first has it.
            return grant.wait - _AHEAD_SECONDS * random.uniform(0.2, 0.9)  # noqa: S311 - jitter
        spacing = min(max((self.limit.burst or 1) * each / 4, SPACING), 0.25)
        pause = max(grant.wait, spacing)
        if self.limit.max_running is not None and grant.wait <= spacing:
            pause = max(pause, _CAP_PAUSE)
        if grant.granted == 0:
            # Somebody else was first: let him be so again, rather than that all meet at the next token.
            pause += random.uniform(0, min(each * self._vain / 2, 0.5)) + 0.005  # noqa: S311 - jitter
        return pause

    # With a backlog: tokens first, then a claim

    def wants(self, room: int) -> int:
        """Return how many tokens to ask for before the next claims, which could start `room` jobs."""
        burst = self.limit.burst if self.limit.tokens is not None else None
        most = min(one for one in (burst, self.limit.max_running, _ANY) if one is not None)
        eager = 2 * self._granted if self._taken and self._taken >= self._granted else int(self._taken * 1.25)
        return max(1, min(max(room, eager), most))

    def is_settled(self, now: float) -> bool:
        """Whether the jobs that the last claim was to bring have come, or will not."""
        return self.seen >= self._offered or now - self._offered_at > SETTLING_SECONDS

    def ready_at(self) -> float | None:
        """Return when to claim for tokens that were taken ahead; None if there are none."""
        return self.usable_from - LEAD if self.tokens and self.usable_from else None

    def opens_in(self, now: float) -> float | None:
        """Return in how many seconds tokens may be used that a claim did not wait for; None if there are none."""
        return self.usable_from - now if self.tokens and now < self.usable_from <= now + 2 * LEAD else None

    def claimable(self, now: float) -> int:
        """Return how many jobs a claim may bring."""
        return self.free(max(now, min(self.usable_from, now + LEAD)))

    def is_ready(self, now: float) -> bool:
        """Whether a claim may bring jobs for it."""
        return self.is_settled(now) and self.claimable(now) > 0

    def offer(self, count: int, now: float) -> None:
        """Note that a claim may bring so many jobs."""
        self._offered = self.seen + count
        self._offered_at = now
        self._claims += 1

    def saw(self, task: str) -> None:
        """Note that a job has come."""
        self.tasks.add(task)
        self.seen += 1

    def learn(self, *, short: bool) -> None:
        """Note whether a claim has brought less than it might have."""
        self._short = self._short + 1 if short else 0

    def judge(self) -> bool:
        """Before an exchange: return whether there is no backlog any more, since claims have brought too little."""
        if self._claims:
            self.learn(short=self.seen < self._offered)
            self._claims = 0
        if self._short >= _SHORT_LEASES:
            self._short = 0
            return True
        return False

    # Without one

    def stock(self) -> int:
        """Return how many tokens more than are needed to ask for, so that not every job costs a statement."""
        most = self.limit.burst if self.limit.tokens is not None else self.limit.max_running
        return min(int(self._pace * _PACE_SECONDS), (most or 0) // 4)

    @property
    def is_to_be_reported(self) -> bool:
        """Whether the database holds something for this process that it does not need."""
        return self.used > 0 or self.tokens > 0 or self.places > self.running

    def is_ready_soon(self, now: float) -> bool:
        """Whether an exchange is going to be made anyway, or tokens that were taken ahead are to be used yet."""
        return self.limited and (self.due < now + 2 * SPACING or (self.tokens > 0 and now < self.usable_from + SPACING))

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not (self.limited or self.is_to_be_reported or self.running)

    # By payload: jobs that are refused are put off, each to the time of a token of its own

    def put_off(self, now: float) -> float:
        """Return for how many seconds to put off a job that was refused."""
        if self.limit.tokens is None:
            return random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        each = self.limit.seconds_per_token
        next_free = max(self._tail, self._token_at, self.due if self._failures else 0.0, now + _SHORTEST_DELAY)
        self._tail = next_free + each
        return next_free - now
