"""What blocking code can do, asyncio code can, and the other way round."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pgtasks import App, AsyncJobs, AsyncTimetables, Job, JobContext, Jobs, Task, Timetables

# What has no counterpart since it does the same in both, or is only for one: lending connections of its own kind.
SHARED = {
    App: {
        "connection",
        "cron",
        "task",
        "plugin_settings",
        "configure",
        "override",
        "look_for_jobs",
        "use_loop",
        "assume",
        "session_statements",
        "result_of",
    },
    Task: {"args", "spec", "run", "rename", "check", "cron", "declare"},
    JobContext: {"connection", "progress"},
    Job: set(),
}
OTHER_NAMES = {"aclose": "close", "async_connection": "connection"}


def public_methods(kind: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and value.__module__.startswith("pgtasks")
    }


@pytest.mark.parametrize("kind", SHARED, ids=lambda kind: kind.__name__)
def test_each_method_that_reaches_the_database_has_both_faces(kind: type) -> None:
    methods = public_methods(kind)
    faces = {name for name, method in methods.items() if inspect.iscoroutinefunction(method)}
    faces |= OTHER_NAMES.keys() & methods.keys()
    blocking = {OTHER_NAMES.get(name, name.removesuffix("_async")) for name in faces}
    assert blocking <= methods.keys()
    assert methods.keys() - faces - blocking - SHARED[kind] == set()
    for name in faces - OTHER_NAMES.keys():
        twin = inspect.signature(methods[name.removesuffix("_async")]).parameters
        assert list(inspect.signature(methods[name]).parameters) == list(twin), name


@pytest.mark.parametrize(("blocking", "asynchronous"), [(Jobs, AsyncJobs), (Timetables, AsyncTimetables)])
def test_what_is_looked_at_and_changed_is_so_by_the_same_methods_in_both_ways(
    blocking: type, asynchronous: type
) -> None:
    for name, method in public_methods(blocking).items():
        twin = getattr(asynchronous, name)
        assert inspect.iscoroutinefunction(twin)
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(method).parameters)
    assert public_methods(blocking).keys() == public_methods(asynchronous).keys()
