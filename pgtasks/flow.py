"""What may become of a job other than success: `Retry`, `Snooze`, `Cancel` and `Fail`.

A handler raises or returns one of them, and a plugin answers with one where it is asked about a job.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from pgtasks.errors import JobOptionError
from pgtasks.job import Outcome, OutcomeKind


class Decision(Exception):  # noqa: N818 - it is raised to say something, and is no error
    """What `Retry`, `Snooze`, `Cancel` and `Fail` are. Two are equal if they say the same."""

    def said(self) -> dict[str, Any]:
        """Return what this says, by name."""
        return {}

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of a job.

        Args:
            error: what its attempt has ended with, if it ran.
        """
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and type(self) is type(other) and self.said() == other.said()

    def __hash__(self) -> int:
        return hash((type(self), *self.said().values()))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.said().items() if value is not None)
        return f"{type(self).__name__}({said})"

    def __str__(self) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self.said().values())


class Retry(Decision):
    """Try the job again; the attempt is charged. On its last attempt the job has failed for good.

    Args:
        delay: how long to wait, as a timedelta or in seconds; None: what the task's `retry` says, or the usual.
        run_at: instead of a delay, an aware datetime before which the job does not run.
        reason: why, for `last_error`.

    Raises:
        JobOptionError: both times are given, or one is negative or has no time zone.
    """

    def __init__(
        self,
        delay: dt.timedelta | float | None = None,
        run_at: dt.datetime | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__()
        if delay is not None and run_at is not None:
            raise JobOptionError("Retry(delay=…, run_at=…): both say when the job runs; give one of them")
        self.delay = delay
        self.run_at = run_at
        self.reason = None if reason is None else _text("Retry", reason)
        self._seconds = None if delay is None else _seconds("Retry", delay)
        if run_at is not None:
            _check_time("Retry", run_at)

    def said(self) -> dict[str, Any]:
        """Return what this says, by name."""
        return {"delay": self.delay, "run_at": self.run_at, "reason": self.reason}

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of an attempt that has ended with `error`."""
        return Outcome(OutcomeKind.RETRY, self.reason if error is None else error, self._seconds, run_at=self.run_at)


class Snooze(Decision):
    """Run the job later; the attempt is not charged.

    Args:
        delay: how long to wait, as a timedelta or in seconds.
        run_at: instead of a delay, an aware datetime before which the job does not run.

    Raises:
        JobOptionError: none of the two is given, or both, or one is negative or has no time zone.
    """

    def __init__(self, delay: dt.timedelta | float | None = None, run_at: dt.datetime | None = None) -> None:
        super().__init__()
        if (delay is None) == (run_at is None):
            raise JobOptionError("Snooze(…): say when the job runs, with either delay or run_at")
        self.delay = delay
        self.run_at = run_at
        self._seconds = None if delay is None else _seconds("Snooze", delay)
        if run_at is not None:
            _check_time("Snooze", run_at)

    def said(self) -> dict[str, Any]:
        """Return what this says, by name."""
        return {"delay": self.delay, "run_at": self.run_at}

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of a job."""
        return Outcome(OutcomeKind.SNOOZE, delay=self._seconds, run_at=self.run_at)


class Cancel(Decision):
    """Delete the job without running it (again).

    Args:
        reason: why, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = _text("Cancel", reason)

    def said(self) -> dict[str, Any]:
        """Return what this says, by name."""
        return {"reason": self.reason}

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of a job."""
        return Outcome(OutcomeKind.CANCEL, self.reason)


class Fail(Decision):
    """Keep the job as permanently failed, whatever attempts it has left.

    Args:
        reason: why, for `last_error`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = _text("Fail", reason)

    def said(self) -> dict[str, Any]:
        """Return what this says, by name."""
        return {"reason": self.reason}

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of a job; `error` is what its attempt has failed with, if it ran."""
        return Outcome(OutcomeKind.FAIL, self.reason if error is None else f"{self.reason}\n\n{error}")


def _text(what: str, reason: object) -> str:
    """Return a reason as PostgreSQL can store it."""
    if not isinstance(reason, str):
        raise JobOptionError(f"{what}({reason!r}): the reason must be text, not {type(reason).__name__}")
    return reason.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _seconds(what: str, delay: object) -> float:
    if not isinstance(delay, (dt.timedelta, int, float)) or isinstance(delay, bool):
        raise JobOptionError(f"{what}({delay!r}): the delay must be a timedelta or a number of seconds")
    try:
        seconds = delay.total_seconds() if isinstance(delay, dt.timedelta) else float(delay)
    except OverflowError:
        seconds = math.inf
    if not (math.isfinite(seconds) and 0 <= seconds <= 1e10):
        raise JobOptionError(f"{what}({delay!r}): the delay must not be negative, infinite or longer than 300 years")
    return seconds


def _check_time(what: str, run_at: object) -> None:
    if not isinstance(run_at, dt.datetime):
        raise JobOptionError(f"{what}(run_at={run_at!r}): it must be a datetime, not {type(run_at).__name__}")
    if run_at.utcoffset() is None:
        raise JobOptionError(
            f"{what}(run_at={run_at!r}): it has no time zone; say which is meant, "
            f"for example with .replace(tzinfo=datetime.UTC)"
        )
