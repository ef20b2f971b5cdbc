"""Telling plugins how jobs have ended, once the database has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgtasks.hookdata import JobEnd
from pgtasks.job import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        self._wanted = {hook for hook in (*_HOOKS, "job_finished") if hooks.has(hook)}
        self.active = bool(self._wanted)
        """Whether any plugin wants to be told."""

    def tell(self, ends: Iterable[tuple[Completion, str | None]]) -> None:
        """Tell of jobs that have run, and what the database made of their ends; None: somebody else holds it."""
        calls: list[tuple[str, dict[str, JobEnd]]] = []
        for completion, state in ends:
            if completion.ran:
                hook = None if state is None else _hook_of(completion.outcome.kind, state)
                if wanted := [name for name in (hook or "", "job_finished") if name in self._wanted]:
                    given = {"end": _end_of(completion, state)}
                    calls += [(name, given) for name in wanted]
        self._hooks.tell_all(calls)


def _end_of(completion: Completion, state: str | None) -> JobEnd:
    outcome = completion.outcome
    return JobEnd(
        completion.job,
        outcome.kind.value,
        state or "lost",  # type: ignore[arg-type]  # one of those that the field says
        completion.seconds,
        outcome.error,
        completion.exception,
        completion.timed_out,
        completion.began,
    )


def _hook_of(kind: OutcomeKind, state: str) -> str | None:
    if kind is OutcomeKind.SUCCESS:
        return "job_succeeded"
    if kind is OutcomeKind.RETURN:
        return "job_aborted"
    if kind in (OutcomeKind.RETRY, OutcomeKind.FAIL):
        return "job_retrying" if state == "retrying" else "job_failed" if state in _FAILED_STATES else None
    return None
