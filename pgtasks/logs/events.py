"""Events, and the loggers that write them."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from pgtasks.logs.context import merge_keys

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

EVENTS: Final = frozenset(
    {
        "application_reloaded",
        "application_reloading",
        "cancelled_jobs_removed",
        "cron_clock_skew",
        "cron_entries_ahead",
        "cron_failed",
        "cron_held",
        "cron_late",
        "cron_started",
        "crontab_questionable",
        "database_restored",
        "database_unavailable",
        "embedded_started",
        "exit_ignored",
        "health_served",
        "heartbeats_lost",
        "heartbeats_restored",
        "hook_calls_dropped",
        "hook_disabled",
        "hook_failed",
        "job_cancelled",
        "job_cancelling",
        "job_failed",
        "job_lost",
        "job_retrying",
        "job_returned",
        "job_succeeded",
        "job_timed_out",
        "job_unwritable",
        "jobs_left_locked",
        "jobs_not_charged",
        "jobs_overdue",
        "jobs_recovered",
        "listen_impossible",
        "listen_lost",
        "listen_restored",
        "names_restored",
        "no_thread",
        "plugin_broken",
        "plugins_migrated",
        "process_continued",
        "process_exited",
        "process_recycling",
        "process_refused",
        "process_replaced",
        "process_started",
        "process_stopped",
        "process_stuck",
        "processes_not_reaped",
        "processes_wanted",
        "program_output",
        "program_output_dropped",
        "programs_unguarded",
        "record_unprintable",
        "records_dropped",
        "reload_failed",
        "retry_rule_failed",
        "schema_migrated",
        "schema_unusual",
        "stacks_dumped",
        "stale_locks_cleared",
        "statement_refused",
        "statement_undone",
        "supervisor_failed",
        "supervisor_lost",
        "task_file_ignored",
        "task_unknown",
        "timetable_failed",
        "timetable_invalid",
        "worker_aborting",
        "worker_draining",
        "worker_evicted",
        "worker_failed",
        "worker_killing",
        "worker_lost",
        "worker_ready",
        "worker_starting",
        "worker_stopped",
        "zygote_stuck",
    }
)
"""Every event that pgtasks itself logs at level info or above; the tests compare it with the code and the page."""

_OPTIONAL: Final = ("queue", "job_key")
_NOT_SHOWN: Final = frozenset({"event", "exc_info"})


class EventText(dict[str, Any]):
    """An event as a record's message: keys for a formatter that knows them, a line of text for any other.

    >>> str(EventText(event="job_lost", job_id=7, reason="lock was lost"))
    "job_lost job_id=7 reason='lock was lost'"

    Filters take it for granted that a message is text, so it has the methods of text too.

    >>> EventText(event="job_lost", job_id=7).startswith("job_lost job")
    True
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(str(self), name)

    def __str__(self) -> str:
        pairs = (f" {key}={_bare(value)}" for key, value in self.items() if key not in _NOT_SHOWN)
        return f"{self.get('event', '')}{''.join(pairs)}"


class EventLogger(structlog.BoundLoggerBase):
    """A structlog logger that writes to one of the standard library's, whatever structlog's own configuration says.

    `bind(key=value)` returns a logger whose events carry more keys. Below the logger's level a call costs no more than
    the standard library's `isEnabledFor`, so nothing needs a guard but keys that are expensive to compute:
    `if log.is_enabled_for(logging.DEBUG)`.
    """

    def debug(self, event: str, *args: object, **keys: Any) -> None:
        """Log an event that only a developer looks for. `args` are for `%` in the event's text."""
        if self._logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "debug", event, args, keys)

    def info(self, event: str, *args: object, **keys: Any) -> None:
        """Log an event of normal operation."""
        if self._logger.isEnabledFor(logging.INFO):
            self._write(logging.INFO, "info", event, args, keys)

    def warning(self, event: str, *args: object, **keys: Any) -> None:
        """Log an event that somebody should know of; nothing is lost."""
        if self._logger.isEnabledFor(logging.WARNING):
            self._write(logging.WARNING, "warning", event, args, keys)

    def error(self, event: str, *args: object, **keys: Any) -> None:
        """Log an event that somebody should act on."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._write(logging.ERROR, "error", event, args, keys)

    def exception(self, event: str, *args: object, **keys: Any) -> None:
        """Log an error with the traceback of the exception that is being handled."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._write(logging.ERROR, "exception", event, args, {"exc_info": True} | keys)

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether an event of this level (`logging.DEBUG`…) would be written."""
        return bool(self._logger.isEnabledFor(level))

    def _write(self, level: int, method: str, event: str, args: tuple[object, ...], keys: dict[str, Any]) -> None:
        try:
            positional, keywords = self._process_event(method, event % args if args else event, keys)
            self._logger.log(level, *positional, **keywords)
        except Exception as error:  # noqa: BLE001 - a filter, handler or formatter of the application's
            with suppress(Exception):
                self._logger.log(level, "record_unprintable", extra=_what_failed(error, EventText(event=event, **keys)))


def get_logger(name: str = "pgtasks") -> EventLogger:
    """Return the logger of this name, by convention the module's: `get_logger("pgtasks.worker.claimer")`.

    Neither this nor importing any part of pgtasks configures structlog or the standard library.

    >>> get_logger("pgtasks.worker").bind(host="a1").info("worker_ready", processes=4)
    """
    return EventLogger(logging.getLogger(name), _PROCESSORS, {})


def _to_record(logger: WrappedLogger, method: str, event_dict: EventDict) -> tuple[tuple[EventText], dict[str, Any]]:
    """Turn an event into the arguments of `logging.Logger.log`: the last processor.

    The extra attributes are those that `structlog.stdlib.ProcessorFormatter` looks for, so that an application which
    formats its records with structlog gets ours with their keys.
    """
    for key in _OPTIONAL:  # an event about a job names them even where it has none
        if event_dict.get(key, key) is None:
            del event_dict[key]
    exc_info = event_dict.get("exc_info")
    if exc_info is True:  # looked up here, since a handler may format the record in another thread
        exc_info = event_dict["exc_info"] = sys.exc_info()
    return (EventText(event_dict),), {
        "exc_info": exc_info,
        "stacklevel": 3,  # the caller of `info`, which called `_write`, which called `log`
        "extra": {"_logger": logger, "_name": method},
    }


_PROCESSORS: Final = (merge_keys, structlog.processors.StackInfoRenderer(), _to_record)


def _what_failed(error: Exception, event: EventText) -> dict[str, Any]:
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return {"place": f"{raised.filename}:{raised.lineno}", "error": type(error).__name__, "text": str(event)}


def shown(value: object) -> str:
    """Return a value as Python shows it, or what it is when its own `repr` raises: a log never costs its caller."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - whatever somebody's `repr` does
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _bare(value: object) -> str:
    plain = isinstance(value, str) and value and value.isprintable() and not set(value) & set(" ='\"")
    return str(value) if plain else shown(value)
