"""The `App`: the one place where settings, database, tasks and queue meet."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors as pg

from pgtasks import embedded
from pgtasks.administration import AsyncJobs, Jobs
from pgtasks.database import Database, explain
from pgtasks.database.errors import is_connection_lost, reason_of
from pgtasks.errors import AppLoadError, DatabaseUnavailableError, JobOptionError, SchemaPendingError
from pgtasks.job import Job, JobKeyMode, JobSpec, check_flags
from pgtasks.logs import get_logger
from pgtasks.queue import enqueue
from pgtasks.registry import Registry, TaskDecorator, default_registry
from pgtasks.settings import Settings, load_settings, redact
from pgtasks.sql import Statements

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from pgtasks.database import Operation, Row
    from pgtasks.queue.enqueue import Names

T = TypeVar("T")
log = get_logger("pgtasks.app")


class App:
    """An application: its tasks, its settings and its database.

    Nothing is read or connected before it is needed. Most programs need no App of their own: `@task` and `defer` use
    one that is made from the settings. Make one to set something in code, or to hold several applications apart.

    Args:
        registry: where tasks are registered; by default the registry of `pgtasks.task`, for which the newest App made
            so is the one that adds jobs.
        settings: any settings by name (`docs/reference/settings.md`), which then come before the environment and the
            settings file.

    Example:
        >>> from pgtasks import App
        >>> app = App(schema="graphile_worker", concurrency=20)
    """

    def __init__(self, *, registry: Registry | None = None, **settings: Any) -> None:
        self.registry = registry if registry is not None else default_registry
        self.task = TaskDecorator(self.registry, lambda: self)
        self._explicit = settings
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._database: Database | None = None
        self._statements: Statements | None = None
        if registry is None:
            _Current.app = self

    @property
    def settings(self) -> Settings:
        """The settings, read when first asked for.

        Raises:
            SettingsError: one is unknown or has a value that cannot be used.
        """
        with self._lock:
            if self._settings is None:
                self._settings = load_settings(self._explicit, source="App")
            return self._settings

    @property
    def database(self) -> Database:
        """The database that the settings name, or else the project's embedded server, started when first asked for.

        Raises:
            DatabaseUnavailableError: none is configured and the extra `embedded` is not installed.
        """
        with self._lock:
            if self._database is None:
                settings = self.settings
                conninfo = settings.conninfo
                if conninfo is None:
                    lease = embedded.acquire(directory=settings.embedded_dir)
                    log.warning("embedded_started", directory=str(lease.directory), started=lease.started)
                    conninfo = lease.conninfo
                self._database = Database(conninfo, max_connections=settings.pool_max_size)
            return self._database

    @property
    def statements(self) -> Statements:
        """The SQL statements, for the schema that the settings name."""
        with self._lock:
            if self._statements is None:
                self._statements = Statements(self.settings.schema_name)
            return self._statements

    def configure(self, settings: Settings) -> None:
        """Use these settings in place of those that would be read. For a worker's processes, before any other use."""
        with self._lock:
            if self._database is not None:
                raise AppLoadError(
                    "the application has used the database while it was imported, and a connection cannot be taken "
                    "into worker processes; move adding jobs and the like from module level into functions"
                )
            self._settings = settings
            self._statements = None

    def override(self, settings: Mapping[str, Any]) -> None:
        """Let the command line's settings win over those of the constructor."""
        with self._lock:
            merged = {**self._explicit, **settings}
            self.configure(load_settings(merged, source="command line"))
            self._explicit = merged

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend an autocommit connection of the application's pool, for a `with` block.

        Raises:
            DatabaseUnavailableError: no connection could be had.
        """
        return self.database.connection()

    def async_connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend an autocommit asyncio connection of the event loop's pool, for an `async with` block."""
        return self.database.async_connection()

    def add_job(
        self,
        task: str,
        payload: Any = None,
        /,
        *,
        job_key: str | None = None,
        job_key_mode: JobKeyMode | None = None,
        queue: str | None = None,
        run_at: dt.datetime | None = None,
        delay: dt.timedelta | float | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Job:
        """Add a job for a task by its name, which need not be known here; options and errors as for `Task.defer`."""
        spec = _spec(task, payload, job_key, job_key_mode, queue, run_at, delay, priority, max_attempts, flags)
        return self.add_spec(spec, connection)

    async def add_job_async(
        self,
        task: str,
        payload: Any = None,
        /,
        *,
        job_key: str | None = None,
        job_key_mode: JobKeyMode | None = None,
        queue: str | None = None,
        run_at: dt.datetime | None = None,
        delay: dt.timedelta | float | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        flags: Iterable[str] | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Job:
        """Do what `add_job` does, from asyncio code."""
        spec = _spec(task, payload, job_key, job_key_mode, queue, run_at, delay, priority, max_attempts, flags)
        return await self.add_spec_async(spec, connection)

    def add_jobs(self, specs: Iterable[JobSpec], /, *, connection: psycopg.Connection[Any] | None = None) -> list[Job]:
        """Add jobs of any tasks in one statement: all of them or, on an error, none."""
        return self.add_specs(list(specs), connection)

    async def add_jobs_async(
        self, specs: Iterable[JobSpec], /, *, connection: psycopg.AsyncConnection[Any] | None = None
    ) -> list[Job]:
        """Do what `add_jobs` does, from asyncio code."""
        return await self.add_specs_async(list(specs), connection)

    @property
    def jobs(self) -> Jobs:
        """Looking at jobs and changing them by hand, from blocking code: see `Jobs`."""
        return Jobs(self)

    @property
    def jobs_async(self) -> AsyncJobs:
        """Looking at jobs and changing them by hand, from asyncio code: see `AsyncJobs`."""
        return AsyncJobs(self)

    def close(self) -> None:
        """Close the connections that blocking code has opened."""
        if self._database is not None:
            self._database.close()

    async def aclose(self) -> None:
        """Close the connections that code in the running event loop has opened."""
        if self._database is not None:
            await self._database.aclose()

    # What a Task calls: the Enqueuer protocol.

    def add_spec(self, spec: JobSpec, connection: psycopg.Connection[Any] | None = None) -> Job:
        """Add one job."""
        _check_connection(connection, psycopg.Connection)
        return self._add(enqueue.add_job(self.statements, spec), [spec], connection)[0]

    async def add_spec_async(self, spec: JobSpec, connection: psycopg.AsyncConnection[Any] | None = None) -> Job:
        """Add one job."""
        _check_connection(connection, psycopg.AsyncConnection)
        return (await self._add_async(enqueue.add_job(self.statements, spec), [spec], connection))[0]

    def add_specs(self, specs: Sequence[JobSpec], connection: psycopg.Connection[Any] | None = None) -> list[Job]:
        """Add many jobs in one statement."""
        _check_connection(connection, psycopg.Connection)
        return self._add(enqueue.add_jobs(self.statements, specs), specs, connection) if specs else []

    async def add_specs_async(
        self, specs: Sequence[JobSpec], connection: psycopg.AsyncConnection[Any] | None = None
    ) -> list[Job]:
        """Add many jobs in one statement."""
        _check_connection(connection, psycopg.AsyncConnection)
        return await self._add_async(enqueue.add_jobs(self.statements, specs), specs, connection) if specs else []

    # What `Jobs` and `AsyncJobs` call: the Host protocol.

    def run(self, operation: Operation[T], connection: psycopg.Connection[Any] | None = None) -> T:
        """Run an operation, on the given connection or on one of the pool."""
        _check_connection(connection, psycopg.Connection)
        with self._explained(connection, doing=operation.name):
            return self.database.run(operation, connection)

    async def run_async(self, operation: Operation[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        """Run an operation, on the given connection or on one of the event loop's pool."""
        _check_connection(connection, psycopg.AsyncConnection)
        with self._explained(connection, doing=operation.name):
            return await self.database.run_async(operation, connection)

    def _add(
        self, operation: Operation[list[Row]], specs: Sequence[JobSpec], connection: psycopg.Connection[Any] | None
    ) -> list[Job]:
        with self._explained(connection):
            rows = self.database.run(operation, connection)
        names = enqueue.known_names(rows, specs)
        if names is None:
            question = enqueue.find_names(self.statements, rows, specs)
            try:
                # In a savepoint, since a role that may not read names must not lose its transaction over them.
                with connection.transaction() if connection is not None else nullcontext():
                    names = self.database.run(question, connection)
            except (psycopg.Error, DatabaseUnavailableError) as error:
                names = _without_names(error, connection, rows, specs)
        return enqueue.jobs_of(rows, names)

    async def _add_async(
        self, operation: Operation[list[Row]], specs: Sequence[JobSpec], connection: psycopg.AsyncConnection[Any] | None
    ) -> list[Job]:
        with self._explained(connection):
            rows = await self.database.run_async(operation, connection)
        names = enqueue.known_names(rows, specs)
        if names is None:
            question = enqueue.find_names(self.statements, rows, specs)
            try:
                async with connection.transaction() if connection is not None else nullcontext():
                    names = await self.database.run_async(question, connection)
            except (psycopg.Error, DatabaseUnavailableError) as error:
                names = _without_names(error, connection, rows, specs)
        return enqueue.jobs_of(rows, names)

    @contextmanager
    def _explained(self, connection: object, doing: str = "add_jobs") -> Iterator[None]:
        try:
            yield
        except (pg.InvalidSchemaName, pg.UndefinedFunction, pg.UndefinedTable) as error:
            raise SchemaPendingError(
                f"the schema {self.settings.schema_name!r} holds no queue: run `pgtasks migrate`, or start a worker "
                f"({error.diag.message_primary})"
            ) from error
        except pg.InsufficientPrivilege as error:
            raise explain(error, self.database.conninfo) from error
        except pg.InvalidTransactionState as error:  # raised by our own function
            raise JobOptionError(str(error.diag.message_primary)) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            # What becomes of a connection of the caller's is the caller's business.
            if connection is not None or not is_connection_lost(error):
                raise
            raise DatabaseUnavailableError(
                f"the connection to {redact(self.database.conninfo)} was lost during {doing}; "
                f"it is not known whether that was done ({reason_of(error)})"
            ) from error


class _Current:
    app: App | None = None


def current_app() -> App:
    """Return the App that `pgtasks.task` adds jobs through: the newest that was made, or else one from the settings."""
    if _Current.app is None:
        App()
    assert _Current.app is not None
    return _Current.app


task = TaskDecorator(default_registry, current_app)
"""`@task`: see `TaskDecorator`."""


def _spec(
    task: str,
    payload: Any,
    job_key: str | None,
    job_key_mode: JobKeyMode | None,
    queue: str | None,
    run_at: dt.datetime | None,
    delay: dt.timedelta | float | None,
    priority: int | None,
    max_attempts: int | None,
    flags: Iterable[str] | None,
) -> JobSpec:
    return JobSpec(
        task=task,
        payload=payload,
        job_key=job_key,
        job_key_mode=job_key_mode,
        queue=queue,
        run_at=run_at,
        delay=delay,
        priority=priority,
        max_attempts=max_attempts,
        flags=None if flags is None else check_flags(flags),
    )


def _without_names(error: Exception, connection: object, rows: Sequence[Row], specs: Sequence[JobSpec]) -> Names:
    """Do without the database's answer where that is possible: the jobs have been added."""
    if connection is not None and not isinstance(error, pg.InsufficientPrivilege):
        raise error
    return enqueue.likely_names(rows, specs)


def _check_connection(connection: object, kind: type[Any]) -> None:
    if connection is not None and not isinstance(connection, kind):
        raise JobOptionError(
            f"connection must be a psycopg.{kind.__name__} here, not {type(connection).__module__}."
            f"{type(connection).__qualname__}"
        )
