"""The keys that every record carries without being told: the process's, and those of the job that is running.

The job's keys are in one context variable of ours. structlog's own helper, which has a variable for each key, costs
4 to 8 µs a job where this costs 0.4, on a path that a fast worker takes tens of thousands of times a second.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from structlog.typing import EventDict, WrappedLogger

_NO_JOB: Final[Mapping[str, Any]] = MappingProxyType({})

_job: Final[ContextVar[Mapping[str, Any]]] = ContextVar("pgtasks_job", default=_NO_JOB)

# Of the whole process, and not a context variable: threads that the application starts must carry it too.
_process: Mapping[str, Any] = _NO_JOB


class job_context:  # noqa: N801 - used like a function, and a class is cheaper than a generator
    """Let every record inside of the `with` block carry the job's keys: from structlog or the standard library.

    Tasks that the block starts inherit the keys, and so do threads by `asyncio.to_thread`; other threads and executors
    do when they run under `contextvars.copy_context()`.

    Args:
        job_id: The job's id.
        task: The name of its task.
        attempt: Which attempt this is, counted from 1.
        queue: The name of its queue; left out of the records if there is none.
        job_key: Its key; left out of the records if there is none.

    >>> with job_context(job_id=7, task="send_email", attempt=1):
    ...     current_keys()
    {'job_id': 7, 'task': 'send_email', 'attempt': 1}
    """

    __slots__ = ("_keys", "_token")

    _token: Token[Mapping[str, Any]]

    def __init__(
        self, *, job_id: int, task: str, attempt: int, queue: str | None = None, job_key: str | None = None
    ) -> None:
        keys: dict[str, Any] = {"job_id": job_id, "task": task, "attempt": attempt}
        if queue is not None:
            keys["queue"] = queue
        if job_key is not None:
            keys["job_key"] = job_key
        self._keys = keys

    def __enter__(self) -> Self:
        self._token = _job.set(self._keys)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _job.reset(self._token)


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
    return {**_process, **_job.get()}


def merge_keys(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add the process's and the job's keys to an event: a structlog processor. The event's own keys win."""
    for key, value in _job.get().items():
        event_dict.setdefault(key, value)
    for key, value in _process.items():
        event_dict.setdefault(key, value)
    return event_dict
