"""Comparing jobs with what a test wants them to be, and saying how they differ."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgtasks import codec
from pgtasks.errors import PayloadError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgtasks.job import Job

_SHOWN: Final = 5
"""How many jobs a message shows."""
_CLOSE: Final = dt.timedelta(milliseconds=1)
"""How far a delay may be from the wanted one."""

_FIELDS: Final[dict[str, Callable[[Job], Any]]] = {
    "job_key": lambda job: job.key,
    "queue": lambda job: job.queue,
    "run_at": lambda job: job.run_at,
    "delay": lambda job: job.run_at - job.updated_at,
    "priority": lambda job: job.priority,
    "max_attempts": lambda job: job.max_attempts,
    "flags": lambda job: job.flags,
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What jobs are to be like; what is `...` may be anything."""

    task: str
    payload: Any
    """As the test gives it."""
    stored: Any
    """The same as JSON holds it."""
    job_key: Any
    queue: Any
    run_at: Any
    delay: Any
    priority: Any
    max_attempts: Any
    flags: Any

    def expect(self, jobs: Sequence[Job], count: int | None, known: Sequence[str]) -> list[Job]:
        """Return those of `jobs` that are so.

        Args:
            jobs: all jobs.
            count: how many of them are to be so; None: any number but 0.
            known: names of tasks, for a hint at a misspelt one.

        Raises:
            AssertionError: there are none, or not so many.
        """
        __tracebackhide__ = True
        differences = {job.id: self._differences(job) for job in jobs}
        found = [job for job in jobs if not differences[job.id]]
        if len(found) == count or (count is None and found):
            return found
        lines = [self._summary(len(found), count, known)]
        if found:
            lines += _shown("These are there:", [_label(job, payload=True) for job in found])
        elif jobs:
            nearest = sorted(jobs, key=lambda job: _distance(job, self.task, differences[job.id]))
            labels = [
                f"{_label(job)}: {', '.join(differences[job.id])}"
                if job.task == self.task
                else _label(job, payload=True)
                for job in nearest
            ]
            lines += _shown("There are these, the nearest first:", labels)
        else:
            lines.append("There is no job at all.")
        raise AssertionError("\n".join(lines))

    def _differences(self, job: Job) -> list[str]:
        """What is different about a job, in words."""
        found = [] if job.task == self.task else [f"task is {job.task!r}"]
        for name, read in _FIELDS.items():
            wanted, is_so = getattr(self, name), read(job)
            if wanted is not ... and not _same(name, is_so, wanted):
                found.append(f"{name} is {_text(is_so)}, not {_text(_as_time(name, wanted))}")
        if self.stored is not ... and job.task == self.task:
            try:
                payload = job.payload
            except PayloadError as error:
                found.append(str(error))
            else:
                found += payload_differences(payload, self.stored, "payload")
        return found

    def _summary(self, found: int, count: int | None, known: Sequence[str]) -> str:
        wanted = {name: getattr(self, name) for name in ("payload", *_FIELDS)}
        with_what = ", ".join(
            f"{name}={_text(_as_time(name, value))}" for name, value in wanted.items() if value is not ...
        )
        with_what = f" with {with_what}" if with_what else ""
        hint = did_you_mean(self.task, known) if not found and self.task not in known else ""
        what = f"task {self.task!r}{with_what}"
        if not found:
            much = "no job" if count is None else f"no job, instead of {count},"
            return f"{much} of {what} was deferred{hint}"
        were = "job was" if found == 1 else "jobs were"
        return f"{found} {were} deferred, not {count}, of {what}"


def as_stored(payload: Any) -> Any:
    """Return a payload as JSON gives it back; what JSON cannot hold, such as `unittest.mock.ANY`, stays as it is."""
    try:
        return codec.decode(codec.encode(payload))
    except PayloadError:
        if isinstance(payload, dict):
            return {key: as_stored(value) for key, value in payload.items()}
        if isinstance(payload, list | tuple):
            return [as_stored(value) for value in payload]
        return payload


def payload_differences(payload: Any, wanted: Any, path: str) -> list[str]:
    """Return where a payload differs from the wanted one, in words; whatever is equal by its own account is equal."""
    if payload == wanted:
        return []
    if isinstance(payload, dict) and isinstance(wanted, dict):
        found: list[str] = []
        for key, value in wanted.items():
            if key in payload:
                found += payload_differences(payload[key], value, f"{path}[{key!r}]")
            else:
                found.append(f"{path} has no {key!r}")
        return found + [f"{path}[{key!r}] is {value!r}" for key, value in payload.items() if key not in wanted]
    if isinstance(payload, list) and isinstance(wanted, list) and len(payload) == len(wanted):
        return [
            difference
            for index, (one, other) in enumerate(zip(payload, wanted, strict=True))
            for difference in payload_differences(one, other, f"{path}[{index}]")
        ]
    return [f"{path} is {payload!r}, not {wanted!r}"]


def _same(name: str, value: Any, wanted: Any) -> bool:
    if name == "delay":
        return bool(abs(value - _as_time(name, wanted)) < _CLOSE)
    return bool(value == wanted)


def _as_time(name: str, wanted: Any) -> Any:
    return dt.timedelta(seconds=wanted) if name == "delay" and isinstance(wanted, int | float) else wanted


def _distance(job: Job, task: str, differences: Sequence[str]) -> tuple[bool, int, int]:
    return job.task != task, len(differences), -job.id


def _label(job: Job, *, payload: bool = False) -> str:
    shown = f" {job.payload_json if isinstance(job.payload_json, str) else job.payload_json.decode()}"
    return f"job {job.id} of task {job.task!r}" + (shown if payload else "")


def _text(value: Any) -> str:
    return str(value) if isinstance(value, dt.datetime | dt.timedelta) else repr(value)


def _shown(head: str, labels: Sequence[str]) -> list[str]:
    more = [f"  … and {len(labels) - _SHOWN} more"] if len(labels) > _SHOWN else []
    return [head, *(f"  {label}" for label in labels[:_SHOWN]), *more]
