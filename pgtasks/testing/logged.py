"""What jobs log, for tests to look at."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from structlog.contextvars import merge_contextvars

from pgtasks.logs.context import current_keys, merge_keys
from pgtasks.logs.output import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from structlog.typing import EventDict, WrappedLogger

_LEVELS: Final = {"warn": logging.WARNING, "exception": logging.ERROR, "fatal": logging.CRITICAL}
"""Levels of structlog's methods that are not called like one."""


class JobLogs(list[dict[str, Any]]):
    """Records that jobs have made, in order: `event`, `level`, `logger`, the job's keys and the record's own.

    The job's keys are those that a worker's log has: `job_id`, `task`, `attempt`, and `queue` and `job_key` where the
    job has one. A record with a traceback has the exception as `exception`. `logger` is missing where structlog does
    not know of one.
    """

    def records(self, event: str | None = None, **keys: Any) -> list[dict[str, Any]]:
        """Return all of them, or those of an event, with these values of these keys."""
        return [record for record in self if event in (None, record["event"]) and keys.items() <= record.items()]


@contextmanager
def job_logs(level: int | str = logging.INFO) -> Iterator[JobLogs]:
    """Collect what is logged inside of jobs for as long as a block lasts, by structlog or the standard library.

    Where else it goes is not changed. What is logged outside of jobs is not collected.

    Args:
        level: the least level that is; where the root logger's is higher, it is lowered meanwhile.

    Examples:
        ```python
        with job_logs() as logs:
            run_jobs()
        assert logs.records("mail_sent", task="send_email")
        ```
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise ValueError(f"level={level!r} is none of {', '.join(logging.getLevelNamesMapping())}")
    logs = JobLogs()
    handler, tap = _Handler(logs, number), _Tap(logs, number)
    processors = structlog.get_config()["processors"]
    root = logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(min(level_before, number))
    processors.insert(0, tap)  # in place: loggers that are in use already hold this list
    try:
        yield logs
    finally:
        processors.remove(tap)
        root.setLevel(level_before)
        root.removeHandler(handler)


class _Handler(logging.Handler):
    """Takes records of the standard library, and of pgtasks' loggers."""

    def __init__(self, logs: JobLogs, level: int) -> None:
        super().__init__(level)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, if it is a job's and structlog's configuration has not made it: the tap has that one."""
        if "job_id" in current_keys() and not _comes_through_structlog():
            _keep(self._logs, record.levelname.lower(), {"logger": record.name, **keys_of(record)})


class _Tap:
    """A processor that takes events of structlog and lets them go on."""

    def __init__(self, logs: JobLogs, level: int) -> None:
        self._logs = logs
        self._level = level

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
        """Keep an event, if it is a job's."""
        number = _LEVELS.get(method) or logging.getLevelNamesMapping().get(method.upper(), self._level)
        if number >= self._level and "job_id" in current_keys():
            name = {"logger": logger.name} if isinstance(logger, logging.Logger) else {}
            keys = merge_keys(logger, method, merge_contextvars(logger, method, {**name, **event_dict}))
            _keep(self._logs, logging.getLevelName(number).lower(), keys)
        return event_dict


def _keep(logs: JobLogs, level: str, keys: EventDict) -> None:
    record = {"event": "", "level": level, **keys}
    exception = record.pop("exc_info", None)
    if exception is True:
        exception = sys.exc_info()
    if exception:
        record["exception"] = exception[1] if isinstance(exception, tuple) else exception
    logs.append(record)


def _comes_through_structlog() -> bool:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as the standard library's logging does
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("structlog."):
            return True
        frame = frame.f_back
    return False
