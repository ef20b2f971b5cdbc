"""Asking plugins what becomes of jobs whose attempts have failed, before the database is told: `retry_decision`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pgtasks.flow import Decision
from pgtasks.job import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks.job import Completion
    from pgtasks.plugins import LoopDispatch

_FULL = 1000
"""Jobs about which plugins may be asked before no further job is started."""
_FAILURES = (OutcomeKind.RETRY, OutcomeKind.FAIL)


class Decisions:
    """Lets completions pass on, those of failures when plugins have been asked about them.

    Args:
        hooks: who asks plugins.
        loop: where.
        pass_on: takes completions that are to be written.
    """

    def __init__(
        self,
        hooks: LoopDispatch,
        loop: asyncio.AbstractEventLoop,
        pass_on: Callable[[list[Completion]], None],
    ) -> None:
        self.active = hooks.has("retry_decision")
        """Whether any plugin wants to be asked."""
        self._hooks = hooks
        self._loop = loop
        self._pass_on = pass_on
        self._asked: dict[int, Completion] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """About how many jobs plugins are being asked."""
        return len(self._asked)

    @property
    def ids(self) -> list[int]:
        """The ids of these jobs."""
        return list(self._asked)

    @property
    def full(self) -> bool:
        """Whether plugins are being asked about so many that no further job should be started."""
        return len(self._asked) >= _FULL

    def take(self, completions: list[Completion]) -> None:
        """Take jobs that have ended."""
        at_once = []
        for completion in completions:
            if _is_asked_about(completion):
                self._asked[completion.job.id] = completion
                task = self._loop.create_task(self._decide(completion), name="retry decision")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                at_once.append(completion)
        if at_once:
            self._pass_on(at_once)

    async def settled(self) -> None:
        """Wait until plugins have been asked about all jobs."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _decide(self, completion: Completion) -> None:
        error = completion.outcome.error or ""
        try:
            decision = await self._hooks.decide_async(
                "retry_decision", read_decision, job=completion.job, exception=completion.exception, error=error
            )
            if decision is not None:
                completion = completion._replace(outcome=decision.outcome(error))
        finally:
            self._asked.pop(completion.job.id, None)
            self._pass_on([completion])


def _is_asked_about(completion: Completion) -> bool:
    if completion.exception is None or completion.outcome.kind not in _FAILURES or completion.written:
        return False
    # What the handler itself has decided stands; but out of time, it had nothing to decide any more.
    return completion.timed_out or not isinstance(completion.exception, Decision)


def read_decision(answer: Any) -> Decision:
    """Return a plugin's decision about a job, or raise."""
    if not isinstance(answer, Decision):
        raise TypeError("it must be Retry, Snooze, Cancel or Fail")
    return answer
