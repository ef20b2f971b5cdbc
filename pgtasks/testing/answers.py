"""What pgtasks makes of the answers of each hook: the same functions that it calls itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgtasks.plugins.producing import read_specs
from pgtasks.worker.admission import read_refusals, read_task
from pgtasks.worker.decisions import read_decision
from pgtasks.worker.host_hooks import read_problems
from pgtasks.worker.planning import read_flags, read_plan

if TYPE_CHECKING:
    from collections.abc import Callable

_READERS: Final[dict[str, Callable[..., Any]]] = {
    "prepare_connection": list,
    "register_commands": list,
    "register_migrations": tuple,
    "register_checks": tuple,
    "before_defer": read_specs,
    "recover_job": read_decision,
    "forbidden_flags": read_flags,
    "before_claim": read_plan,
    "admit_jobs": read_refusals,
    "resolve_task": read_task,
    "retry_decision": read_decision,
    "collect_metrics": list,
    "health_check": read_problems,
}


def reader_of(hook: str) -> Callable[..., Any]:
    """Return what checks an answer of a hook."""
    return _READERS.get(hook, _as_it_is)


def _as_it_is(answer: Any, _before: Any = None) -> Any:
    return answer
