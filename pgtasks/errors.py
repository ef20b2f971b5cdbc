"""Every error that pgtasks raises on purpose, and the exit code that the command line gives it.

An error names the offender and the likely fix in one line. Applications catch `PgtasksError`, or one of the classes
below; the command line prints the message without a traceback and ends with `exit_code`.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class PgtasksError(Exception):
    """Base of all errors that pgtasks raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What a command exits with when this error ends it (1 to 125)."""


class SettingsError(PgtasksError):
    """A setting is unknown or has a value that cannot be used; the message names its source."""

    exit_code = 2


class TaskDefinitionError(PgtasksError):
    """A task cannot be registered as it was declared: name taken, unknown option, unusable handler."""

    missing: str | None = None
    """The name that annotations use and that is not there, or not yet, if that is the matter."""

    exit_code = 2


class JobOptionError(PgtasksError, ValueError):
    """An option of a job that is to be added cannot be stored: key too long, priority out of range…."""

    exit_code = 2


class PayloadError(PgtasksError, ValueError):
    """A payload cannot be written as JSON, or stored JSON cannot be read as a Python value."""

    exit_code = 2


class CronError(PgtasksError, ValueError):
    """A crontab or a cron entry cannot be used as it is written; the message names the place and the fix."""

    exit_code = 2


class DatabaseUnavailableError(PgtasksError):
    """No database is configured, the server is not there, or it refuses the connection."""

    exit_code = 3


class SchemaPendingError(PgtasksError):
    """The schema is missing or older than this release and was not to be migrated."""

    exit_code = 4


class SchemaRefusedError(PgtasksError):
    """The schema is one that this release must not touch: too old, too new, or not ours."""

    exit_code = 5


class AppLoadError(PgtasksError):
    """A module that holds tasks could not be imported, or holds no app of the given name."""

    exit_code = 6


class PluginError(PgtasksError):
    """A plugin cannot be loaded, is required and missing, or answers what it must not."""

    exit_code = 14


class CrashLoopError(PgtasksError):
    """Worker processes die as fast as they are started."""

    exit_code = 7


class BreakingMigrationError(PgtasksError):
    """A running worker was told of a breaking migration that it does not know, and drained."""

    exit_code = 8


class ShutdownForcedError(PgtasksError):
    """Shutdown did not wait for all running jobs; those that were cut off run again elsewhere."""

    exit_code = 9


class LeftUndoneError(PgtasksError):
    """Some of what a command was asked for could not be done; what could be done was."""

    exit_code = 10


class ForkUnsafeError(PgtasksError):
    """Importing the application has left a thread or a connection behind, so that no worker process can be forked."""

    exit_code = 11


class ProblemsFoundError(PgtasksError):
    """`pgtasks doctor` or `pgtasks cron check` has looked, and found something that needs action."""

    exit_code = 13


class UnhealthyError(PgtasksError):
    """A worker answered that it is not as it should be, or none answered."""

    exit_code = 1


class ExecutableError(PgtasksError):
    """An executable that is a task has not ended with exit code 0; the message has the last lines of its stderr."""


class JobAbortedError(PgtasksError):
    """A running job was asked to stop, for the reason in the message: the worker ends, or has lost the database."""


class JobCancelledError(JobAbortedError):
    """A running job was asked to stop, since somebody has cancelled it; the message is the reason, if one was given.

    Also raised where a job that was cancelled is waited for.
    """


class JobTimeoutError(JobAbortedError):
    """A running job was asked to stop, since it had run for longer than its task's `timeout`."""


class JobFailedError(PgtasksError):
    """A job that was waited for has failed for good."""

    def __init__(self, job_id: int, last_error: str | None) -> None:
        super().__init__(job_id, last_error)
        self.job_id = job_id
        """Its number."""
        self.last_error = last_error
        """Why its last attempt failed, with the traceback."""

    def __str__(self) -> str:
        reason = (self.last_error or "no reason is known").strip().partition("\n")[0]
        return f"job {self.job_id} has failed for good: {reason}"


class JobWaitTimeoutError(PgtasksError, TimeoutError):
    """A job that was waited for has not ended in the time given; it goes on as if nobody had waited."""


class JobResultError(PgtasksError, ValueError):
    """The result of a job that has ended cannot be had: it was not stored, has expired, or is not what is expected."""


_CELERYS: Final = {
    "countdown": "delay",
    "eta": "run_at",
    "max_retries": "max_attempts",
    "autoretry_for": "retry_on",
    "dont_autoretry_for": "no_retry_on",
    "retry_backoff": "retry",
    "throws": "expected",
    "soft_time_limit": "timeout",
    "time_limit": "timeout",
}
"""What Celery calls options, for those whose fingers know them: no likeness leads from one name to the other."""


def a_or_an(name: str) -> str:
    """Return a name with its article.

    >>> a_or_an("set"), a_or_an("asyncpg.Connection")
    ('a set', 'an asyncpg.Connection')
    """
    return f"an {name}" if name[:1] in "aeioAEIO" else f"a {name}"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest of `known`, or an empty string when nothing is near.

    >>> did_you_mean("send_mial", ["send_email", "resize"])
    "; did you mean 'send_email'?"
    """
    known = list(known)
    also = _CELERYS.get(wrong)
    near = [also] if also in known else difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
