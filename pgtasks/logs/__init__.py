"""Logging: events with keys, through the standard library's loggers.

In a program that uses pgtasks nothing is configured: `get_logger` writes records to `logging.getLogger("pgtasks…")`,
and whatever handlers the program has show each as a line of text. A worker configures its own processes with
`configure_worker_logging`. The names of events and keys are an interface: docs/reference/logging.md lists them.
"""

from __future__ import annotations

from pgtasks.logs.context import bind_process, enter_job
from pgtasks.logs.events import EVENTS, EventLogger, get_logger
from pgtasks.logs.output import LogFormat, LogLevel, adopt_application_logging, configure_worker_logging

__all__ = [
    "EVENTS",
    "EventLogger",
    "LogFormat",
    "LogLevel",
    "adopt_application_logging",
    "bind_process",
    "configure_worker_logging",
    "enter_job",
    "get_logger",
]
