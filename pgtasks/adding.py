"""Adding jobs, from blocking and from asyncio code: on whose connection, in whose transaction.

A call that takes several statements is one transaction. Where one of the caller's is open, it is a savepoint in that:
of a call that fails nothing is left, whatever the caller does then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.pq import TransactionStatus

from pgtasks.connections import psycopg_connection, psycopg_connection_async
from pgtasks.errors import DatabaseUnavailableError, JobOptionError
from pgtasks.queue import bulk, enqueue
from pgtasks.queue.bulk import Result
from pgtasks.queue.failures import raise_better
from pgtasks.queue.rows import AddedJobs, job_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.database import Database, Operation
    from pgtasks.job import Job, JobSpec
    from pgtasks.plugins.producing import Outgoing
    from pgtasks.queue.bulk import Steps
    from pgtasks.queue.enqueue import Names
    from pgtasks.sql import Statements

T = TypeVar("T")
_Blocking = psycopg.Connection[Any] | None
_Async = psycopg.AsyncConnection[Any] | None


class Adding:
    """The part of an App that adds jobs."""

    @property
    def statements(self) -> Statements:
        """The SQL statements."""
        raise NotImplementedError

    @property
    def database(self) -> Database:
        """The database."""
        raise NotImplementedError

    @property
    def outgoing(self) -> Outgoing:
        """What plugins do to jobs that are added."""
        raise NotImplementedError

    def add_spec(self, spec: JobSpec, connection: BlockingConnection | None = None, *, notify: bool = True) -> Job:
        """Add one job."""
        raw = None if connection is None else psycopg_connection(connection, notify=notify)
        outgoing = self.outgoing
        job = self._add_spec(outgoing.spec(spec), raw, notify=notify)
        job.__dict__["_app"] = self
        if outgoing.after is not None:
            outgoing.after(jobs=[job])
        return job

    def _add_spec(self, spec: JobSpec, connection: _Blocking, *, notify: bool) -> Job:
        sql = self.statements
        if spec.job_key_mode != "unsafe_dedupe":
            return self._run(enqueue.add_job(sql, spec, notify=notify), connection)
        row = self._run(enqueue.put_job(sql, spec, notify=notify), connection)
        names: Names | None = None
        if enqueue.was_there(row):
            try:
                # In a savepoint, since a role that may not read names must not lose its transaction over them.
                with connection.transaction() if connection is not None else nullcontext():
                    names = self.database.run(enqueue.find_names(sql, row), connection)
            except (psycopg.Error, DatabaseUnavailableError) as error:
                if not _can_do_without_names(error, connection):
                    raise
        return job_from_row(row, *(names or (spec.task, spec.queue)))

    async def add_spec_async(
        self, spec: JobSpec, connection: AsyncConnection | None = None, *, notify: bool = True
    ) -> Job:
        """Do what `add_spec` does."""
        raw = None if connection is None else await psycopg_connection_async(connection, notify=notify)
        outgoing = self.outgoing
        job = await self._add_spec_async(outgoing.spec(spec), raw, notify=notify)
        job.__dict__["_app"] = self
        if outgoing.after is not None:
            outgoing.after(jobs=[job])
        return job

    async def _add_spec_async(self, spec: JobSpec, connection: _Async, *, notify: bool) -> Job:
        sql = self.statements
        if spec.job_key_mode != "unsafe_dedupe":
            return await self._run_async(enqueue.add_job(sql, spec, notify=notify), connection)
        row = await self._run_async(enqueue.put_job(sql, spec, notify=notify), connection)
        names: Names | None = None
        if enqueue.was_there(row):
            try:
                async with connection.transaction() if connection is not None else nullcontext():
                    names = await self.database.run_async(enqueue.find_names(sql, row), connection)
            except (psycopg.Error, DatabaseUnavailableError) as error:
                if not _can_do_without_names(error, connection):
                    raise
        return job_from_row(row, *(names or (spec.task, spec.queue)))

    def add_many(
        self,
        jobs: Iterable[Any],
        template: JobSpec | None,
        connection: BlockingConnection | None,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Add jobs that are given as specs, or as payloads of jobs like the template, in one transaction."""
        raw = None if connection is None else psycopg_connection(connection, notify=notify)
        source = _Source(jobs, self.outgoing, template)
        steps = self._steps(template, raw, notify=notify, returning=returning)
        try:
            with ExitStack() as transaction:
                shared: _Blocking = None
                reply: Any = None
                while not isinstance(step := steps.send(reply), Result):
                    if isinstance(step, int):
                        reply = source.take(step)
                    elif step.alone:
                        reply = self.database.run(step.operation, raw)
                    else:
                        if shared is None:
                            shared = transaction.enter_context(self._transaction(raw))
                        reply = self.database.run(step.operation, shared)
        except psycopg.Error as error:
            if error is source.failure:
                raise
            self._raise_better(error, raw, "add_jobs")
        source.raise_failure()
        source.tell(step.value)
        return self._bound(step.value)

    async def add_many_async(
        self,
        jobs: Iterable[Any] | AsyncIterable[Any],
        template: JobSpec | None,
        connection: AsyncConnection | None,
        *,
        notify: bool,
        returning: bool,
    ) -> Sequence[Job] | int:
        """Do what `add_many` does; the jobs may come from an asynchronous iterable, too."""
        raw = None if connection is None else await psycopg_connection_async(connection, notify=notify)
        source = _AsyncSource(jobs, self.outgoing, template)
        steps = self._steps(template, raw, notify=notify, returning=returning)
        try:
            async with AsyncExitStack() as transaction:
                shared: _Async = None
                reply: Any = None
                while not isinstance(step := steps.send(reply), Result):
                    if isinstance(step, int):
                        reply = await source.take_async(step)
                    elif step.alone:
                        reply = await self.database.run_async(step.operation, raw)
                    else:
                        if shared is None:
                            shared = await transaction.enter_async_context(self._transaction_async(raw))
                        reply = await self.database.run_async(step.operation, shared)
        except psycopg.Error as error:
            if error is source.failure:
                raise
            self._raise_better(error, raw, "add_jobs")
        source.raise_failure()
        source.tell(step.value)
        return self._bound(step.value)

    def _bound(self, jobs: Sequence[Job] | int) -> Sequence[Job] | int:
        """Let jobs be waited for."""
        if isinstance(jobs, AddedJobs):
            jobs.app = self
        return jobs

    def _run(self, operation: Operation[T], connection: _Blocking) -> T:
        try:
            return self.database.run(operation, connection)
        except psycopg.Error as error:
            self._raise_better(error, connection, "add_jobs")

    async def _run_async(self, operation: Operation[T], connection: _Async) -> T:
        try:
            return await self.database.run_async(operation, connection)
        except psycopg.Error as error:
            self._raise_better(error, connection, "add_jobs")

    def _raise_better(self, error: psycopg.Error, connection: object, doing: str) -> NoReturn:
        raise_better(
            error,
            schema=self.statements.schema,
            conninfo=self.database.conninfo,
            pooled=connection is None,
            doing=doing,
        )

    def _steps(
        self,
        template: JobSpec | None,
        connection: _Blocking | _Async,
        *,
        notify: bool,
        returning: bool,
    ) -> Steps:
        own = connection is None or (connection.autocommit and _status(connection) == TransactionStatus.IDLE)
        return bulk.add_many(self.statements, template, notify=notify, returning=returning, own_transaction=own)

    @contextmanager
    def _transaction(self, connection: _Blocking) -> Iterator[psycopg.Connection[Any]]:
        if connection is None:
            with self.database.connection() as pooled, pooled.transaction():
                yield pooled
            return
        if not connection.autocommit and _status(connection) == TransactionStatus.IDLE:
            connection.execute("select 1")  # begins the caller's transaction: ours would otherwise end it
        with connection.transaction():
            yield connection

    @asynccontextmanager
    async def _transaction_async(self, connection: _Async) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        if connection is None:
            async with self.database.async_connection() as pooled, pooled.transaction():
                yield pooled
            return
        if not connection.autocommit and _status(connection) == TransactionStatus.IDLE:
            await connection.execute("select 1")
        async with connection.transaction():
            yield connection


