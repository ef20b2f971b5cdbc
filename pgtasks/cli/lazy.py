"""A group of commands that are imported when they are called."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{did_you_mean(args[0], known)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any that is lazy."""
        rows = []
        for name in self.list_commands(ctx):
            if found := self._lazy.get(name):
                rows.append((name, found.help))
            elif (command := self.get_command(ctx, name)) is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(limit=formatter.width)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def help_unless_invoked(ctx: click.Context) -> None:
    """Write a group's help to stderr and end with code `USAGE`, if none of its commands was named."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)
