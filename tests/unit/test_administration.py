"""`Jobs` and `AsyncJobs` are made from one definition, and look as if each had been written by hand."""

from __future__ import annotations

import datetime as dt
import inspect
import pydoc
from collections.abc import Coroutine
from typing import Any, assert_type

import pytest

from pgtasks import (
    App,
    AsyncJobs,
    CleanupResult,
    Job,
    JobCancellation,
    JobChange,
    JobPage,
    Jobs,
    QueueInfo,
    Registry,
    TaskInfo,
    WorkerInfo,
)

METHODS = [
    "get",
    "list",
    "complete",
    "fail",
    "reschedule",
    "retry",
    "remove",
    "cancel",
    "force_unlock",
    "queues",
    "tasks",
    "workers",
    "progress",
    "cleanup",
    "wait",
]


def types_that_mypy_sees(app: App) -> None:
    """Not run: mypy checks it."""
    jobs = app.jobs
    assert_type(jobs.get(1), Job | None)
    assert_type(jobs.list(state="failed", limit=10), JobPage)
    assert_type(jobs.complete([1]), list[JobChange])
    assert_type(jobs.fail(iter([1]), "no"), list[JobChange])
    assert_type(jobs.reschedule({1}, delay=dt.timedelta(hours=1)), list[JobChange])
    assert_type(jobs.retry(range(3)), list[JobChange])
    assert_type(jobs.remove("k"), Job | None)
    assert_type(jobs.cancel([1], "no"), list[JobCancellation])
    assert_type(jobs.force_unlock(["w"]), list[WorkerInfo])
    assert_type(jobs.queues(5, after="a"), list[QueueInfo])
    assert_type(jobs.tasks(), list[TaskInfo])
    assert_type(jobs.workers(limit=3), list[WorkerInfo])
    assert_type(jobs.cleanup("GC_JOB_QUEUES", "GC_TASK_IDENTIFIERS"), CleanupResult)
    jobs.get("1")  # type: ignore[arg-type]
    jobs.list(state="faild")  # type: ignore[arg-type]
    jobs.lists()  # type: ignore[attr-defined]
    jobs.list("send")  # type: ignore[call-arg]
    jobs.cleanup("GC")  # type: ignore[arg-type]


async def types_that_mypy_sees_from_asyncio(app: App) -> None:
    """Not run: mypy checks it."""
    jobs = app.jobs_async
    await assert_type(jobs.get(1), Coroutine[Any, Any, Job | None])
    assert_type(await jobs.get(1), Job | None)
    assert_type(await jobs.list(key="k"), JobPage)
    assert_type(await jobs.retry([1]), list[JobChange])
    assert_type(await jobs.queues(), list[QueueInfo])
    assert_type(await jobs.cleanup("GC_JOB_QUEUES", limit=5), CleanupResult)
    await jobs.get("1")  # type: ignore[arg-type]


@pytest.fixture
def app() -> App:
    return App(registry=Registry(), database_url="postgresql://nowhere.invalid/x")


def test_both_have_the_same_methods() -> None:
    for kind in (Jobs, AsyncJobs):
        assert [name for name in vars(kind) if not name.startswith("_")] == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_both_kinds_of_a_method_are_called_alike(app: App, name: str) -> None:
    blocking, asynchronous = getattr(app.jobs, name), getattr(app.jobs_async, name)
    assert inspect.signature(blocking) == inspect.signature(asynchronous)
    assert not inspect.iscoroutinefunction(blocking)
    assert inspect.iscoroutinefunction(asynchronous)
    assert (blocking.__name__, blocking.__qualname__) == (name, f"Jobs.{name}")
    assert (asynchronous.__name__, asynchronous.__qualname__) == (name, f"AsyncJobs.{name}")
    assert blocking.__doc__ == asynchronous.__doc__ != ""
    assert "sql" not in inspect.get_annotations(getattr(Jobs, name))


def test_signatures_are_those_of_the_definitions_without_what_is_inside(app: App) -> None:
    connection = "connection: 'Connection' = None"
    assert {name: str(inspect.signature(getattr(app.jobs, name))).replace(connection, "…") for name in METHODS} == {
        "get": "(job_id: 'int', *, …) -> 'Job | None'",
        "list": (
            "(*, task: 'str | None' = None, queue: 'str | None' = None, state: 'JobState | None' = None, "
            "key: 'str | None' = None, flag: 'str | None' = None, locked_by: 'str | None' = None, "
            "limit: 'int' = 100, after: 'str | None' = None, …) -> 'JobPage'"
        ),
        "complete": "(job_ids: 'Iterable[int]', *, …) -> 'list[JobChange]'",
        "fail": "(job_ids: 'Iterable[int]', reason: 'str | None' = None, *, …) -> 'list[JobChange]'",
        "reschedule": (
            "(job_ids: 'Iterable[int]', *, run_at: 'dt.datetime | None' = None, "
            "delay: 'dt.timedelta | float | None' = None, priority: 'int | None' = None, "
            "attempts: 'int | None' = None, max_attempts: 'int | None' = None, …) -> 'list[JobChange]'"
        ),
        "retry": "(job_ids: 'Iterable[int]', *, …) -> 'list[JobChange]'",
        "remove": "(key: 'str', *, …) -> 'Job | None'",
        "cancel": "(job_ids: 'Iterable[int]', reason: 'str | None' = None, *, …) -> 'list[JobCancellation]'",
        "force_unlock": "(worker_ids: 'Iterable[str]', *, …) -> 'list[WorkerInfo]'",
        "queues": "(limit: 'int' = 100, *, after: 'str | None' = None, …) -> 'list[QueueInfo]'",
        "tasks": "(limit: 'int' = 1000, *, after: 'str | None' = None, …) -> 'list[TaskInfo]'",
        "workers": "(limit: 'int' = 1000, *, …) -> 'list[WorkerInfo]'",
        "progress": "(job_ids: 'Iterable[int] | None' = None, *, limit: 'int' = 10000, …) -> 'list[JobProgress]'",
        "cleanup": "(*operations: 'CleanupOperation', limit: 'int' = 10000, …) -> 'CleanupResult'",
        "wait": "(job_id: 'int', timeout: 'dt.timedelta | float | None' = None) -> 'Any'",
    }


def test_help_shows_what_a_method_does(app: App) -> None:
    for method, how in ((app.jobs.list, "list(*, task:"), (app.jobs_async.list, "async list(*, task:")):
        text = pydoc.plain(pydoc.render_doc(method))
        assert how in text
        assert "Return a page of jobs, newest first." in text


def test_a_call_with_a_wrong_argument_is_an_ordinary_type_error(app: App) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tasks'"):
        app.jobs.list(tasks="send")  # type: ignore[call-arg]
