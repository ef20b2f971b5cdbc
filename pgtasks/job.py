"""What travels between the layers: jobs as the database holds them, jobs to be added, and how a run of one ended.

All of it is frozen. Times are aware datetimes; a time outside Python's years 1 to 9999 (PostgreSQL's `infinity`
included) appears as the nearest end of that range, in UTC.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, cast, get_args

from typing_extensions import TypeVar

from pgtasks import codec
from pgtasks.errors import JobOptionError, did_you_mean

JobKeyMode = Literal["replace", "preserve_run_at", "unsafe_dedupe"]
"""What happens to a job that has the same key: see `docs/reference/jobs.md`."""

R_co = TypeVar("R_co", covariant=True, default=Any)

EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Where PostgreSQL's times begin."""
MICROSECOND = dt.timedelta(microseconds=1)
EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)
_SMALLINT = range(-(2**15), 2**15)
_MAX_NAME_LENGTH = 128
_MAX_KEY_LENGTH = 512
_LONGEST_DELAY = 9e12
"""Seconds, 285,000 years: PostgreSQL's times end in the year 294276, and its intervals at 292,000 years."""


if TYPE_CHECKING:
    from functools import cached_property as _once
else:

    class _once:  # noqa: N801 - a decorator
        """A property that is computed once, as of functools, but without the lock that it has before Python 3.12."""

        def __init__(self, compute):
            self._compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._compute(instance)
            return value


def time_at(micros: int) -> dt.datetime:
    """Return the time so many microseconds after the beginning of 2000, or the nearest that a datetime can hold."""
    try:
        return EPOCH + dt.timedelta(0, 0, micros)
    except OverflowError:
        return EARLIEST if micros < 0 else LATEST


@dataclass(frozen=True, slots=True)
class Claim:
    """One taking of a job by a worker: the token without which nothing about the job may be written."""

    job_id: int
    locked_at: dt.datetime
    """When it was taken, which tells two claims of one job by one worker apart."""
    keyed: bool
    """Whether the job had a key then; a keyed job without its key was superseded meanwhile."""

    @property
    def token(self) -> tuple[int, int]:
        """What tells it from all others: the job's id, and `locked_at` in microseconds since 2000."""
        return self.job_id, (self.locked_at - EPOCH) // MICROSECOND


class Waiting(Protocol):
    """What a job that an `App` has returned is bound to, so that one can wait for its end: that App."""

    def wait_for(self, job: Job[Any], timeout: dt.timedelta | float | None) -> Any:
        """Wait until a job has ended, and return its result."""

    async def wait_for_async(self, job: Job[Any], timeout: dt.timedelta | float | None) -> Any:
        """Do what `wait_for` does."""


