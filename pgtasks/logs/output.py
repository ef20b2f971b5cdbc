"""What a worker's own processes do with log records: one pipeline for all, one line each, on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TextIO

import orjson
import structlog
from structlog.contextvars import merge_contextvars
from structlog.stdlib import LoggerFactory, PositionalArgumentsFormatter, ProcessorFormatter

from pgtasks.logs.context import merge_keys
from pgtasks.logs.events import shown
from pgtasks.logs.writing import Descriptor

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

_RECORD_ATTRIBUTES: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_POOL_TRIES: Final = ("error connecting", "reconnection attempt", "discarding closed connection")
"""How those records of psycopg's pool begin that there may be one of at each try."""


def configure_worker_logging(
    level: LogLevel = "info", fmt: LogFormat = "auto", stream: TextIO | None = None, *, colors: bool | None = None
) -> None:
    """Send every record of this process, from structlog or the standard library, through one pipeline to stderr.

    This sets up global state and is for the worker's own processes. Calling it again replaces what it set up before.
    Exceptions are written as tracebacks, without the values of local variables.

    Args:
        level: The least severe level that is written.
        fmt: `console` for people, `json` for programs (a JSON object a line); `auto` is `console` on a terminal.
        stream: Where to write; stderr by default.
        colors: Whether `console` uses colours; by default on a terminal, unless `NO_COLOR` is set.
    """
    out = stream if stream is not None else sys.stderr
    console = fmt == "console" or (fmt == "auto" and _is_terminal(out))
    if colors is None:
        colors = _is_terminal(out) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    handler = LineHandler(out)
    handler.setFormatter(RecordFormatter(_console_renderer(colors=colors) if console else render_json))
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    pool = logging.getLogger("psycopg.pool")
    for old_filter in [found for found in pool.filters if isinstance(found, _OwnPoolFilter)]:
        pool.removeFilter(old_filter)
    pool.addFilter(_OwnPoolFilter())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            merge_contextvars,
            merge_keys,
            PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def adopt_application_logging() -> None:
    """Mend what the application's own logging configuration took from ours; for use after it was imported.

    An application may configure logging when it is imported, and then its choice stands. But `logging.config` silences
    the loggers that exist already, unless told otherwise, and a structlog configuration of its own does not know of
    the job that is running: pgtasks' loggers are switched on again, and the job's keys are added to that configuration.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (name == "pgtasks" or name.startswith("pgtasks.")):
            logger.disabled = False
    processors = structlog.get_config()["processors"]
    if merge_keys not in processors:
        processors.insert(0, merge_keys)  # in place: loggers that are in use already hold this list


class _OwnPoolFilter(logging.Filter):
    """Leaves out what psycopg's pool says at each try to connect: a worker says once that its database is away."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record of psycopg's pool is to be written."""
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        ours = about in ("pgtasks", "pgtasks-async") or getattr(type(about), "pgtasks_pool", False)
        return not (ours and str(record.msg).startswith(_POOL_TRIES))


class LineHandler(logging.Handler):
    """Writes each record with one call, so that the lines of several processes on one stderr do not mix.

    A stderr that is closed, or whose reader is gone or has stalled, loses the record and nothing else: a worker must
    neither die of its log nor stand still for it. How many were lost to a stalled reader is told before the first
    record that it takes again.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream
        try:
            self._descriptor = Descriptor(stream.fileno()) if stream else None
        except (OSError, ValueError):
            self._descriptor = None  # not a file: a buffer in a test, or closed already
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; nothing is raised."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - whatever a value's own repr does must not reach who logged it
            line = self.format(_unprintable(record, error))
        with contextlib.suppress(OSError, ValueError):
            if self._descriptor is not None:
                self._write(self._descriptor, line)
            elif self._stream:
                self._stream.write(f"{line}\n")
                self._stream.flush()

    def _write(self, descriptor: Descriptor, line: str) -> None:
        try:
            if self._dropped:
                descriptor.write_line(self.format(_records_dropped(self._dropped)))
                self._dropped = 0
            descriptor.write_line(line)
        except TimeoutError:
            self._dropped += 1


class RecordFormatter(logging.Formatter):
    """Turns any record into one event and lets a structlog renderer write it.

    Records of structlog arrive as `structlog.stdlib.ProcessorFormatter.wrap_for_formatter` leaves them; all others get
    what structlog's have already: the keys of the context and of `extra=`. (`ProcessorFormatter` itself does the same
    in 16 µs more a record, since it copies each one.)
    """

    def __init__(self, renderer: Processor) -> None:
        super().__init__()
        self._renderer = renderer

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text: the keys that all have first, its traceback last."""
        keys = keys_of(record)
        event: EventDict = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": keys.get("event", ""),
        }
        event.update((key, value) for key, value in keys.items() if key not in event)
        if event.pop("exc_info", None):
            event = _exception_as_text(None, "", {**event, "exc_info": keys["exc_info"]})
        return str(self._renderer(None, record.levelname.lower(), event))


def keys_of(record: logging.LogRecord) -> EventDict:
    """Return what a record of structlog, or of anybody, says: `event`, its own keys, and those of the job."""
    if isinstance(record.msg, dict) and hasattr(record, "_logger"):
        return record.msg
    return _foreign_keys(record)


def render_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """Write an event as a JSON object on one line; what JSON has no form for is written as Python would show it."""
    try:
        return orjson.dumps(event_dict, default=shown, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a number beyond 64 bits, or text that is not valid Unicode
        return json.dumps(event_dict, default=shown, skipkeys=True, separators=(",", ":"))


# Its default is the traceback module's text, which shows no local variables: they may hold what must not be logged.
_exception_as_text: Final = structlog.processors.ExceptionRenderer()


def _foreign_keys(record: logging.LogRecord) -> EventDict:
    keys: EventDict = {"event": record.getMessage()}
    keys.update((key, value) for key, value in record.__dict__.items() if key not in _RECORD_ATTRIBUTES)
    keys = merge_keys(None, "", merge_contextvars(None, "", keys))
    if record.exc_info:
        keys["exc_info"] = record.exc_info
    if record.stack_info:
        keys["stack"] = record.stack_info
    return keys


def _unprintable(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    standard = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
    keys = {"place": f"{record.pathname}:{record.lineno}", "error": type(error).__name__}
    if isinstance(record.msg, str):
        keys["text"] = repr(record.msg)
    return logging.makeLogRecord({**standard, "msg": "record_unprintable", **keys})


def _records_dropped(number: int) -> logging.LogRecord:
    level = {"levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({**level, "name": "pgtasks.worker", "msg": "records_dropped", "records": number})


def _console_renderer(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False  # closed
