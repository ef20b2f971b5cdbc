"""The App behind a command that works on jobs: without tasks of its own, on the command's database."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgtasks.app import App
from pgtasks.cli.database import resolve_database
from pgtasks.cli.options import settings_from
from pgtasks.plugins import Role
from pgtasks.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from pgtasks.settings import Settings


@contextmanager
def application(ctx: click.Context) -> Iterator[App]:
    """Give an App on the database that the command line, the environment or the settings file names.

    Args:
        ctx: The command's context, with the options of `database_options`.

    Raises:
        PgtasksError: The settings or the database cannot be used.
    """
    # Where nobody has set up logging, Python writes warnings to stderr. What went wrong is told once, by the command.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    settings = settings_from(ctx)
    with resolve_database(settings) as conninfo:
        app = command_app(settings.with_overrides(database_url=conninfo))
        try:
            yield app
        finally:
            app.close()


def command_app(settings: Settings) -> App:
    """Return an App with the plugins of a command. It has no database of its own: `application` sees to that."""
    app = App(registry=Registry())
    app.assume(Role.COMMAND)
    app.configure(settings)
    return app
