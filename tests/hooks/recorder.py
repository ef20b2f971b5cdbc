"""A plugin that implements every hook, and writes each call as a line of JSON to the file `HOOK_CALLS`.

Its answers change nothing, but that jobs of the task `cancelled` are.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pgtasks import Cancel, Job, hookimpl, hookspecs
from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Kind, Metric, Role
from pgtasks.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

name = "recorder"
FILE = os.environ.get("HOOK_CALLS", "")
role = Role.PRODUCER


def note(hook: str, given: dict[str, Any]) -> None:
    global role
    if hook == "configure":
        role = given["app"].role
    line = json.dumps({"hook": hook, "role": role, "pid": os.getpid(), "given": as_json(given)}) + "\n"
    descriptor = os.open(FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def as_json(value: Any) -> Any:
    if isinstance(value, Job):
        return {"id": value.id, "task": value.task, "attempt": value.attempts, "queue": value.queue}
    if isinstance(value, Task):
        return f"task {value.name}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, (list, tuple, frozenset)):
        return [as_json(inner) for inner in value]
    return f"{type(value).__name__}: {value}"


def answer(hook: str, given: dict[str, Any]) -> Any:
    if hook == "admit_jobs":
        return {job.id: Cancel("not wanted") for job in given["jobs"] if job.task == "cancelled"}
    if HOOKS[hook].kind is Kind.COLLECT and hook != "configure":
        return [Metric("tests", 1)] if hook == "collect_metrics" else []
    return None


@contextmanager
def around() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        note("job_context exit", {"error": error})
        raise
    note("job_context exit", {"error": None})


def implementation(hook: str) -> Callable[..., Any]:
    parameters = list(inspect.signature(getattr(hookspecs, hook)).parameters)

    def implement(given: dict[str, Any]) -> Any:
        note(hook, given)
        return around() if hook == "job_context" else answer(hook, given)

    scope: dict[str, Any] = {"implement": implement}
    pairs = ", ".join(f"{parameter!r}: {parameter}" for parameter in parameters)
    exec(f"def {hook}({', '.join(parameters)}): return implement({{{pairs}}})", scope)
    function: Callable[..., Any] = hookimpl(scope[hook])
    return function


globals().update({hook: implementation(hook) for hook in HOOKS})
