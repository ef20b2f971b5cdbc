"""What may be decided about a job instead of, or after, running it: `Retry`, `Snooze`, `Cancel` and `Fail`."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

from pgtasks.errors import JobOptionError
from pgtasks.job import Outcome, OutcomeKind


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the job again; the attempt is charged. On its last attempt the job has failed for good."""

    delay: dt.timedelta | float | None = None
    """How long to wait, as a timedelta or in seconds; None: the usual back-off."""

    def __post_init__(self) -> None:
        if self.delay is not None:
            _seconds("Retry", self.delay)

    def outcome(self, error: str) -> Outcome:
        """Return what this makes of an attempt that has failed with `error`."""
        return Outcome(OutcomeKind.RETRY, error, None if self.delay is None else _seconds("Retry", self.delay))


@dataclass(frozen=True, slots=True)
class Snooze:
    """Run the job later; the attempt is not charged."""

    delay: dt.timedelta | float
    """How long to wait, as a timedelta or in seconds."""

    def __post_init__(self) -> None:
        _seconds("Snooze", self.delay)

    def outcome(self) -> Outcome:
        """Return what this makes of a job."""
        return Outcome(OutcomeKind.SNOOZE, delay=_seconds("Snooze", self.delay))


@dataclass(frozen=True, slots=True)
class Cancel:
    """Delete the job without running it (again)."""

    reason: str
    """Why, for the log."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", _text("Cancel", self.reason))

    def outcome(self) -> Outcome:
        """Return what this makes of a job."""
        return Outcome(OutcomeKind.CANCEL, self.reason)


@dataclass(frozen=True, slots=True)
class Fail:
    """Keep the job as permanently failed, whatever attempts it has left."""

    reason: str
    """Why, for `last_error`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", _text("Fail", self.reason))

    def outcome(self, error: str | None = None) -> Outcome:
        """Return what this makes of a job; `error` is what its attempt has failed with, if it ran."""
        return Outcome(OutcomeKind.FAIL, self.reason if error is None else f"{self.reason}\n\n{error}")


Decision = Retry | Snooze | Cancel | Fail


def _text(what: str, reason: object) -> str:
    """Return a reason as PostgreSQL can store it."""
    if not isinstance(reason, str):
        raise JobOptionError(f"{what}({reason!r}): the reason must be text, not {type(reason).__name__}")
    return reason.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _seconds(what: str, delay: object) -> float:
    if not isinstance(delay, (dt.timedelta, int, float)) or isinstance(delay, bool):
        raise JobOptionError(f"{what}({delay!r}): the delay must be a timedelta or a number of seconds")
    seconds = delay.total_seconds() if isinstance(delay, dt.timedelta) else float(delay)
    if not (math.isfinite(seconds) and 0 <= seconds <= 1e10):
        raise JobOptionError(f"{what}({delay!r}): the delay must not be negative, infinite or longer than 300 years")
    return seconds
