"""Options that several commands share, and how a command line becomes settings.

An option or argument is a setting when its parameter has a setting's name (`--poll-interval` → `poll_interval`); only
those that were given count, so that the environment and the settings file decide about the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from pgtasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")


def database_options(command: Command) -> Command:
    """Add `--database-url` and `--schema`."""
    command = click.option("--schema", metavar="NAME", help="The schema that holds the queue.")(command)
    return click.option(
        "--database-url",
        metavar="URL",
        help="The database, as URL or 'key=value' pairs. Everybody on this host can read a password that stands "
        "here: put it into ~/.pgpass or PGTASKS_DATABASE_URL.",
    )(command)


def logging_options(command: Command) -> Command:
    """Add `--log-level` and `--log-format`."""
    command = click.option(
        "--log-format",
        type=click.Choice(["auto", "console", "json"], case_sensitive=False),
        help="How log messages are written; 'auto' is 'console' on a terminal and 'json' elsewhere.",
    )(command)
    return click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        help="The least severe log messages that are written.",
    )(command)


def settings_from(ctx: click.Context) -> Settings:
    """Read the settings, those on the command line first.

    Raises:
        SettingsError: A setting is unknown or cannot be used.
    """
    return load_settings(given_settings(ctx), source="command line")


def given_settings(ctx: click.Context) -> dict[str, Any]:
    """Return the settings that the command line itself gives."""
    names = Settings.names()
    return {
        name: value
        for name, value in ctx.params.items()
        if name in names and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
