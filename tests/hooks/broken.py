"""A plugin that fails in every isolated hook, in the way that `BROKEN` says: `raise`, `nonsense` or `hang`.

Or `hang a while`: until the worker stops, which is then not held up for as long as it waits for plugins.
"""

from __future__ import annotations

import inspect
import os
import time
from typing import TYPE_CHECKING, Any

from pgtasks import hookimpl, hookspecs
from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Kind
from tests.hooks.jobs import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable

name = "broken"
WAY = os.environ.get("BROKEN", "raise")


def fail() -> Any:
    if WAY == "raise":
        raise ValueError("broken")
    if WAY == "hang":
        time.sleep(600)
    while WAY == "hang a while" and '"hook": "shutdown_requested"' not in CALLS.read_text():
        time.sleep(0.02)
    return object()


def implementation(hook: str) -> Callable[..., Any]:
    parameters = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    scope: dict[str, Any] = {"fail": fail}
    exec(f"def {hook}({parameters}): return fail()", scope)
    function: Callable[..., Any] = hookimpl(scope[hook])
    return function


def _is_to_fail(hook: str) -> bool:
    # What hangs round a job in its own thread is the job's time, and its time limit's to end.
    return HOOKS[hook].isolated and not (WAY.startswith("hang") and HOOKS[hook].kind is Kind.WRAP)


globals().update({hook: implementation(hook) for hook in HOOKS if _is_to_fail(hook)})
