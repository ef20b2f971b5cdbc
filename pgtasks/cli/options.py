"""Options that several commands share, and how a command line becomes settings.

An option or argument is a setting when its parameter has a setting's name (`--poll-interval` → `poll_interval`); only
those that were given count, so that the environment and the settings file decide about the others. Those of `pgtasks`
itself, before the command, count like the command's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from pgtasks.settings import Settings, load_settings
from pgtasks.settings.sources import JOINED

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

_DATABASE_URL: Final[dict[str, Any]] = {
    "metavar": "URL",
    "help": "The database, as URL or 'key=value' pairs. Everybody on this host can read a password that stands here: "
    "put it into ~/.pgpass or PGTASKS_DATABASE_URL.",
}
_SCHEMA: Final[dict[str, Any]] = {"metavar": "NAME", "help": "The schema that holds the queue."}
PLUGIN: Final[dict[str, Any]] = {
    "multiple": True,
    "metavar": "NAME",
    "help": "Load this plugin too: one that is installed, or a module; 'no:NAME' leaves one out. May be given several "
    "times.",
}
"""The option `--plugin`."""
_GIVEN: Final = "pgtasks.given"
"""Where a context keeps the settings that were given to a plugin's command."""


def database_options(command: Command) -> Command:
    """Add `--database-url`, `--schema` and `--plugin`, whose plugins may have to do with every connection."""
    command = plugin_option(command)
    command = click.option("--schema", **_SCHEMA)(command)
    return click.option("--database-url", **_DATABASE_URL)(command)


def plugin_option(command: Command) -> Command:
    """Add `-p` and `--plugin`."""
    return click.option("-p", "--plugin", "plugins", **PLUGIN)(command)


def options_of_plugin_commands() -> list[click.Option]:
    """Return the options that a plugin's command has without knowing of them: `--database-url` and `--schema`."""
    silent: dict[str, Any] = {"expose_value": False, "callback": _remember}
    return [
        click.Option(["--database-url"], **_DATABASE_URL, **silent),
        click.Option(["--schema"], **_SCHEMA, **silent),
        # The plugin is loaded by the time that its command reads its options.
        click.Option(["-p", "--plugin"], hidden=True, expose_value=False, callback=_refuse_plugin),
    ]


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


def absolute_path(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Make a path of the command line absolute: importing modules may change the working directory."""
    return value if value is None or value.lower() == "none" else str(Path(value).absolute())


def settings_from(ctx: click.Context) -> Settings:
    """Read the settings, those on the command line first.

    Raises:
        SettingsError: A setting is unknown or cannot be used.
    """
    return load_settings(given_settings(ctx), source="command line")


def given_settings(ctx: click.Context) -> dict[str, Any]:
    """Return the settings that the command line itself gives, to the command and before it."""
    names = Settings.names()
    contexts = [ctx]
    while (parent := contexts[0].parent) is not None:
        contexts.insert(0, parent)
    given: dict[str, Any] = {}
    for context in contexts:
        for name, value in context.params.items():
            if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                given[name] = (*given.get(name, ()), *value) if name in JOINED else value
    return given


def settings_of_plugin_command(ctx: click.Context) -> Settings:
    """Read the settings for a plugin's command, whose own options are none, whatever they are called.

    Raises:
        SettingsError: A setting is unknown or cannot be used.
    """
    return load_settings({**given_settings(ctx.find_root()), **ctx.meta.get(_GIVEN, {})}, source="command line")


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        ctx.meta.setdefault(_GIVEN, {})[param.name] = value


def _refuse_plugin(ctx: click.Context, _param: click.Parameter, value: object) -> None:
    if value is not None:
        root, _, command = ctx.command_path.partition(" ")
        raise click.UsageError(f"plugins are named before a plugin's command: {root} -p {value} {command}", ctx)
