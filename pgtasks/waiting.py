"""What whoever waits for a job gets: its result, or why there is none. `pgtasks.queue.hub` does the waiting."""

from __future__ import annotations

import datetime as dt
import functools
import math
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import psycopg

from pgtasks import codec as json_codec
from pgtasks.errors import (
    JobCancelledError,
    JobFailedError,
    JobOptionError,
    JobResultError,
    JobWaitTimeoutError,
    PayloadError,
)
from pgtasks.job import Job
from pgtasks.queue.arguments import check_id
from pgtasks.queue.failures import raise_better
from pgtasks.queue.hub import Waits
from pgtasks.queue.waits import ended_jobs

if TYPE_CHECKING:
    from pgtasks.database import Database, Operation
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.plugins import Dispatch
    from pgtasks.queue.waits import End
    from pgtasks.registry import Registry
    from pgtasks.settings import Settings
    from pgtasks.sql import Statements
    from pgtasks.tasks import AnyTask

T = TypeVar("T")
_making = threading.Lock()
_LONGEST = threading.TIMEOUT_MAX / 2
"""Seconds."""


class Awaiting:
    """The part of an App that waits for jobs to end."""

    _waits: tuple[Database, Waits] | None = None

    @property
    def statements(self) -> Statements:
        """The SQL statements."""
        raise NotImplementedError

    @property
    def database(self) -> Database:
        """The database."""
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """The settings."""
        raise NotImplementedError

    @property
    def hooks(self) -> Dispatch:
        """What calls the hooks of plugins."""
        raise NotImplementedError

    def run(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""
        raise NotImplementedError

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        """Run an operation."""
        raise NotImplementedError

    codec: PayloadCodec | None
    registry: Registry

    def wait_for(self, job: Job | int, timeout: dt.timedelta | float | None = None) -> Any:
        """Do what `job.wait` does, for a job or the id of one."""
        job_id, task, created_at = _asked(job)
        seconds = _seconds(timeout)
        try:
            if self.database.is_shared:
                end = self._waits_of(self.database).wait(job_id, created_at, seconds)
            else:
                end = _there(self.run(ended_jobs(self.statements, {job_id: created_at})), job_id)
        except psycopg.Error as error:
            self._explain(error)
        return self.result_of(end, task)

    async def wait_for_async(self, job: Job | int, timeout: dt.timedelta | float | None = None) -> Any:
        """Do what `wait_for` does, from asyncio code."""
        job_id, task, created_at = _asked(job)
        seconds = _seconds(timeout)
        try:
            if self.database.is_shared:
                end = await self._waits_of(self.database).wait_async(job_id, created_at, seconds)
            else:
                end = _there(await self.run_async(ended_jobs(self.statements, {job_id: created_at})), job_id)
        except psycopg.Error as error:
            self._explain(error)
        return self.result_of(end, task)

    def result_of(self, end: End, task: str | None = None) -> Any:
        """Return what a job's end gives to whoever has waited for it, or raise."""
        _ = self.hooks  # a plugin may have the codec
        return _result(end, self.registry.get(task or end.task or ""), self.codec)

    def _waits_of(self, database: Database) -> Waits:
        settings, sql = self.settings, self.statements
        with _making:
            if self._waits is None or self._waits[0] is not database:
                connect = functools.partial(database.connect, settings.listen_conninfo)
                waits = Waits(connect, sql, listen=settings.listen)
                database.on_close.append(waits.close)
                self._waits = database, waits
            return self._waits[1]

    def _explain(self, error: psycopg.Error) -> NoReturn:
        schema, conninfo = self.statements.schema, self.database.conninfo
        raise_better(error, schema=schema, conninfo=conninfo, pooled=True, doing="wait")


def _there(ends: dict[int, End], job_id: int) -> End:
    if job_id not in ends:
        raise JobWaitTimeoutError(
            f"job {job_id} has not ended, and in the transaction of a test nobody runs it meanwhile; use run_jobs first"
        )
    return ends[job_id]


def _asked(job: Job | object) -> tuple[int, str | None, dt.datetime | None]:
    if isinstance(job, Job):
        return job.id, job.task, job.created_at
    return check_id("job_id", job), None, None  # one that the database refuses would end all waits of this process


def _seconds(timeout: object) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (dt.timedelta, int, float)) or isinstance(timeout, bool):
        raise JobOptionError(
            f"timeout={timeout!r} must be a timedelta or a number of seconds, not {type(timeout).__name__}"
        )
    seconds = timeout.total_seconds() if isinstance(timeout, dt.timedelta) else float(timeout)
    if not seconds >= 0:
        raise JobOptionError(f"timeout={timeout!r} must be at least 0; None waits for as long as it takes")
    return min(seconds, _LONGEST) if seconds != math.inf else None


def _result(end: End, task: AnyTask | None, codec: PayloadCodec | None) -> Any:
    """Return what a job's end gives to whoever has waited for it, or raise."""
    if end.state == "failed":
        raise JobFailedError(end.job_id, end.error)
    if end.state == "cancelled":
        raise JobCancelledError(f"job {end.job_id} was cancelled" + (f": {end.error}" if end.error else ""))
    if end.value is not None:
        return _read(end.job_id, end.value, task, codec)
    if end.state == "gone" and task is not None and task.options.store_result:
        raise JobResultError(
            f"job {end.job_id} of task {task.name!r} has ended, and left no result: it has expired, the job was "
            "removed or ended by hand, or whoever ran it stores none"
        )
    return None


def _read(job_id: int, stored: bytes, task: AnyTask | None, codec: PayloadCodec | None) -> Any:
    text = stored
    if codec is not None:
        try:
            text = codec.decode(stored.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")
        except Exception as error:
            raise JobResultError(
                f"the payload codec cannot read the result of job {job_id}: {type(error).__name__}: {error}"
            ) from error
    try:
        return json_codec.decode(text) if task is None else task.result.read(text)
    except PayloadError as error:
        if text == b"null":  # a list that has forgotten items of a batch, whatever the annotation says
            return None
        raise JobResultError(f"the result of job {job_id} cannot be read: {error}") from error
