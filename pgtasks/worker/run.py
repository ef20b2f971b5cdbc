"""From settings to a running worker: import the application, find the database, see to the schema, supervise."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.app import App
from pgtasks.database import explain, run_within
from pgtasks.database.connecting import complete_conninfo
from pgtasks.logs import configure_worker_logging, get_logger
from pgtasks.logs.writing import STDERR, silence_if_stalled
from pgtasks.plugins import Role
from pgtasks.queue.claim import register_tasks
from pgtasks.queue.migrate import expect_current, migrate
from pgtasks.queue.plugin_steps import expect_plugins_current, migrate_plugins, plugin_steps, plugins_status
from pgtasks.registry import Registry
from pgtasks.sql import Statements
from pgtasks.worker.notify_systemd import Systemd
from pgtasks.worker.reload import Application
from pgtasks.worker.signals import Signals
from pgtasks.worker.starting import StoppedWhileStartingError, StopWhileStarting
from pgtasks.worker.supervisor import Supervisor
from pgtasks.worker.timeouts import timeout_of
from pgtasks.worker.watching import check_that_files_can_be_watched
from pgtasks.worker.zygotes import ZygoteClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pgtasks.plugins import Dispatch
    from pgtasks.queue.plugin_steps import PluginStep
    from pgtasks.settings import Settings
    from pgtasks.worker.zygotes import Loaded

log = get_logger("pgtasks.worker")


def run_worker(
    explicit: Mapping[str, Any],
    directory: Path,
    resolve: Callable[[Settings], AbstractContextManager[str]],
    *,
    once: bool = False,
    reload: bool = False,
) -> None:
    """Run a worker until it is told to stop.

    Args:
        explicit: settings from the command line.
        directory: where modules are looked for first.
        resolve: lends the conninfo of the database that the settings name.
        once: end when nothing is runnable any more.
        reload: import the application again whenever a Python file below `directory` changes.

    Raises:
        PgtasksError: it cannot start, or it ended otherwise than by being told to; see the errors' exit codes.
    """
    systemd = Systemd(os.environ)
    application = Application(explicit, directory)
    settings = application.settings()
    zygote = ZygoteClient.first()
    try:
        if reload:
            check_that_files_can_be_watched()
        configure_worker_logging(settings.log_level, settings.log_format)
        stop = StopWhileStarting()
        loaded = application.load(zygote, settings, stop)
        stop.check()
        with resolve(loaded.settings) as conninfo:
            app = _load_plugins(loaded.settings, conninfo, directory)
            stop.interrupts(lambda: _prepare_schema(conninfo, loaded, app.hooks))
            make = partial(
                Supervisor, application, app, loaded, zygote, conninfo, systemd=systemd, once=once, reload=reload
            )
            asyncio.run(_supervise(make, stop))
    except StoppedWhileStartingError:
        log.info("worker_stopped", message="told to stop while it was starting")
    finally:
        zygote.close()
        silence_if_stalled(STDERR)  # or what is said of an error would keep the process from ending


async def _supervise(make: Callable[[], Supervisor], stop: StopWhileStarting) -> None:
    supervisor = make()  # in the event loop, in which plugins are called
    signals = Signals(supervisor)
    try:
        stop.check()  # once more, since only from here on do signals reach the supervisor
        await supervisor.run()
    finally:
        signals.end()


def _load_plugins(settings: Settings, conninfo: str, directory: Path) -> App:
    """Load the plugins for the supervisor: those that are installed or named. It has no tasks."""
    if (first := str(directory)) not in sys.path:
        sys.path.insert(0, first)  # where all other processes of this worker look first, too
    app = App(registry=Registry())
    app.assume(Role.SUPERVISOR)
    app.configure(settings.with_overrides(database_url=conninfo))
    app.hooks.decide("setup_logging", bool, level=settings.log_level, format=settings.log_format)
    return app


def _prepare_schema(conninfo: str, loaded: Loaded, hooks: Dispatch) -> None:
    settings = loaded.settings
    steps = plugin_steps(settings.schema_name, hooks.collect("register_migrations", tuple))
    try:
        # Nothing is prepared, since the connection may go through a pooler in transaction mode.
        with psycopg.connect(
            complete_conninfo(conninfo, "pgtasks"), autocommit=True, prepare_threshold=None
        ) as connection:
            if settings.migrate:
                _migrate(connection, settings.schema_name, steps)
            else:
                expect_current(connection, settings.schema_name)
                expect_plugins_current(connection, settings.schema_name, steps)
            registering = register_tasks(Statements(settings.schema_name), loaded.tasks)
            run_within(connection, registering, timeout_of(registering.name))
    except psycopg.Error as error:
        raise explain(error, conninfo) from error


def _migrate(connection: psycopg.Connection[Any], schema: str, steps: Sequence[PluginStep]) -> None:
    report = migrate(connection, schema)
    for warning in (*report.status.warnings, *plugins_status(connection, schema, steps).warnings):
        log.warning("schema_unusual", message=warning)
    if report.steps or report.functions:
        log.info("schema_migrated", schema=report.schema, steps=report.steps, functions=len(report.functions))
    if taken := migrate_plugins(connection, schema, steps):
        log.info("plugins_migrated", schema=schema, steps=[str(step) for step in taken])
