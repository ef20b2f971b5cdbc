"""Telling plugins how jobs have ended, once the database has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgtasks.hookdata import JobEnd
from pgtasks.job import OutcomeKind

if TYPE_CHECKING:
    from pgtasks.job import Completion
    from pgtasks.plugins import LoopDispatch

_HOOKS: Final = ("job_succeeded", "job_retrying", "job_failed", "job_aborted")
_FAILED_STATES: Final = frozenset({"failed", "superseded"})


class Ends:
    """Tells of ends: one hook for what has happened, then `job_finished`.

    Args:
        hooks: who tells plugins.
    """

    def __init__(self, hooks: LoopDispatch) -> None:
        self._hooks = hooks
        self._finished = hooks.observer("job_finished")
        self.active = self._finished is not None or any(map(hooks.has, _HOOKS))
        """Whether any plugin wants to be told."""

    def tell(self, completion: Completion, state: str | None) -> None:
        """Tell of a job that has run, and what the database made of its end; None: somebody else holds it."""
        if not completion.ran:
            return
        outcome = completion.outcome
        end = JobEnd(
            completion.job,
            outcome.kind.value,
            state or "lost",  # type: ignore[arg-type]  # one of those that the field says
            completion.seconds,
            outcome.error,
            completion.exception,
            completion.timed_out,
            completion.began,
        )
        if state is not None and (hook := _hook_of(outcome.kind, state)) is not None:
            self._hooks.tell(hook, end=end)
        if self._finished is not None:
            self._finished(end=end)


def _hook_of(kind: OutcomeKind, state: str) -> str | None:
    if kind is OutcomeKind.SUCCESS:
        return "job_succeeded"
    if kind is OutcomeKind.RETURN:
        return "job_aborted"
    if kind in (OutcomeKind.RETRY, OutcomeKind.FAIL):
        return "job_retrying" if state == "retrying" else "job_failed" if state in _FAILED_STATES else None
    return None
