"""The `App`: the one place where settings, database, tasks and queue meet."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Unpack, overload
from weakref import WeakSet

import psycopg

from pgtasks import embedded
from pgtasks.adding import Adding
from pgtasks.administration import AsyncJobs, Jobs
from pgtasks.connections import psycopg_connection, psycopg_connection_async
from pgtasks.cron.declared import declare
from pgtasks.database import Database
from pgtasks.decorating import TaskDecorator
from pgtasks.errors import AppLoadError, CronError, JobOptionError
from pgtasks.job import Job, JobSpec, check_flags, check_task_name
from pgtasks.logs import get_logger
from pgtasks.options import JobOptions, check_options
from pgtasks.plugged import Plugged, split_plugins
from pgtasks.registry import Registry, default_registry
from pgtasks.settings import Settings, load_settings
from pgtasks.sql import Statements
from pgtasks.tasks import name_of
from pgtasks.timetables import AsyncTimetables, Timetables
from pgtasks.waiting import Awaiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from pydantic import BaseModel

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.cron.declared import CronOptions
    from pgtasks.database import Operation
    from pgtasks.tasks import AnyTask

T = TypeVar("T")
Model = TypeVar("Model", bound="BaseModel")
log = get_logger("pgtasks.app")


class App(Plugged, Adding, Awaiting):
    """An application: its tasks, its settings and its database.

    Nothing is read or connected before it is needed. Most programs need no App of their own: `@task` and `defer` use
    one that is made from the settings. Make one to set something in code, or to hold several applications apart.

    Args:
        registry: where tasks are registered; by default the registry of `pgtasks.task`, for which the newest App made
            so is the one that adds jobs.
        plugins: plugins of the application's own: modules, objects or classes with `@hookimpl` functions. Text names
            one that is installed, like the setting `plugins`.
        forbidden_flags: flags whose jobs its workers leave alone; or a function, plain or `async def`, that returns
            them whenever workers ask, about once a second.
        settings: any settings by name (`docs/reference/settings.md`), which then come before the environment and the
            settings file.

    Examples:
        >>> from pgtasks import App
        >>> app = App(schema="graphile_worker", concurrency=20)
    """

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        plugins: Iterable[Any] = (),
        forbidden_flags: Iterable[str] | Callable[[], Any] | None = None,
        **settings: Any,
    ) -> None:
        self.registry = registry if registry is not None else default_registry
        self.task = TaskDecorator(self.registry, lambda: self)
        named, own = split_plugins(plugins)
        super().__init__(own, forbidden_flags if callable(forbidden_flags) else None)
        if named:
            settings["plugins"] = named
        if forbidden_flags is not None and not callable(forbidden_flags):
            settings["forbidden_flags"] = forbidden_flags
        self._explicit = settings
        self._settings: Settings | None = None
        self._database: Database | None = None
        self._statements: Statements | None = None
        _Current.apps.add(self)
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
        if self._database is not None:  # so that who adds jobs takes no lock
            return self._database
        with self._lock:
            if self._database is None:
                self._database = (_Current.open_database or _open_database)(self)
                self._database.session_statements = self.session_statements()
            return self._database

    @property
    def statements(self) -> Statements:
        """The SQL statements, for the schema that the settings name."""
        if self._statements is not None:
            return self._statements
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
            self.configure(load_settings(self._explicit, source="App", options=settings))

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
        notify: bool = True,
        connection: BlockingConnection | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Add a job for a task by its name, which need not be known here; options and errors as for `Task.defer`."""
        return self.add_spec(self._spec(task, payload, options), connection, notify=notify)

    async def add_job_async(
        self,
        task: str,
        payload: Any = None,
        /,
        *,
        notify: bool = True,
        connection: AsyncConnection | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Do what `add_job` does, from asyncio code."""
        return await self.add_spec_async(self._spec(task, payload, options), connection, notify=notify)

    def _spec(self, task: str, payload: Any, options: JobOptions) -> JobSpec:
        check_options(options, "add_job")
        known = self.registry.get(task)
        if known is not None and not known.payload.is_any:
            payload = known.payload.dump(payload)
        given: dict[str, Any] = {**options}
        if (flags := given.get("flags")) is not None:
            given["flags"] = check_flags(flags)
        return JobSpec(task=task, payload=payload, **given)

    @overload
    def add_jobs(
        self,
        specs: Iterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: BlockingConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    def add_jobs(
        self,
        specs: Iterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: BlockingConnection | None = None,
    ) -> int: ...

    def add_jobs(
        self,
        specs: Iterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: BlockingConnection | None = None,
    ) -> Sequence[Job] | int:
        """Add any number of jobs, of any tasks: all of them or, on an error, none. As `Task.defer_many` does."""
        return self.add_many(specs, None, connection, notify=notify, returning=returning)

    @overload
    async def add_jobs_async(
        self,
        specs: Iterable[JobSpec] | AsyncIterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[True] = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job]: ...

    @overload
    async def add_jobs_async(
        self,
        specs: Iterable[JobSpec] | AsyncIterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: Literal[False],
        connection: AsyncConnection | None = None,
    ) -> int: ...

    async def add_jobs_async(
        self,
        specs: Iterable[JobSpec] | AsyncIterable[JobSpec],
        /,
        *,
        notify: bool = True,
        returning: bool = True,
        connection: AsyncConnection | None = None,
    ) -> Sequence[Job] | int:
        """Do what `add_jobs` does, from asyncio code; the specs may come from an asynchronous iterable, too."""
        return await self.add_many_async(specs, None, connection, notify=notify, returning=returning)

    def cron(self, schedule: str, task: AnyTask | str, /, **options: Unpack[CronOptions]) -> None:
        """Have workers of this application add a job at the times of a schedule.

        Args:
            schedule: `minute hour day month weekday` as in a crontab, or `@hourly`, `@daily` and the like.
            task: one of this application, or the name of any, which need not be known here.
            options: as of `Task.cron`.

        Raises:
            CronError: as of `Task.cron`; or the task is of another application.
        """
        declaration = declare(schedule, options, "app.cron")
        try:
            name = name_of(task)
        except JobOptionError as error:
            raise CronError(f"{declaration.source}: {error}") from None
        known = self.registry.get(name)
        if not isinstance(task, str) and known is not task:
            raise CronError(f"{declaration.source}: task {name!r} is not one of this App; give its name instead")
        if known is not None:
            known.declare(declaration)
            return
        check_task_name(name)
        declaration.entry(name, None)
        self.registry.schedule(name, declaration)

    @property
    def jobs(self) -> Jobs:
        """Looking at jobs and changing them by hand, from blocking code: see `Jobs`."""
        return Jobs(self)

    @property
    def jobs_async(self) -> AsyncJobs:
        """Looking at jobs and changing them by hand, from asyncio code: see `AsyncJobs`."""
        return AsyncJobs(self)

    @property
    def timetables(self) -> Timetables:
        """Timetables that are kept in the database, from blocking code: see `Timetables`."""
        return Timetables(self)

    @property
    def timetables_async(self) -> AsyncTimetables:
        """Timetables that are kept in the database, from asyncio code: see `AsyncTimetables`."""
        return AsyncTimetables(self)

    def close(self) -> None:
        """Close the connections that blocking code has opened, and the one that waits for jobs use."""
        if self._database is not None:
            self._database.close()

    async def aclose(self) -> None:
        """Close the connections that code in the running event loop has opened."""
        if self._database is not None:
            await self._database.aclose()

    # What `Jobs` and `AsyncJobs` call: the Host protocol.

    def run(self, operation: Operation[T], connection: BlockingConnection | None = None) -> T:
        """Run an operation, on the given connection or on one of the pool."""
        raw = None if connection is None else psycopg_connection(connection)
        try:
            return self.database.run(operation, raw)
        except psycopg.Error as error:
            self._raise_better(error, raw, operation.name)

    async def run_async(self, operation: Operation[T], connection: AsyncConnection | None = None) -> T:
        """Run an operation, on the given connection or on one of the event loop's pool."""
        raw = None if connection is None else await psycopg_connection_async(connection)
        try:
            return await self.database.run_async(operation, raw)
        except psycopg.Error as error:
            self._raise_better(error, raw, operation.name)


class _Current:
    app: App | None = None
    apps: ClassVar[WeakSet[App]] = WeakSet()
    """All that there are."""
    open_database: Callable[[App], Database] | None = None
    """What gives them another database than their own, if anything does."""


def _open_database(app: App) -> Database:
    settings = app.settings
    conninfo = settings.conninfo
    if conninfo is None:
        lease = embedded.acquire(directory=settings.embedded_dir)
        log.warning("embedded_started", directory=str(lease.directory), started=lease.started)
        conninfo = lease.conninfo
    return Database(conninfo, max_connections=settings.pool_max_size)


@contextmanager
def databases_from(open_database: Callable[[App], Database]) -> Iterator[None]:
    """Have every App of this process, also those to come, use another database for as long as a block lasts: for tests.

    What they have used before stays open, and is used again afterwards.

    Args:
        open_database: gives the database of an App, when that is first used.
    """
    before = {app: app._database for app in _Current.apps}  # noqa: SLF001 - of a class of this module
    opened_before, _Current.open_database = _Current.open_database, open_database
    for app in before:
        app._database = None  # noqa: SLF001 - likewise
    try:
        yield
    finally:
        _Current.open_database = opened_before
        for app in list(_Current.apps):
            app._database = before.get(app)  # noqa: SLF001 - likewise


def current_app() -> App:
    """Return the App that `pgtasks.task` adds jobs through: the newest that was made, or else one from the settings."""
    if _Current.app is None:
        App()
    assert _Current.app is not None
    return _Current.app


task = TaskDecorator(default_registry, current_app, default=True)
"""`@task`: see `TaskDecorator`."""
