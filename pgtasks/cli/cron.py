"""`pgtasks cron …`: which commands there are to see timetables and to steer them."""

from __future__ import annotations

from typing import Final

import click

from pgtasks.cli.lazy import LazyCommand, LazyGroup, help_unless_invoked

COMMANDS: Final = {
    "check": LazyCommand("pgtasks.cli.cron_check:check", "Look for mistakes in a crontab file."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS, invoke_without_command=True)
@click.pass_context
def cron(ctx: click.Context) -> None:
    """See what runs at which times, and steer it."""
    help_unless_invoked(ctx)
