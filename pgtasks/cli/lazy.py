"""A group of commands that are imported when they are called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import click

from pgtasks.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE: Final = 2
"""Exit code: the command line itself cannot be understood."""


class LazyCommand(NamedTuple):
    """Where a command is, and what the list of commands says about it."""

    target: str
    """`module:attribute` of the click command."""
    help: str
    """The first sentence of its help, repeated here so that the list needs no import; a test compares them."""


class LazyGroup(click.Group):
    """A click group that imports a command when it is called, and names the nearest one when there is none."""

    def __init__(self, *args: Any, commands_by_name: Mapping[str, LazyCommand], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the order in which they were given, then those that were added."""
        return [*self._lazy, *(name for name in super().list_commands(ctx) if name not in self._lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; `None` if there is none of this name."""
        if (found := self._lazy.get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = found.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments begin with."""
        # While a shell completes a line, nothing is said of it.
        if not (args[0].startswith("-") or ctx.resilient_parsing or self.get_command(ctx, args[0])):
            self.miss(ctx, args)
        return super().resolve_command(ctx, args)

    def miss(self, ctx: click.Context, args: list[str]) -> NoReturn:
        """Say that there is no such command as the arguments begin with."""
        ctx.fail(f"there is no command {args[0]!r}{did_you_mean(args[0], self.list_commands(ctx))}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any that is lazy."""
        rows = [(name, found.help) for name, found in self._lazy.items()]
        rows += _described({name: self.commands[name] for name in self.commands if name not in self._lazy}, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class PluginGroup(LazyGroup):
    """The command `pgtasks`: beside its own commands it has those of plugins, which are imported only if need be."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of its own commands, then of those that plugins have."""
        from pgtasks.cli.plugin_commands import commands_to_list  # noqa: PLC0415 - rarely needed

        own = super().list_commands(ctx)
        return [*own, *commands_to_list(ctx, own, quiet=True)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; `None` if there is none of this name, a plugin's neither."""
        if (own := super().get_command(ctx, cmd_name)) is not None or cmd_name.startswith("-"):
            return own
        from pgtasks.cli.plugin_commands import commands_to_list, plugin_commands  # noqa: PLC0415 - rarely needed

        names = super().list_commands(ctx)
        if ctx.resilient_parsing:
            return commands_to_list(ctx, names, quiet=True).get(cmd_name)
        found = plugin_commands(ctx, names)
        if cmd_name not in found.by_name:
            found.troubles.settle(found.settings)  # it may be a command of a plugin that is broken
        return found.by_name.get(cmd_name)

    def miss(self, ctx: click.Context, args: list[str]) -> NoReturn:
        """Say that there is no such command as the arguments begin with, and how a plugin for it is named."""
        if any(argument.startswith(("-p", "--plugin")) for argument in args[1:]):
            hint = f"a plugin is named before its command, {ctx.command_path} -p NAME {args[0]}"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        super().miss(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists of its own commands and of those that plugins have."""
        from pgtasks.cli.plugin_commands import commands_to_list  # noqa: PLC0415 - rarely needed

        super().format_commands(ctx, formatter)
        rows = _described(commands_to_list(ctx, super().list_commands(ctx), quiet=False), formatter)
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)


def _described(commands: Mapping[str, click.Command], formatter: click.HelpFormatter) -> list[tuple[str, str]]:
    return [
        (name, command.get_short_help_str(limit=formatter.width))
        for name, command in commands.items()
        if not command.hidden
    ]


def help_unless_invoked(ctx: click.Context) -> None:
    """Write a group's help to stderr and end with code `USAGE`, if none of its commands was named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)