class _Source:
    """The caller's jobs, as they are asked for, and as plugins want them to be added."""

    def __init__(self, jobs: Iterable[Any], outgoing: Outgoing, template: JobSpec | None) -> None:
        self._outgoing = outgoing
        self._template = template
        try:
            self._jobs = iter(jobs)
        except TypeError:
            hint = "; defer_many_async takes asynchronous ones" if isinstance(jobs, AsyncIterable) else ""
            raise JobOptionError(f"jobs to add must be an iterable, not {type(jobs).__name__}{hint}") from None
        self.failure: BaseException | None = None
        """What the caller's code has raised, which is not for us to explain."""

    def take(self, count: int) -> list[Any]:
        """Return so many jobs, fewer at the end."""
        try:
            return self._outgoing.jobs(list(islice(self._jobs, count)), self._template)
        except BaseException as error:
            self.failure = error
            raise

    def raise_failure(self) -> None:
        """Raise it again, should a transaction have kept it to itself: that is what it does with `psycopg.Rollback`."""
        if self.failure is not None:
            raise self.failure

    def tell(self, added: Sequence[Job] | int) -> None:
        """Tell plugins of what was added."""
        if self._outgoing.after is not None and not isinstance(added, int):
            self._outgoing.after(jobs=added)


class _AsyncSource(_Source):
    """The same where the jobs may come from an asynchronous iterable."""

    def __init__(self, jobs: Iterable[Any] | AsyncIterable[Any], outgoing: Outgoing, template: JobSpec | None) -> None:
        self._later = aiter(jobs) if isinstance(jobs, AsyncIterable) else None
        super().__init__(() if isinstance(jobs, AsyncIterable) else jobs, outgoing, template)

    async def take_async(self, count: int) -> list[Any]:
        """Return so many jobs, fewer at the end."""
        if self._later is None:
            await asyncio.sleep(0)  # the event loop need not stand still for all of them
            return self.take(count)
        taken: list[Any] = []
        try:
            async for job in self._later:
                taken.append(job)
                if len(taken) == count:
                    break
            return self._outgoing.jobs(taken, self._template)
        except BaseException as error:
            self.failure = error
            raise


def _status(connection: Any) -> int:
    status: int = connection.pgconn.transaction_status
    return status


def _can_do_without_names(error: Exception, connection: object) -> bool:
    """Whether the job, which has been added, is returned under the names that its spec says."""
    return connection is None or isinstance(error, pg.InsufficientPrivilege)
