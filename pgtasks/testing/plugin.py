"""The fixtures, a plugin of pytest's.

    # conftest.py, at the top of the project
    pytest_plugins = ["pgtasks.testing.plugin"]

It is not loaded by itself where pgtasks is installed: that would import pgtasks, and all that it needs, in every run of
pytest of every project, before its coverage is measured.

Each process of pytest has a server of its own: the one that `PGTASKS_TEST_DATABASE_URL` names, whose role may create
databases, or else an embedded one (extra `embedded`). Each test has databases of its own, copies of a template.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.testing.logged import job_logs
from pgtasks.testing.recording import HookRecorder
from pgtasks.testing.server import database_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pgtasks import App
    from pgtasks.testing.immediate import EagerJobs
    from pgtasks.testing.logged import JobLogs
    from pgtasks.testing.server import DatabaseServer


@pytest.fixture(scope="session")
def pgtasks_server() -> Iterator[DatabaseServer]:
    """The server that tests run on."""
    with database_server() as server:
        yield server


@pytest.fixture(scope="session")
def pgtasks_schema() -> str:
    """The name of the schema that holds the queue. To test under another one, define this fixture anew."""
    return "graphile_worker"


@pytest.fixture
def pgtasks_database(pgtasks_server: DatabaseServer, pgtasks_schema: str) -> Iterator[str]:
    """The connection string of a new database in which the schema is installed."""
    from pgtasks.queue.migrate import migrate  # noqa: PLC0415 - where no test asks for a database it costs nothing

    key = f"schema {pgtasks_schema}"
    with pgtasks_server.database(key, lambda connection: migrate(connection, pgtasks_schema)) as conninfo:
        yield conninfo


@pytest.fixture
def pgtasks_jobs(pgtasks_database: str) -> Iterator[App]:
    """Have every App of the process use `pgtasks_database`, so that all jobs go there; the App of `pgtasks.task`."""
    from pgtasks.app import current_app  # noqa: PLC0415 - likewise
    from pgtasks.testing.elsewhere import use_database  # noqa: PLC0415 - likewise

    with use_database(pgtasks_database):
        yield current_app()


@pytest.fixture
def pgtasks_eager() -> Iterator[EagerJobs]:
    """Have jobs run where they are added, without a database; what has become of them."""
    from pgtasks.testing.immediate import eager  # noqa: PLC0415 - likewise

    with eager() as jobs:
        yield jobs


@pytest.fixture
def pgtasks_logs() -> Iterator[JobLogs]:
    """What jobs log in the test, from level info on."""
    with job_logs() as logs:
        yield logs


@pytest.fixture
def pgtasks_app(pgtasks_database: str, pgtasks_schema: str) -> Iterator[Callable[..., App]]:
    """Make Apps on `pgtasks_database`: `pgtasks_app(plugins=[…], …)`, as `App` is made, closed after the test.

    Unless the arguments say otherwise, an App has a registry of its own, and loads no plugin but those that it is
    given. The tables of these are made.
    """
    from pgtasks import App, Registry  # noqa: PLC0415 - likewise
    from pgtasks.queue.plugin_steps import migrate_plugins, plugin_steps  # noqa: PLC0415 - likewise

    made: list[App] = []

    def make(**settings: Any) -> App:
        usual = {"autoload_plugins": False, "database_url": pgtasks_database, "schema": pgtasks_schema}
        app = App(**{"registry": Registry(), **usual, **settings})
        made.append(app)
        if settings.keys() & {"plugins", "autoload_plugins"}:
            steps = plugin_steps(app.schema, app.hooks.collect("register_migrations", tuple))
            with app.connection() as connection:
                migrate_plugins(connection, app.schema, steps)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def pgtasks_recorder(tmp_path: Path) -> Callable[..., HookRecorder]:
    """Make a `HookRecorder`: `pgtasks_recorder("job_failed", "job_finished")`."""

    def make(*hooks: str) -> HookRecorder:
        return HookRecorder(hooks, tmp_path / "hook-calls.jsonl")

    return make
