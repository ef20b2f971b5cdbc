"""The keys that every record carries without being told: the process's, and those of the job that is running.

The job is in one context variable of ours, and its keys are made of it when there is a record. structlog's own helper,
which has a variable for each key, costs 4 to 8 µs a job where this costs 0.1, on a path that a fast worker takes tens
of thousands of times a second.
"""

from __future__ import annotations

from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from structlog.typing import EventDict, WrappedLogger

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_job: Final[ContextVar[RunningJob | None]] = ContextVar("pgtasks_job", default=None)

# Of the whole process, and not a context variable: threads that the application starts must carry it too.
_process: Mapping[str, Any] = _NOTHING


class RunningJob(Protocol):
    """What records are told of a job."""

    @property
    def id(self) -> int:
        """Number of the job."""

    @property
    def task(self) -> str:
        """Name of its task."""

    @property
    def attempts(self) -> int:
        """Which attempt this is, counted from 1."""

    @property
    def queue(self) -> str | None:
        """Name of its queue; left out of the records if there is none."""

    @property
    def key(self) -> str | None:
        """Its job key, likewise."""


def enter_job(job: RunningJob) -> Token[RunningJob | None]:
    """Let every record from here on carry the job's keys: from structlog or the standard library.

    That ends with the current context, in a copy of which each job runs. Tasks that the job starts inherit the keys,
    and so do threads by `asyncio.to_thread`; other threads and executors do when they run under
    `contextvars.copy_context()`.

    Returns:
        What takes it back: `token.var.reset(token)`.

    >>> from types import SimpleNamespace
    >>> token = enter_job(SimpleNamespace(id=7, task="send_email", attempts=1, queue=None, key=None))
    >>> current_keys()
    {'job_id': 7, 'task': 'send_email', 'attempt': 1}
    >>> token.var.reset(token)
    """
    return _job.set(job)


def current_record() -> RunningJob | None:
    """Return the job whose keys records carry here, as it was given to `enter_job`."""
    return _job.get()


def bind_process(*, process: int | None = None, worker: str | None = None) -> None:
    """Let every record of this process carry which one it is; a forked child binds its own.

    Args:
        process: The process's index in its pool, counted from 0; left out if `None`, as for the supervisor.
        worker: The worker's id, as it stands in `locked_by`; left out if `None`.
    """
    global _process
    keys = {"process": process, "worker": worker}
    _process = {key: value for key, value in keys.items() if value is not None}


def current_keys() -> dict[str, Any]:
    """Return the keys that a record made here and now carries."""
    return {**_process, **_job_keys()}


def merge_keys(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add the process's and the job's keys to an event: a structlog processor. The event's own keys win."""
    for key, value in _job_keys().items():
        event_dict.setdefault(key, value)
    for key, value in _process.items():
        event_dict.setdefault(key, value)
    return event_dict


def _job_keys() -> Mapping[str, Any]:
    job = _job.get()
    if job is None:
        return _NOTHING
    keys: dict[str, Any] = {"job_id": job.id, "task": job.task, "attempt": job.attempts}
    if job.queue is not None:
        keys["queue"] = job.queue
    if job.key is not None:
        keys["job_key"] = job.key
    return keys
