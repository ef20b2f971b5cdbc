"""What hooks are given and what they answer, beside jobs and tasks: plain frozen data."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pgtasks.errors import PluginError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import psycopg
    from pydantic import BaseModel

    from pgtasks.decorating import TaskDecorator
    from pgtasks.job import Job
    from pgtasks.registry import Registry
    from pgtasks.settings import Settings

Model = TypeVar("Model", bound="BaseModel")


class Role(enum.StrEnum):
    """What a process that loads plugins is for."""

    PRODUCER = "producer"
    """A program that adds jobs: it loads plugins when it does so for the first time."""
    COMMAND = "command"
    """A command of `pgtasks` other than `worker`."""
    SUPERVISOR = "supervisor"
    """The process that keeps a worker's processes alive."""
    WORKER = "worker"
    """A process that runs jobs, and the one that it is forked from."""


class Application(Protocol):
    """What plugins know of an `App`."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def registry(self) -> Registry:
        """The tasks; empty in the supervisor, which imports no code of the application's."""

    @property
    def task(self) -> TaskDecorator:
        """The decorator `@task` of the application."""

    @property
    def schema(self) -> str:
        """Name of the schema that holds the queue; as an identifier it is to be quoted (`psycopg.sql.Identifier`)."""

    @property
    def role(self) -> Role:
        """What this process is for."""

    def plugin_settings(self, name: str, model: type[Model]) -> Model:
        """Return a plugin's own settings, checked by its pydantic `model`."""

    def look_for_jobs(self) -> None:
        """Have this worker process look for jobs soon, from any thread: what a plugin has held back may run now."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend an autocommit connection, for a `with` block."""

    def async_connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit asyncio connection, for an `async with` block."""


class PayloadCodec(Protocol):
    """Turns the JSON text of payloads into what is stored, and back: to encrypt or to compress, for example.

    What is stored has to be JSON text, too. Both functions may be called from several threads at once.
    """

    def encode(self, text: str) -> str:
        """Return what is stored for a payload."""

    def decode(self, text: str) -> str:
        """Return the payload that `encode` was given; text that it has not made (jobs added by SQL) as it is."""


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What a process is about to claim. Answers may narrow it and never widen it."""

    limit: int
    """How many jobs at most."""
    free_slots: int
    """How many of them could start at once."""
    tasks: tuple[str, ...]
    """Of which tasks."""
    forbidden_flags: frozenset[str] = frozenset()
    """Jobs with any of these flags are left alone."""
    forbidden_queues: frozenset[str] = frozenset()
    """Jobs of these named queues are left alone."""


@dataclass(frozen=True, slots=True)
class ForbiddenFlags:
    """An answer of `forbidden_flags` that says for how long it holds."""

    flags: Iterable[str]
    seconds: float = 1.0
    """How long it may be used before the hook is called again, more than 0."""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise PluginError(f"ForbiddenFlags: seconds must be more than 0, not {self.seconds!r}")


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How one run of a job has ended, as the database has accepted it."""

    job: Job
    outcome: Literal["success", "retry", "fail", "cancel", "snooze", "return"]
    """What the run amounted to: `return` for a job that was asked to stop and went back uncharged."""
    state: Literal["deleted", "retrying", "failed", "snoozed", "returned", "superseded", "lost"]
    """What became of the row: `superseded` if a keyed add or a removal had replaced the job meanwhile; `lost` if
    somebody else holds it, so that nothing was written; it looks so, too, if a connection broke after the writing."""
    seconds: float
    """How long the handler ran."""
    error: str | None = None
    """The error as text, with its traceback, if there was one."""
    exception: BaseException | None = None
    """The exception itself, if the handler raised one."""
    timed_out: bool = False
    """Whether it had been asked to stop since it ran for longer than its `timeout`."""
    began: float = 0.0
    """When it was started, by `time.monotonic`; 0 if it was not, since no thread could be had."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A worker process."""

    worker_id: str
    """Who it is in the database."""
    index: int
    """Which one of its host, counted from 0."""
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What a worker process is doing."""

    process: ProcessInfo
    running: int
    """Slots with a job."""
    free: int
    """Slots without one."""
    queued: int
    """Jobs that it has claimed, and that wait for a slot."""


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The host that a supervisor is for."""

    host_id: str
    """Its id; those of its worker processes begin with it."""
    processes: int
    """How many worker processes it keeps."""
    concurrency: int
    """Slots of each."""
    tasks: tuple[str, ...]
    """Names of the tasks that they run."""
    states: tuple[ProcessState, ...] = ()
    """What its processes are doing; only `supervisor_tick` is told."""


@dataclass(frozen=True, slots=True)
class LostJob:
    """A job that was running in a worker process that has died."""

    job_id: int
    worker_id: str
    error: str
    """What it is going to be charged with."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the tables that a plugin needs."""

    number: int
    """Counted from 1, without gaps. A step that was released is never changed."""
    statements: str
    """Its SQL; `{schema}` stands for the quoted name of the queue's schema, `{{` and `}}` for braces."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check of a plugin's has found, for `pgtasks doctor`."""

    name: str
    """Of the check, in lower case with underscores; the plugin's name is put before it."""
    problem: str | None = None
    """What is wrong; None: nothing is."""
    fix: str = ""
    """What to do about it."""
    severity: Literal["note", "warning", "error"] = "warning"


Check = Callable[["psycopg.Connection[Any]"], Sequence[CheckResult]]
"""A check: it looks, on an autocommit connection, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure as it stands now."""

    name: str
    """As Prometheus names metrics: `pgtasks_slots_running`."""
    value: float
    kind: Literal["gauge", "counter"] = "gauge"
    help: str = ""
    """What it tells, in a sentence."""
    labels: Mapping[str, str] = field(default_factory=dict)
