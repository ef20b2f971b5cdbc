from __future__ import annotations

import datetime as dt
import enum
import zoneinfo
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pgtasks.errors import JobOptionError, PayloadError
from pgtasks.job import Job, JobSpec
from pgtasks.queue.rows import job_from_row

NAIVE = dt.datetime(2026, 1, 2)  # noqa: DTZ001 - the mistake itself
WITH_ZONE = "with .replace(tzinfo=datetime.UTC)"
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def problem(**options: Any) -> str:
    with pytest.raises(JobOptionError) as caught:
        JobSpec(**{"task": "send", **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def job(**fields: Any) -> Job:
    usual: dict[str, Any] = {
        "id": 1,
        "task": "send",
        "queue": None,
        "payload_json": "{}",
        "priority": 0,
        "run_at": NOW,
        "attempts": 1,
        "max_attempts": 25,
        "last_error": None,
        "created_at": NOW,
        "updated_at": NOW,
        "key": None,
        "locked_at": NOW,
        "locked_by": "worker",
        "revision": 0,
    }
    return Job(**{**usual, **fields})


# Options that cannot be stored


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 40000}, "priority=40000 is out of range: it must be from -32768 to 32767"),
        ({"priority": -32769}, "priority=-32769 is out of range: it must be from -32768 to 32767"),
        ({"priority": True}, "priority=True must be a whole number, not bool"),
        ({"priority": 1.0}, "priority=1.0 must be a whole number, not float"),
        ({"priority": "1"}, "priority='1' must be a whole number, not str"),
        ({"max_attempts": 0}, "max_attempts=0 is out of range: it must be from 1 to 32767"),
        ({"max_attempts": 32768}, "max_attempts=32768 is out of range: it must be from 1 to 32767"),
        ({"max_attempts": False}, "max_attempts=False must be a whole number, not bool"),
        ({"task": ""}, "task must not be empty"),
        ({"task": None}, "task=None must be a string, not NoneType"),
        ({"task": "t" * 129}, f"task has 129 characters, at most 128 can be stored: '{'t' * 40}'…"),
        ({"task": "a\0b"}, r"task='a\x00b' holds a NUL character, which PostgreSQL cannot store"),
        ({"task": "\ud800"}, r"task='\ud800' holds a lone surrogate, which PostgreSQL cannot store"),
        ({"queue": ""}, "queue must not be empty"),
        ({"queue": 7}, "queue=7 must be a string, not int"),
        ({"queue": "q" * 129}, f"queue has 129 characters, at most 128 can be stored: '{'q' * 40}'…"),
        ({"queue": "a\0b"}, r"queue='a\x00b' holds a NUL character, which PostgreSQL cannot store"),
        ({"job_key": ""}, "job_key must not be empty"),
        ({"job_key": "k" * 513}, f"job_key has 513 characters, at most 512 can be stored: '{'k' * 40}'…"),
        ({"job_key": "a\0"}, r"job_key='a\x00' holds a NUL character, which PostgreSQL cannot store"),
        ({"job_key": "\udfff"}, r"job_key='\udfff' holds a lone surrogate, which PostgreSQL cannot store"),
        ({"job_key": b"k"}, "job_key=b'k' must be a string, not bytes"),
        (
            {"job_key": "k", "job_key_mode": "replaced"},
            "job_key_mode='replaced' is none of 'replace', 'preserve_run_at', 'unsafe_dedupe'; did you mean 'replace'?",
        ),
        (
            {"job_key": "k", "job_key_mode": 5},
            "job_key_mode=5 is none of 'replace', 'preserve_run_at', 'unsafe_dedupe'",
        ),
        (
            {"job_key_mode": "replace"},
            "job_key_mode='replace' does nothing without a job_key; give both or neither",
        ),
        ({"flags": "smtp"}, "flags='smtp' must be a list of strings; write flags=['smtp']"),
        ({"flags": 5}, "flags=5 must be a list of strings"),
        ({"flags": [""]}, "flag must not be empty"),
        ({"flags": [True]}, "flag=True must be a string, not bool"),
        ({"flags": ["a\0"]}, r"flag='a\x00' holds a NUL character, which PostgreSQL cannot store"),
        ({"flags": ["\ud800"]}, r"flag='\ud800' holds a lone surrogate, which PostgreSQL cannot store"),
        ({"run_at": NOW, "delay": 5}, "run_at and delay both say when the job runs; give one of them"),
        ({"run_at": "tomorrow"}, "run_at='tomorrow' must be a datetime, not str"),
        ({"run_at": NOW.date()}, "run_at=datetime.date(2026, 1, 2) must be a datetime, not date"),
        ({"run_at": NAIVE}, f"run_at={NAIVE!r} has no time zone; say which is meant, for example {WITH_ZONE}"),
        ({"delay": -1}, "delay=-1 must not be negative or infinite"),
        ({"delay": dt.timedelta(-1)}, "delay=datetime.timedelta(days=-1) must not be negative or infinite"),
        ({"delay": float("inf")}, "delay=inf must not be negative or infinite"),
        ({"delay": float("nan")}, "delay=nan must not be negative or infinite"),
        ({"delay": 10**400}, f"delay={10**400} must not be negative or infinite"),
        ({"delay": 1e13}, "delay=10000000000000.0 is longer than PostgreSQL's calendar"),
        ({"delay": True}, "delay=True must be a timedelta or a number of seconds, not bool"),
        ({"delay": "5"}, "delay='5' must be a timedelta or a number of seconds, not str"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_an_option_that_cannot_be_stored_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    assert problem(**options) == message


def test_the_error_is_a_value_error_too() -> None:
    assert issubclass(JobOptionError, ValueError)


# Options that can


class Queue(enum.StrEnum):
    MAIL = "mail"


@pytest.mark.parametrize(
    "options",
    [
        {"priority": -32768},
        {"priority": 32767},
        {"max_attempts": 1},
        {"max_attempts": 32767},
        {"job_key": "é" * 512},
        {"job_key": "k", "job_key_mode": "unsafe_dedupe"},
        {"task": "t" * 128, "queue": "\U0001f600" * 128},
        {"queue": Queue.MAIL},
        {"run_at": dt.datetime.max.replace(tzinfo=dt.UTC)},
        {"run_at": dt.datetime(1, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Amsterdam"))},
        {"delay": 0},
        {"delay": dt.timedelta(days=400)},
    ],
)
def test_an_option_at_the_limit_is_taken(options: dict[str, Any]) -> None:
    spec = JobSpec(**{"task": "send", **options})
    assert {name: getattr(spec, name) for name in options} == options


@pytest.mark.parametrize("flags", [["a", "b"], ("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}])
def test_flags_of_any_iterable_become_a_tuple(flags: Any) -> None:
    assert JobSpec(task="send", flags=flags).flags == ("a", "b")


@pytest.mark.parametrize(("delay", "seconds"), [(None, None), (5, 5.0), (1.5, 1.5), (dt.timedelta(minutes=1), 60.0)])
def test_a_delay_is_told_in_seconds(delay: Any, seconds: float | None) -> None:
    assert JobSpec(task="send", delay=delay).delay_seconds == seconds


def test_a_spec_cannot_be_changed() -> None:
    spec = JobSpec(task="send")
    with pytest.raises(FrozenInstanceError):
        spec.task = "other"  # type: ignore[misc]


# Jobs


def test_a_job_decodes_its_payload_when_asked() -> None:
    assert job(payload_json=b'{"n": 123456789012345678901234567890}').payload == {"n": 123456789012345678901234567890}


def test_a_job_decodes_its_payload_once() -> None:
    one = job(payload_json="[]")
    assert one.payload is one.payload


def test_a_payload_that_python_cannot_hold_fails_only_where_it_is_read() -> None:
    unreadable = job(payload_json="9" * 5000)
    with pytest.raises(PayloadError):
        _ = unreadable.payload


def test_the_text_of_a_job_shows_neither_payload_nor_error() -> None:
    text = repr(job(payload_json='"secret"', last_error="secret"))
    assert "secret" not in text


def test_a_claim_is_told_by_job_time_and_key() -> None:
    claim = job(id=7, key="k").claim
    assert (claim.job_id, claim.locked_at, claim.keyed) == (7, NOW, True)


@pytest.mark.parametrize(("run_at", "created_at", "due"), [(5, 3, 5), (3, 5, 5), (-(2**63), 5, 5)])
def test_a_job_is_due_from_when_it_was_added_or_later(run_at: int, created_at: int, due: int) -> None:
    row = (1, "{}", 0, run_at, 1, 25, None, created_at, 0, None, 9, "worker", 0, None)
    job = job_from_row(row, "work", None)
    assert job.due_micros == due
    decoded = Job(**{field.name: getattr(job, field.name) for field in fields(Job)})
    assert decoded.due_micros == due
