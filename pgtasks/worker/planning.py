"""What the next claim asks for, as plugins have it: flags, tasks and queues to leave alone, and how many jobs.

The answers of `forbidden_flags` are kept for as long as they hold; where a plugin fails to answer, its last answer
stays. `before_claim` is asked before each claim.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pgtasks.hookdata import ClaimPlan, ForbiddenFlags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.hookdata import Application
    from pgtasks.plugins import LoopDispatch

_LONGEST_PAUSE: Final = 1.0
"""After so many seconds `before_claim` is asked again whether it still wants what it has narrowed."""
_DEFAULT_SECONDS: Final = 1.0
"""How long an answer holds that does not say so itself."""


class ForbiddenFlagsCache:
    """The flags that settings and plugins forbid.

    Args:
        hooks: who asks plugins; None: there are none that say anything.
        app: what they are given.
        always: the flags that settings forbid.
    """

    def __init__(self, hooks: LoopDispatch | None, app: Application, always: Iterable[str]) -> None:
        self._hooks = hooks if hooks is not None and hooks.has("forbidden_flags") else None
        self._app = app
        self.always = frozenset(always)
        """The flags that settings forbid."""
        self._answers: dict[str, ForbiddenFlags] = {}
        self._flags = self.always
        self.until = float("inf") if self._hooks is None else 0.0
        """Until when the flags hold, by the monotonic clock."""

    async def flags(self) -> frozenset[str]:
        """Return the flags that are forbidden now."""
        if self._hooks is None or time.monotonic() < self.until:
            return self._flags
        answers = await self._hooks.collect_async("forbidden_flags", read_flags, app=self._app)
        self._answers.update({plugin: answer or _NONE for plugin, answer in answers})
        held = [answer.seconds for answer in self._answers.values()]
        self.until = time.monotonic() + min(held, default=_DEFAULT_SECONDS)
        self._flags = self.always.union(*(answer.flags for answer in self._answers.values()))
        return self._flags


class Planner:
    """Makes the plans of one process's claims.

    Args:
        hooks: who asks plugins.
        forbidden: the flags that are forbidden.
        tasks: names of the tasks that this worker runs.
    """

    def __init__(self, hooks: LoopDispatch | None, forbidden: ForbiddenFlagsCache, tasks: Sequence[str]) -> None:
        self._hooks = hooks if hooks is not None and hooks.has("before_claim") else None
        self._forbidden = forbidden
        self._tasks = tuple(tasks)
        self._restricted: tuple[object, ...] = ()
        self.current = ClaimPlan(0, 0, self._tasks, forbidden.always)
        """The last plan."""
        self.pause: float | None = None
        """After how many seconds another plan may find what this one leaves out; None: it leaves out nothing."""
        self.closed = False
        """Whether the last plan asks for nothing at all."""
        self.changed = False
        """Whether the last plan leaves out something else than the one before, so that marks tell nothing."""

    async def plan(self, limit: int, free_slots: int) -> ClaimPlan:
        """Return what to ask for, where there is room for `limit` jobs."""
        wanted = ClaimPlan(limit, free_slots, self._tasks, await self._forbidden.flags())
        plan = wanted
        if self._hooks is not None:
            plan = await self._hooks.change_async("before_claim", wanted, read_plan, argument="plan")
        narrowed = plan != wanted or wanted.forbidden_flags != self._forbidden.always
        self.pause = self._next_pause() if narrowed else None
        self.closed = limit > 0 and (plan.limit == 0 or not plan.tasks)
        restricted = (plan.tasks, plan.forbidden_flags, plan.forbidden_queues)
        self.changed = restricted != self._restricted
        self._restricted = restricted
        self.current = plan
        return plan

    async def may_let_more_in(self) -> bool:
        """Whether another plan may find what the last one leaves out, after `pause`.

        Where only flags are forbidden that is known without a claim, so that an idle process asks the database nothing
        for as long as they stay so.
        """
        if self._hooks is not None:
            return True
        if await self._forbidden.flags() != self.current.forbidden_flags:
            return True
        self.pause = self._next_pause()
        return False

    def _next_pause(self) -> float:
        pause = max(0.005, self._forbidden.until - time.monotonic())
        return pause if self._hooks is None else min(_LONGEST_PAUSE, pause)


_NONE: Final = ForbiddenFlags(())


def read_flags(answer: Any) -> ForbiddenFlags:
    """Return a plugin's answer to `forbidden_flags`, or raise."""
    flags, seconds = (
        (answer.flags, answer.seconds) if isinstance(answer, ForbiddenFlags) else (answer, _DEFAULT_SECONDS)
    )
    if isinstance(flags, str) or not isinstance(flags, Iterable):
        raise TypeError("it must be a list of flags")
    names = frozenset(flags)
    _check_names("flags", names)
    return ForbiddenFlags(names, seconds)


def read_plan(answer: Any, before: ClaimPlan) -> ClaimPlan:
    """Return a plugin's answer to `before_claim`, or raise."""
    if not isinstance(answer, ClaimPlan):
        raise TypeError("it must be a ClaimPlan: use dataclasses.replace(plan, …)")
    if type(answer.limit) is not int or not 0 <= answer.limit <= before.limit:
        raise ValueError(f"limit must be a whole number from 0 to {before.limit}, not {answer.limit!r}")
    if not set(answer.tasks) <= set(before.tasks):
        raise ValueError("tasks may only be left out, not added")
    for name in ("forbidden_flags", "forbidden_queues"):
        names = frozenset(getattr(answer, name))
        if not names >= getattr(before, name):
            raise ValueError(f"{name} may only be added to")
        _check_names(name, names)
    return ClaimPlan(
        answer.limit,
        before.free_slots,
        tuple(answer.tasks),
        frozenset(answer.forbidden_flags),
        frozenset(answer.forbidden_queues),
    )


def _check_names(what: str, names: frozenset[Any]) -> None:
    """Raise if the database could not be asked about names: it would refuse every claim for them."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what} are text, not {type(name).__name__}")
        if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"{what} cannot hold {name!r}, which PostgreSQL cannot store")
