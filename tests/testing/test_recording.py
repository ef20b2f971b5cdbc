"""The recorder writes down how hooks were called, in this process and in others."""

from __future__ import annotations

import datetime as dt
import enum
import os
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import JobSpec, PluginError
from pgtasks.plugins import ClaimPlan
from pgtasks.testing import HookRecorder, call_hook, make_end, make_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgtasks import App

    MakeApp = Callable[..., App]
    MakeRecorder = Callable[..., HookRecorder]


def test_calls_are_recorded_in_order_with_what_they_were_given(
    pgtasks_app: MakeApp, pgtasks_recorder: MakeRecorder
) -> None:
    recorder = pgtasks_recorder("before_defer", "after_defer")
    app = pgtasks_app(plugins=[recorder])
    job = app.add_job("greet", {"name": "Ada"}, priority=3)
    recorder.wait_for("after_defer")
    before, after = recorder.calls()
    assert (before.hook, after.hook) == ("before_defer", "after_defer")
    assert before.given["specs"][0]["payload"] == {"name": "Ada"}
    assert after.given["jobs"][0]["id"] == job.id
    assert after.given["jobs"][0]["payload"] == {"name": "Ada"}
    assert (after.role, after.pid) == ("producer", os.getpid())


def test_only_the_hooks_that_were_asked_for_are_recorded(pgtasks_recorder: MakeRecorder) -> None:
    recorder = pgtasks_recorder("job_started", "configure")
    call_hook(recorder, "job_started", job=make_job("greet"))
    assert [call.hook for call in recorder.calls()] == ["configure", "job_started"]
    assert [call.given["job"]["task"] for call in recorder.calls("job_started")] == ["greet"]
    recorder.clear()
    assert recorder.calls() == []
    with pytest.raises(PluginError, match="no plugin implements 'job_failed'"):
        call_hook(recorder, "job_failed", end=make_end(make_job("greet")))


@pytest.mark.parametrize("hook", ["job_context", "before_claim", "retry_decision", "forbidden_flags"])
def test_a_recorder_changes_nothing(hook: str, pgtasks_recorder: MakeRecorder) -> None:
    recorder = pgtasks_recorder(hook)
    job, plan = make_job("greet"), ClaimPlan(10, 5, ("greet",))
    match hook:
        case "job_context":
            with call_hook(recorder, hook, job=job, task=None):
                pass
        case "before_claim":
            assert call_hook(recorder, hook, plan=plan) == plan
        case "retry_decision":
            assert call_hook(recorder, hook, job=job, exception=OSError(), error="") is None
        case _:
            assert call_hook(recorder, hook) == []
    assert [call.hook for call in recorder.calls()] == [hook]


def test_whatever_a_hook_is_given_can_be_recorded(pgtasks_recorder: MakeRecorder) -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    values: list[tuple[Any, Any]] = [
        (10**30, "1" + 30 * "0"),
        ("\ud800", "?"),
        (b"text", "text"),
        (Colour.RED, "red"),
        (dt.timedelta(seconds=2), 2),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "2026-01-01T00:00:00+00:00"),
        ({"one": {2}}, {"one": [2]}),
        (float("inf"), None),
        (object(), "object"),
        (test_whatever_a_hook_is_given_can_be_recorded, "test_whatever_a_hook_is_given_can_be_recorded"),
    ]
    recorder = pgtasks_recorder("job_failed", "before_defer")
    call_hook(recorder, "job_failed", end=make_end(make_job("greet", payload_json='{"n": 1e400000'), OSError("gone")))
    call_hook(recorder, "before_defer", specs=[JobSpec(task="greet", payload=[value for value, _ in values])])
    failed, deferred = recorder.calls()
    assert failed.given["end"]["exception"] == "OSError: gone"
    assert failed.given["end"]["job"]["payload"] == '{"n": 1e400000'
    assert deferred.given["specs"][0]["payload"] == [shown for _, shown in values]


def test_a_hook_that_there_is_not_cannot_be_recorded(pgtasks_recorder: MakeRecorder) -> None:
    with pytest.raises(PluginError, match=r"'job_faild' is no hook.*did you mean 'job_failed'"):
        pgtasks_recorder("job_faild")


def test_calls_that_do_not_come_fail_the_test(pgtasks_recorder: MakeRecorder) -> None:
    recorder = pgtasks_recorder("job_started")
    call_hook(recorder, "job_started", job=make_job("greet"))
    with pytest.raises(AssertionError, match=r"for 2 calls of job_started, and there are 1.*\['job_started'\]"):
        recorder.wait_for("job_started", 2, timeout=0.05)
