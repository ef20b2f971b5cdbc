"""Commands that plugins bring: looked for when pgtasks has none of a name, and when all commands are listed.

They are found before plugins are configured, for it is the rest of the command line that says with which settings.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import click

from pgtasks.cli.application import CommandApp
from pgtasks.cli.loading import Troubles, load_plugins
from pgtasks.cli.options import options_of_plugin_commands, settings_from, settings_of_plugin_command
from pgtasks.cli.output import blame, warn
from pgtasks.errors import PgtasksError, PluginError
from pgtasks.plugins.discovery import explain
from pgtasks.plugins.manager import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pgtasks.plugins.implementation import Implementation

    Around = Callable[[Callable[..., Any]], Callable[..., Any]]


class PluginCommands:
    """The commands of all plugins that the settings name.

    Args:
        ctx: The context of `pgtasks` itself.
        taken: Names that no plugin may give to a command.

    Raises:
        SettingsError: A setting is unknown or cannot be used.
    """

    def __init__(self, ctx: click.Context, taken: Collection[str]) -> None:
        self._app = CommandApp()
        self._taken = taken
        self._owners: dict[str, str] = {}
        self.settings = settings_from(ctx)
        self.troubles: Troubles = load_plugins(self._app, self.settings)
        self.by_name: Mapping[str, click.Command] = {}
        """The commands, made such that they get an App."""
        found: dict[str, click.Command] = {}
        for implementation in self._app.plugins.loaded.implementations()["register_commands"]:
            try:
                commands = self._of_plugin(implementation)
            except PluginError as error:
                self.troubles.broken.append(refusal(implementation.plugin, str(error)))
            else:
                found |= commands
        self.by_name = dict(sorted(found.items()))

    def _of_plugin(self, implementation: Implementation) -> dict[str, click.Command]:
        """Return the commands of one plugin by name: all of them, or an error."""
        plugin = implementation.plugin
        try:
            answer = list(implementation.call({}) or ())
        except (Exception, SystemExit) as error:
            raise PluginError(f"plugin {plugin!r} cannot say which commands it has: {explain(error)}") from error
        commands: dict[str, click.Command] = {}
        for command in answer:
            if not isinstance(command, click.Command) or not command.name:
                raise PluginError(f"plugin {plugin!r} has a command that is no click command with a name: {command!r}")
            name = command.name
            if name in self._taken:
                raise PluginError(
                    f"plugin {plugin!r} has a command {name!r}, and so has pgtasks: the plugin has to give it another "
                    "name"
                )
            if name in commands or name in self._owners:
                other = self._owners.get(name, plugin)
                raise PluginError(f"plugins {other!r} and {plugin!r} both have a command {name!r}")
            commands[name] = _prepared(command, functools.partial(self._around, plugin))
        self._owners |= dict.fromkeys(commands, plugin)
        return commands

    def _around(self, plugin: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return what is called in place of a command's function: that function, with an App in the context."""

        @functools.wraps(callback)
        def call(*args: Any, **kwargs: Any) -> Any:
            ctx = click.get_current_context()
            if ctx.invoked_subcommand is not None:  # a group, whose command has not read its options yet
                return callback(*args, **kwargs)
            settings = settings_of_plugin_command(ctx)
            self.troubles.settle(settings)
            with self._app.opened(settings):
                ctx.obj = self._app
                try:
                    return callback(*args, **kwargs)
                except Exception as error:
                    blame(error, plugin)
                    raise

        return call


def plugin_commands(ctx: click.Context, taken: Collection[str]) -> PluginCommands:
    """Return the commands of plugins; they are looked for once.

    Args:
        ctx: The context of `pgtasks` itself.
        taken: Names that no plugin may give to a command.

    Raises:
        SettingsError: A setting is unknown or cannot be used.
    """
    found: PluginCommands | None = ctx.meta.get(__name__)
    if found is None:
        found = ctx.meta[__name__] = PluginCommands(ctx, taken)
    return found


def commands_to_list(ctx: click.Context, taken: Collection[str], *, quiet: bool) -> Mapping[str, click.Command]:
    """Return the commands of plugins for a list that has to come, whatever is wrong with them.

    Args:
        ctx: The context of `pgtasks` itself.
        taken: Names that no plugin may give to a command.
        quiet: Whether to leave out warnings of what is wrong.
    """
    try:
        found = plugin_commands(ctx, taken)
    except PgtasksError as error:
        if not quiet:
            warn(f"commands of plugins are not listed: {error}")
        return {}
    if not quiet:
        for trouble in found.troubles.all:
            warn(str(trouble))
    return found.by_name


def _prepared(command: click.Command, around: Around) -> click.Command:
    """Return a command as it is run here: with the options that all commands have, and its function wrapped."""
    own = copy.copy(command)
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    names = {parameter.name for parameter in command.params}
    own.params = [
        *command.params,
        *(one for one in options_of_plugin_commands() if one.name not in names and not flags & {*one.opts}),
    ]
    if command.callback is not None:
        own.callback = around(command.callback)
    if isinstance(command, click.Group) and isinstance(own, click.Group):

        def get_command(ctx: click.Context, cmd_name: str) -> click.Command | None:
            found = command.get_command(ctx, cmd_name)
            return None if found is None else _prepared(found, around)

        own.get_command = get_command  # type: ignore[method-assign]  # its class may be one of the plugin's
    return own
