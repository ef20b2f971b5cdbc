"""When a job that has failed is tried again: a task's own rules, in place of the usual back-off."""

from __future__ import annotations

import datetime as dt
import inspect
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import JobOptionError
from pgtasks.flow import Decision, Retry

Delay = dt.timedelta | float
RetryFunction = Callable[[int, BaseException], "Delay | Decision | None"]
"""Called with the attempt that has failed, counted from 1, and what it has raised. It returns how long to wait, as a
timedelta or in seconds; a decision: `Retry`, `Snooze`, `Cancel` or `Fail`; or None for the usual back-off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that grow exponentially.

    Raises:
        JobOptionError: a value is out of range.

    Examples:
        >>> from pgtasks import Backoff
        >>> backoff = Backoff(first=2, factor=3, longest=60, jitter=0)
        >>> [backoff.seconds(attempt) for attempt in range(1, 6)]
        [2.0, 6.0, 18.0, 54.0, 60.0]
    """

    first: float = 1.0
    """Seconds before the second attempt, more than 0."""
    factor: float = 2.0
    """How many times as long each further delay is, at least 1."""
    longest: float = 3600.0
    """Seconds that no delay exceeds, but for the jitter."""
    jitter: float = 0.1
    """By which part of itself, from 0 to 1, a delay is made longer or shorter at random, so that jobs which have failed
    together do not come back together."""

    def __post_init__(self) -> None:
        allowed = {"first": (0.0, False), "factor": (1.0, True), "longest": (0.0, False), "jitter": (0.0, True)}
        for name, (least, included) in allowed.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < math.inf:
                raise JobOptionError(f"Backoff({name}={value!r}): it must be a finite number")
            if value < least or (value == least and not included):
                raise JobOptionError(
                    f"Backoff({name}={value!r}): it must be {'at least' if included else 'more than'} {least:g}"
                )
        for name, most in (("jitter", 1), ("longest", 1e9)):
            if getattr(self, name) > most:
                raise JobOptionError(f"Backoff({name}={getattr(self, name)!r}): it must be at most {most:g}")

    def seconds(self, attempt: int) -> float:
        """Return how long to wait after this attempt, counted from 1."""
        try:
            delay = min(self.first * float(self.factor) ** (attempt - 1), self.longest)
        except OverflowError:  # floats end after a thousand attempts
            delay = self.longest
        return delay * (1 + self.jitter * random.uniform(-1, 1)) if self.jitter else float(delay)  # noqa: S311

    def __call__(self, attempt: int, _error: BaseException) -> float:
        """Return how long to wait after this attempt: a `RetryFunction`."""
        return self.seconds(attempt)


RetryRule = Backoff | Sequence[Delay] | RetryFunction
"""What `@task(retry=…)` takes: `Backoff(…)`, a list of delays, or a function. The last one of a list's delays holds for
all further attempts."""


def check_retry(rule: Any) -> RetryFunction:
    """Return a rule as a function, or raise `JobOptionError`."""
    if isinstance(rule, Sequence) and not isinstance(rule, str | bytes):
        if not rule:
            raise JobOptionError("retry=[] says nothing; give at least one delay, or max_attempts=1 to try once")
        delays = tuple(rule)
        try:
            for delay in delays:
                Retry(delay)  # complains
        except JobOptionError as error:
            raise JobOptionError(f"retry={rule!r}: {error}") from None
        return lambda attempt, _error: delays[min(attempt, len(delays)) - 1]
    if isinstance(rule, type) and issubclass(rule, Backoff):
        raise JobOptionError("retry=Backoff is a class; write retry=Backoff(…)")
    if not callable(rule):
        raise JobOptionError(f"retry={rule!r} must be Backoff(…), a list of delays, or a function of attempt and error")
    check_function("retry", rule, "attempt", "error")
    return rule  # type: ignore[no-any-return]  # what it returns is seen when it is called


def check_function(what: str, function: Any, *arguments: str) -> None:
    """Raise `JobOptionError` if a function is a coroutine's, or cannot be called with so many arguments."""
    taken = " and ".join(arguments)
    if inspect.iscoroutinefunction(function):
        raise JobOptionError(f"{what}={function!r} must be a plain function of {taken}, not `async def`")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C do not tell
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise JobOptionError(f"{what}={function!r} must be a function of {taken}, but takes {signature}") from None


def check_exceptions(what: str, kinds: Any) -> tuple[type[BaseException], ...]:
    """Return an exception type, or several, as a tuple, or raise `JobOptionError`."""
    given = tuple(kinds) if isinstance(kinds, Iterable) and not isinstance(kinds, str) else (kinds,)
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise JobOptionError(f"{what}={kind!r} must be an exception type, or a list of them")
    return given


def decide(rule: RetryFunction, attempt: int, error: BaseException) -> Decision | None:
    """Return what a rule says of an attempt that has failed; None for the usual back-off.

    Raises:
        JobOptionError: it has returned something else; and what it raises itself.
    """
    answer = rule(attempt, error)
    return answer if answer is None or isinstance(answer, Decision) else Retry(answer)
