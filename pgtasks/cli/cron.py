"""`pgtasks cron …`: which commands there are to see timetables and to steer them."""

from __future__ import annotations

from typing import Final

import click

from pgtasks.cli.lazy import LazyCommand, LazyGroup, help_unless_invoked

COMMANDS: Final = {
    "check": LazyCommand("pgtasks.cli.cron_check:check", "Look for mistakes in a crontab file."),
    "list": LazyCommand("pgtasks.cli.cron_lists:list_entries", "List crontab entries and timetables."),
    "next": LazyCommand("pgtasks.cli.cron_lists:show_next", "Show the next N times, in order."),
    "run": LazyCommand("pgtasks.cli.cron_changes:run", "Add the job of an entry now, beside those of its times."),
    "pause": LazyCommand("pgtasks.cli.cron_changes:pause", "Have no jobs added for entries, on all hosts."),
    "resume": LazyCommand("pgtasks.cli.cron_changes:resume", "Let paused entries go on with their next times."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS, invoke_without_command=True)
@click.pass_context
def cron(ctx: click.Context) -> None:
    """See what runs at which times, and steer it.

    Known are the crontab entries of all workers that have run, and the timetables that are kept in the database. Both
    are named by their ids; an id that an entry and a timetable have stands for both.
    """
    help_unless_invoked(ctx)
