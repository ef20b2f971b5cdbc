"""Having an application use the database of a test, without a change to its code.

Tasks add jobs through an App, and that opens its database when it is first asked for it. For as long as one of these
blocks lasts, every App of the process gets another one: those that were made before it and those that are made in it.
All else stays as the application has it: its settings, the name of its schema, its plugins.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from pgtasks.app import App, databases_from
from pgtasks.connections import psycopg_connection, psycopg_connection_async
from pgtasks.database import Database
from pgtasks.database.connecting import complete_conninfo
from pgtasks.errors import JobOptionError
from pgtasks.queue.migrate import migrate
from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps
from pgtasks.sql import DEFAULT_SCHEMA
from pgtasks.testing.server import database_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgtasks.connections import AsyncConnection, BlockingConnection
    from pgtasks.database import Operation
    from pgtasks.testing.server import DatabaseServer

T = TypeVar("T")


@contextmanager
def use_test_database(schema: str = DEFAULT_SCHEMA) -> Iterator[str]:
    """Have every App of this process use a new database, and drop that at the end of the block.

    For other test runners than pytest, which has the fixture `pgtasks_jobs`. The server is started the first time, as
    `database_server` does, and ends with the process.

    Args:
        schema: the name of the schema that holds the queue. One of another name, if the application's settings say so,
            is installed when it is needed, which takes a moment more.

    Returns:
        The database's connection string.

    Examples:
        ```python
        class SignUpTest(unittest.TestCase):
            def setUp(self):
                self.enterContext(use_test_database())
        ```
    """
    with (
        _server().database(f"schema {schema}", lambda connection: migrate(connection, schema)) as conninfo,
        use_database(conninfo),
    ):
        yield conninfo


@contextmanager
def use_database(conninfo: str) -> Iterator[None]:
    """Have every App of this process use the database of a connection string for as long as a block lasts.

    The schema, and the tables of an App's plugins, are installed there when they are not.

    Args:
        conninfo: the connection string.
    """
    opened: list[Database] = []

    def open_database(app: App) -> Database:
        install(conninfo, app)
        database = Database(conninfo, max_connections=app.settings.pool_max_size)
        opened.append(database)
        return database

    with databases_from(open_database):
        try:
            yield
        finally:
            for database in opened:
                database.close_all()


@contextmanager
def use_connection(connection: BlockingConnection | AsyncConnection) -> Iterator[None]:
    """Have every App of this process do everything on one connection, for as long as a block lasts.

    For tests that run in a transaction which is rolled back: jobs that the application adds are in it, also where it
    adds them without saying on which connection, and so is what handlers write on connections that they borrow. The
    database has to have the schema: see `install`.

    Args:
        connection: a connection as `defer` takes it. With a blocking one, asyncio code can add jobs too, but borrow no
            connection; with one of asyncio's, blocking code can do nothing.

    Examples:
        ```python
        @pytest.fixture(autouse=True)
        def transaction(connection):
            with connection.transaction(force_rollback=True), use_connection(connection):
                yield
        ```
    """
    with databases_from(lambda _: _Lent(connection)):
        yield


def install(database: str | BlockingConnection, app: App | None = None) -> None:
    """Install, in a database that is there for tests, what an App needs: the schema, and its plugins' tables.

    What is there already is left alone, and found in some milliseconds.

    Args:
        database: its connection string, or a connection as `defer` takes it, on which no transaction is open.
        app: the App, for the name of its schema and its plugins; the schema alone by default.
    """
    if isinstance(database, str):
        with psycopg.connect(complete_conninfo(database, "pgtasks"), autocommit=True) as connection:
            _install(connection, app)
    else:
        _install(psycopg_connection(database), app)


def _install(connection: psycopg.Connection[Any], app: App | None) -> None:
    schema = DEFAULT_SCHEMA if app is None else app.schema
    migrate(connection, schema)
    if app is not None and app.hooks.has("register_migrations"):
        steps = plugin_steps(schema, app.hooks.collect("register_migrations", tuple))
        migrate_plugins(connection, schema, steps)


@contextmanager
def outliving_errors(app: App) -> Iterator[None]:
    """Have the transaction of the test's connection, if all is done on one, outlive an SQL error of a handler's.

    A handler whose statement fails makes that whole transaction fail, where a worker's would not. What the handler has
    done there is then undone.
    """
    lent = app.database
    if not isinstance(lent, _Lent) or not lent.is_blocking:
        yield
        return
    with lent.connection() as raw:
        in_transaction = raw.info.transaction_status == TransactionStatus.INTRANS
        if in_transaction:
            raw.execute(_BEGIN)
        yield
        if in_transaction and lent.has_failed(raw):
            raw.execute(_UNDO)
            lent.forgive()


@asynccontextmanager
async def outliving_errors_async(app: App) -> AsyncIterator[None]:
    """Do what `outliving_errors` does, from asyncio code."""
    lent = app.database
    if not isinstance(lent, _Lent) or lent.is_blocking:
        with outliving_errors(app):
            yield
        return
    async with lent.async_connection() as raw:
        in_transaction = raw.info.transaction_status == TransactionStatus.INTRANS
        if in_transaction:
            await raw.execute(_BEGIN)
        yield
        if in_transaction and lent.has_failed(raw):
            await raw.execute(_UNDO)


# It is not released: whoever ends the transaction, or a savepoint from before, ends it too, and so may a handler.
_BEGIN: Final = "savepoint pgtasks_job"
_UNDO: Final = "rollback to savepoint pgtasks_job"


class _Lent(Database):
    """A database that lends one connection to everybody, in whatever transaction it is."""

    def __init__(self, given: Any) -> None:
        super().__init__("")
        self._given = given
        self.is_blocking = True
        """Whether it is for blocking code."""
        try:
            psycopg_connection(given)
        except JobOptionError:  # which is raised again, if it is for neither
            self.is_blocking = False

    @property
    def is_shared(self) -> bool:
        """Nobody sees what is done there."""
        return False

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend it to blocking code."""
        raw = psycopg_connection(self._given)
        if _begins_by_itself(raw):
            raw.execute("select 1")  # or the transactions of ours would be no savepoints, and commit
        yield raw

    @asynccontextmanager
    async def async_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend it to asyncio code."""
        raw = await psycopg_connection_async(self._given)
        if _begins_by_itself(raw):
            await raw.execute("select 1")
        yield raw

    def has_failed(self, raw: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
        """Whether its transaction takes no statement any more."""
        # Django keeps to this after an error, also if that was not the server's.
        given_up = getattr(self._given, "needs_rollback", False) is True
        return given_up or raw.info.transaction_status == TransactionStatus.INERROR

    def forgive(self) -> None:
        """Have Django go on with it."""
        if getattr(self._given, "needs_rollback", False) is True:
            self._given.set_rollback(False)

    async def run_async(self, operation: Operation[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        """Run an operation."""
        if connection is None and self.is_blocking:
            return self.run(operation)  # the event loop waits for it, which does no harm in a test
        return await super().run_async(operation, connection)


def _begins_by_itself(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@functools.cache
def _server() -> DatabaseServer:
    """The server of this process, until its end."""
    stack = ExitStack()
    server = stack.enter_context(database_server())
    atexit.register(stack.close)
    return server