@dataclass(frozen=True)
class Job(Generic[R_co]):
    """A job as the database held it at the moment it was read.

    For type checkers `Job[R]` is one whose task returns an `R`; a plain `Job` is of any task.
    """

    id: int
    """Number of the job, unique and rising within a schema."""
    task: str
    """Name of the task that runs it."""
    queue: str | None
    """Name of its queue, whose jobs run one at a time; None for a job that runs beside any other."""
    payload_json: str | bytes = field(repr=False)
    """The payload as JSON text, just as the database holds it."""
    priority: int
    """Lower runs earlier."""
    run_at: dt.datetime
    """Not to be run before this time."""
    attempts: int
    """How often it was started, the run under way included."""
    max_attempts: int
    """How often it may be started before it is permanently failed."""
    last_error: str | None = field(repr=False)
    """Why its last attempt failed."""
    created_at: dt.datetime
    updated_at: dt.datetime
    key: str | None
    """The job key by which it is replaced or removed, unique while it is set."""
    locked_at: dt.datetime | None
    """Since when a worker holds it."""
    locked_by: str | None
    """The worker that holds it."""
    revision: int
    """How often a keyed add has changed it."""
    flags: tuple[str, ...] = ()
    """Its flags, sorted; a worker skips a job that has a forbidden one."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Decode a field that the maker of this job has left for when it is asked for."""
            read = self.__dict__.get("_later")
            if read is not None:
                with contextlib.suppress(KeyError):
                    value = self.__dict__[name] = read(self._row, name)
                    return value
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @_once
    def payload(self) -> Any:
        """The payload as a Python value.

        Raises:
            PayloadError: no Python value stands for the stored JSON.
        """
        return codec.decode(self.payload_json)

    @_once
    def locked_micros(self) -> int:
        """`locked_at` in microseconds since 2000, as PostgreSQL keeps it."""
        assert self.locked_at is not None, "a job that nobody holds has no claim"
        return (self.locked_at - EPOCH) // MICROSECOND

    @_once
    def due_micros(self) -> int:
        """When it became due, the later of `run_at` and `created_at`, in microseconds since 2000.

        Who measures how long jobs wait has it for a third of what two datetimes cost.
        """
        read = self.__dict__.get("_later")
        if read is not None:
            with contextlib.suppress(KeyError):
                return cast("int", read(self.__dict__["_row"], "due_micros"))
        return (max(self.run_at, self.created_at) - EPOCH) // MICROSECOND

    def wait(self, timeout: dt.timedelta | float | None = None) -> R_co:
        """Wait until the job has ended.

        Args:
            timeout: how long at most, as a timedelta or in seconds; None: for as long as it takes.

        Returns:
            What the handler has returned, if its task has `store_result`; else None, also if the job was removed.

        Raises:
            JobFailedError: it has failed for good.
            JobCancelledError: it was cancelled.
            JobWaitTimeoutError: it has not ended in time; a `TimeoutError`, too.
            JobResultError: its task stores results, and there is none, or it cannot be read.
            JobOptionError: the job was not returned by an App, or is not there since its transaction is still open.
            DatabaseUnavailableError: the database cannot be reached.
        """
        result: R_co = self._waiting.wait_for(self, timeout)
        return result

    async def wait_async(self, timeout: dt.timedelta | float | None = None) -> R_co:
        """Do what `wait` does, from asyncio code."""
        result: R_co = await self._waiting.wait_for_async(self, timeout)
        return result

    @property
    def _waiting(self) -> Waiting:
        bound: Waiting | None = self.__dict__.get("_app")
        if bound is None:
            raise JobOptionError(
                f"job {self.id} cannot be waited for by itself, since it was not returned by an App that added it or "
                f"looked it up; use App.jobs.wait({self.id})"
            )
        return bound

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_app"}

    @property
    def claim(self) -> Claim:
        """The claim by which its worker holds it."""
        assert self.locked_at is not None, "a job that nobody holds has no claim"
        return Claim(self.id, self.locked_at, self.key is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A job that is to be added. What is None is left to the database's defaults.

    Raises:
        JobOptionError: an option cannot be stored. It is checked here, before a statement could fail and take the
            caller's transaction with it.
    """

    task: str
    """Name of the task, at most 128 characters."""
    payload: Any = None
    """A value that JSON can hold; None stands for an empty object."""
    queue: str | None = None
    """Name of the queue, at most 128 characters."""
    run_at: dt.datetime | None = None
    """Aware datetime before which the job does not run; None: at once."""
    delay: dt.timedelta | float | None = None
    """Instead of `run_at`: how long after now, by the database's clock, as a timedelta or in seconds."""
    priority: int | None = None
    """From -32768 to 32767, lower runs earlier; None: 0."""
    max_attempts: int | None = None
    """From 1 to 32767; None: 25."""
    job_key: str | None = None
    """1 to 512 characters."""
    job_key_mode: JobKeyMode | None = None
    """None: `replace`."""
    flags: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_text("task", self.task, _MAX_NAME_LENGTH)
        if self.queue is not None:
            _check_text("queue", self.queue, _MAX_NAME_LENGTH)
        if self.job_key is not None:
            check_job_key(self.job_key)
        if self.job_key_mode is not None:
            _check_mode(self.job_key_mode, self.job_key)
        if self.run_at is not None or self.delay is not None:
            _check_times(self.run_at, self.delay)
        if self.priority is not None:
            check_priority(self.priority)
        if self.max_attempts is not None:
            check_max_attempts(self.max_attempts)
        if self.flags is not None:
            object.__setattr__(self, "flags", check_flags(self.flags))

    @property
    def delay_seconds(self) -> float | None:
        """The delay in seconds."""
        return None if self.delay is None else _seconds(self.delay)


class OutcomeKind(enum.StrEnum):
    """How a claim of a job ends."""

    SUCCESS = "success"
    """It ran; it is deleted."""
    RETRY = "retry"
    """It failed; it runs again later, or is permanently failed if that was its last attempt."""
    FAIL = "fail"
    """It failed and will not run again."""
    CANCEL = "cancel"
    """Somebody has decided that it is not to run (again); it is deleted."""
    SNOOZE = "snooze"
    """It did not do its work; it runs again later, and the attempt is not counted."""
    RETURN = "return"
    """It was not started; it goes back as it was, and the attempt is not counted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one claimed job, before the database is told."""

    kind: OutcomeKind
    error: str | None = None
    """What to store as `last_error`."""
    delay: float | None = None
    """Seconds until the next attempt; None: the usual back-off."""
    payload_json: str | None = None
    """What is left of the payload for the next attempt; None: all of it."""
    run_at: dt.datetime | None = None
    """Instead of a delay: when the next attempt is."""


SUCCESS = Outcome(OutcomeKind.SUCCESS)
RETURN = Outcome(OutcomeKind.RETURN)


class Completion(NamedTuple):
    """A job with its outcome, on the way to the database."""

    job: Job
    outcome: Outcome
    seconds: float = 0.0
    """How long the handler ran."""
    written: bool = False
    """Whether the database has accepted the outcome already, in a transaction of the job's own."""
    began: float = 0.0
    """When it was started, by `time.monotonic`; 0 if it was not."""
    exception: BaseException | None = None
    """What the handler has raised."""
    timed_out: bool = False
    """Whether the job was asked to stop over its time limit."""
    ran: bool = True
    """Whether it was started; a job may go back, or be refused, before."""
    result_json: str | None = None
    """What its handler has returned, of a task that stores results."""
    unanswered: bool = False
    """Whether the job's own transaction has perhaps ended it: nobody has heard what became of its commit."""


def check_priority(priority: int) -> None:
    """Raise `JobOptionError` unless `priority` fits the database's smallint."""
    _check_integer("priority", priority)
    if priority not in _SMALLINT:
        raise JobOptionError(
            f"priority={priority} is out of range: it must be from {_SMALLINT.start} to {_SMALLINT.stop - 1}"
        )


def check_max_attempts(max_attempts: int) -> None:
    """Raise `JobOptionError` unless `max_attempts` is from 1 to 32767."""
    _check_integer("max_attempts", max_attempts)
    if not 1 <= max_attempts < _SMALLINT.stop:
        raise JobOptionError(f"max_attempts={max_attempts} is out of range: it must be from 1 to {_SMALLINT.stop - 1}")


def check_flags(flags: object) -> tuple[str, ...]:
    """Return `flags`, any iterable of strings, as a tuple, or raise `JobOptionError`."""
    if isinstance(flags, str):
        raise JobOptionError(f"flags={flags!r} must be a list of strings; write flags=[{flags!r}]")
    try:
        checked: tuple[object, ...] = tuple(flags)  # type: ignore[arg-type]  # tried, since anything may be given
    except TypeError:
        raise JobOptionError(f"flags={flags!r} must be a list of strings") from None
    for flag in checked:
        _check_text("flag", flag, None)
    return cast("tuple[str, ...]", checked)


def check_queue(queue: str) -> None:
    """Raise `JobOptionError` unless `queue` can be the name of a queue."""
    _check_text("queue", queue, _MAX_NAME_LENGTH)


def check_job_key(key: str) -> None:
    """Raise `JobOptionError` unless `key` can be the key of a job."""
    _check_text("job_key", key, _MAX_KEY_LENGTH)


def check_task_name(name: str, what: str = "task") -> None:
    """Raise `JobOptionError` unless `name`, which messages call `what`, can be the name of a task."""
    _check_text(what, name, _MAX_NAME_LENGTH)


def _check_text(what: str, value: object, longest: int | None) -> None:
    if not isinstance(value, str):
        raise JobOptionError(f"{what}={value!r} must be a string, not {type(value).__name__}")
    if not value:
        raise JobOptionError(f"{what} must not be empty")
    if longest is not None and len(value) > longest:
        raise JobOptionError(f"{what} has {len(value)} characters, at most {longest} can be stored: {value[:40]!r}…")
    if "\0" in value:
        raise JobOptionError(f"{what}={value!r} holds a NUL character, which PostgreSQL cannot store")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise JobOptionError(f"{what}={value!r} holds a lone surrogate, which PostgreSQL cannot store")


def _check_integer(what: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise JobOptionError(f"{what}={value!r} must be a whole number, not {type(value).__name__}")


def _check_mode(mode: object, key: str | None) -> None:
    known = get_args(JobKeyMode)
    if mode not in known:
        hint = did_you_mean(str(mode), known)
        raise JobOptionError(f"job_key_mode={mode!r} is none of {', '.join(map(repr, known))}{hint}")
    if key is None:
        raise JobOptionError(f"job_key_mode={mode!r} does nothing without a job_key; give both or neither")


def _check_times(run_at: object, delay: object) -> None:
    if run_at is not None:
        if delay is not None:
            raise JobOptionError("run_at and delay both say when the job runs; give one of them")
        if not isinstance(run_at, dt.datetime):
            raise JobOptionError(f"run_at={run_at!r} must be a datetime, not {type(run_at).__name__}")
        if run_at.utcoffset() is None:
            raise JobOptionError(
                f"run_at={run_at!r} has no time zone; say which is meant, "
                f"for example with .replace(tzinfo=datetime.UTC)"
            )
    if delay is not None:
        if not isinstance(delay, (dt.timedelta, int, float)) or isinstance(delay, bool):
            raise JobOptionError(
                f"delay={delay!r} must be a timedelta or a number of seconds, not {type(delay).__name__}"
            )
        seconds = _seconds(delay)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise JobOptionError(f"delay={delay!r} must not be negative or infinite")
        if seconds > _LONGEST_DELAY:
            raise JobOptionError(f"delay={delay!r} is longer than PostgreSQL's calendar")


def _seconds(delay: dt.timedelta | float) -> float:
    if isinstance(delay, dt.timedelta):
        return delay.total_seconds()
    try:
        return float(delay)
    except OverflowError:
        return math.inf
