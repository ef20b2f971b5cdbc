"""What may be said of a task, and of a job that is added."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from pgtasks.errors import JobOptionError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.job import JobKeyMode
    from pgtasks.retry import RetryFunction


class _UsualOptions(TypedDict, total=False):
    queue: str | None
    """Name of a queue, whose jobs run one at a time, in order."""
    priority: int | None
    """From -32768 to 32767, lower runs earlier."""
    max_attempts: int | None
    """How often the job may be tried."""
    flags: Iterable[str] | None
    """Workers can be told to leave jobs with a flag alone."""


class JobOptions(_UsualOptions, total=False):
    """What may be said of a job that is added; None leaves it to the task, or to the database."""

    job_key: str | None
    """1 to 512 characters; a waiting job with this key is replaced."""
    job_key_mode: JobKeyMode | None
    """`replace` (the default), `preserve_run_at` or `unsafe_dedupe`."""
    run_at: dt.datetime | None
    """Aware datetime before which the job does not run."""
    delay: dt.timedelta | float | None
    """Instead of `run_at`, how long from now by the database's clock: a timedelta, or seconds."""


class DeferOptions(JobOptions, total=False):
    """What `defer` takes beside the payload."""

    notify: bool
    """Whether workers are told at once; if not, they find the job when they next look by themselves."""
    connection: BlockingConnection | None
    """A connection whose transaction the job joins: it exists once that commits."""


class AsyncDeferOptions(JobOptions, total=False):
    """What `defer_async` takes beside the payload."""

    notify: bool
    """As of `DeferOptions`."""
    connection: AsyncConnection | None
    """A connection of asyncio code, whose transaction the job joins."""


class KeyedOptions(_UsualOptions, total=False):
    """What `batch`, `debounce` and `throttle` take beside the payload, the key and the time."""

    notify: bool
    """As of `DeferOptions`."""
    connection: BlockingConnection | None
    """As of `DeferOptions`."""


class AsyncKeyedOptions(_UsualOptions, total=False):
    """What they take in asyncio code."""

    notify: bool
    """As of `DeferOptions`."""
    connection: AsyncConnection | None
    """As of `AsyncDeferOptions`."""


JOB_OPTIONS: Final = frozenset(
    ("job_key", "job_key_mode", "queue", "run_at", "delay", "priority", "max_attempts", "flags")
)
"""The names of a job's options."""
_LONGEST_STORED: Final = 1e9
"""Seconds, 30 years, for which a result may be stored."""
_DEFER_OPTIONS: Final = tuple(DeferOptions.__annotations__)
_KEYED_OPTIONS: Final = tuple(KeyedOptions.__annotations__)
_OF_THE_CALL: Final = ("notify", "connection")
_SAID_BY_KEY_AND_TIME: Final = ("job_key", "job_key_mode", "run_at", "delay")


def check_options(options: Mapping[str, Any], what: str, hint: str = "") -> None:
    """Complain of the first option of a job that there is not.

    Raises:
        JobOptionError: there is one.
    """
    for name in options:
        if name in _OF_THE_CALL:
            raise JobOptionError(f"{what} has no option {name!r}; give it to the call that adds the jobs")
        if name not in JOB_OPTIONS:
            similar = did_you_mean(name, _DEFER_OPTIONS)
            known = similar or f"; {hint}" if similar or hint else f"; it has {', '.join(_DEFER_OPTIONS)}"
            raise JobOptionError(f"{what} has no option {name!r}{known}")


def check_keyed_options(options: Mapping[str, Any], what: str) -> None:
    """Complain of an option that `batch` and its kin do not have.

    Raises:
        JobOptionError: there is one.
    """
    for name in _SAID_BY_KEY_AND_TIME:
        if name in options:
            raise JobOptionError(f"{what} has no option {name!r}; its key and its time say that")
    for name in options:
        if name not in _KEYED_OPTIONS:
            hint = did_you_mean(name, _KEYED_OPTIONS) or f"; it has {', '.join(_KEYED_OPTIONS)}"
            raise JobOptionError(f"{what} has no option {name!r}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What `@task` takes, each the default for the task's jobs. None leaves it to the database's default."""

    name: str | None = None
    """Name by which jobs call the task, at most 128 characters; the function's own by default."""
    queue: str | None = None
    """Queue for its jobs, which then run one at a time."""
    priority: int | None = None
    """From -32768 to 32767, lower runs earlier; 0 by default."""
    max_attempts: int | None = None
    """How often a job is tried; 25 by default."""
    flags: tuple[str, ...] | None = None
    """Flags for its jobs."""
    transactional: bool = False
    """Whether the job's end commits together with what the handler writes on `ctx.transaction`."""
    timeout: float | None = None
    """Seconds after which a running job is asked to stop; the setting `job_timeout` by default, `math.inf`: never."""
    grace: float | None = None
    """Seconds that it has for that, before its process is killed; the setting `job_grace` by default, `math.inf`: for
    ever."""
    store_result: float | bool = False
    """Whether what the handler returns is stored, and for how many seconds; True: as the setting `result_ttl` says."""
    retry: RetryFunction | None = None
    """When a job that has failed is tried again: `Backoff(…)`, a list of delays, or a function of the attempt and the
    error; by default after exp(attempts) seconds, six hours at most."""
    retry_on: tuple[type[BaseException], ...] | None = None
    """The only errors after which a job is tried again: an exception type, or several; all by default."""
    no_retry_on: tuple[type[BaseException], ...] = ()
    """Errors after which it is not: it has failed for good."""
    expected: tuple[type[BaseException], ...] = ()
    """Errors of which no traceback is logged or stored."""
    upgrade: Callable[[Any], Any] | None = None
    """A function that makes of any payload that is stored one that the handler takes today; called before each run."""
    invalid_payload: Literal["fail", "retry"] = "fail"
    """What becomes of a job whose payload the handler does not take: it has failed for good, or is tried again."""


def check_timeout(value: object) -> float:
    """Return a task's timeout in seconds, or raise `JobOptionError`."""
    if not (number := _number("timeout", value)) > 0:
        raise JobOptionError(f"timeout={number:g} must be more than 0 seconds; use math.inf for no time limit")
    return number


def check_grace(value: object) -> float:
    """Return a task's grace in seconds, or raise `JobOptionError`."""
    if not (number := _number("grace", value)) >= 0:
        raise JobOptionError(f"grace={number:g} must be at least 0 seconds; use math.inf to never kill a process")
    return number


def check_store_result(value: object) -> float | bool:
    """Return for how many seconds a task's results are stored, or whether, or raise `JobOptionError`."""
    if isinstance(value, bool):
        return value
    seconds = _number("store_result", value)
    if not 0 < seconds <= _LONGEST_STORED:
        raise JobOptionError(
            f"store_result={value!r} must be True, False, or how long: more than 0 and at most {_LONGEST_STORED:g} s"
        )
    return seconds


def _number(what: str, value: object) -> float:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise JobOptionError(f"{what}={value!r} must be a timedelta or a number of seconds, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf
