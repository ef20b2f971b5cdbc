"""The App behind a command: without tasks of its own, on the command's database."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pgtasks.app import App
from pgtasks.cli.database import resolve_database
from pgtasks.cli.loading import load_plugins
from pgtasks.cli.options import settings_from
from pgtasks.plugins import Role
from pgtasks.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from pgtasks.database import Database
    from pgtasks.settings import Settings


class CommandApp(App):
    """An App for the length of a `with` block. The database is looked for, and announced, when it is first used."""

    def __init__(self) -> None:
        super().__init__(registry=Registry())
        self.assume(Role.COMMAND)
        self._opened = ExitStack()

    @property
    def database(self) -> Database:
        """The database that the settings name, or the embedded server; the end of the `with` block leaves it.

        Raises:
            DatabaseUnavailableError: None is configured and the extra `embedded` is not installed.
        """
        with self._lock:
            if self._database is None:
                conninfo = self._opened.enter_context(resolve_database(self.settings))
                self._opened.callback(self.close)
                self.configure(self.settings.with_overrides(database_url=conninfo))
        return super().database

    @contextmanager
    def opened(self, settings: Settings) -> Iterator[None]:
        """Have it ready for the `with` block: its plugins are told of it, and what it has opened is closed at the end.

        Raises:
            PgtasksError: A plugin finds fault with its settings, or raises something else.
        """
        # Where nobody has set up logging, Python writes warnings to stderr. What went wrong is told once, by the
        # command.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        self.configure(settings)
        with self._opened:
            _ = self.hooks  # before a server is started, unless they ask for it
            yield


@contextmanager
def application(ctx: click.Context) -> Iterator[App]:
    """Give an App on the database that the command line, the environment or the settings file names.

    Args:
        ctx: The command's context, with the options of `database_options`.

    Raises:
        PgtasksError: The settings, a plugin or the database cannot be used.
    """
    with command_app(settings_from(ctx)) as app:
        yield app


@contextmanager
def command_app(settings: Settings) -> Iterator[App]:
    """Give an App with these settings, whose plugins are loaded and told of it.

    Raises:
        PgtasksError: A plugin or, when it is used, the database cannot be used.
    """
    app = CommandApp()
    load_plugins(app, settings).settle(settings)
    with app.opened(settings):
        yield app
