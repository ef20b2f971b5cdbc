"""`pgtasks jobs …`: which commands there are to look at jobs and to change them."""

from __future__ import annotations

from typing import Final

import click

from pgtasks.cli.lazy import LazyCommand, LazyGroup, help_unless_invoked

COMMANDS: Final = {
    "list": LazyCommand("pgtasks.cli.job_lists:list_jobs", "List jobs, the newest first."),
    "show": LazyCommand("pgtasks.cli.job_lists:show", "Show all that is known about jobs."),
    "complete": LazyCommand("pgtasks.cli.job_changes:complete", "Delete jobs as if they had succeeded."),
    "cancel": LazyCommand(
        "pgtasks.cli.job_changes:cancel",
        "Cancel jobs: delete those that wait or have failed, and stop those that run.",
    ),
    "fail": LazyCommand(
        "pgtasks.cli.job_changes:fail", "Mark jobs as permanently failed, so that they do not run any more."
    ),
    "reschedule": LazyCommand(
        "pgtasks.cli.job_changes:reschedule", "Change when jobs run, in which order, and how often they are tried."
    ),
    "retry": LazyCommand(
        "pgtasks.cli.job_changes:retry", "Let permanently failed jobs run again, now, with all their attempts."
    ),
    "remove": LazyCommand("pgtasks.cli.job_changes:remove", "Remove jobs by their job keys."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS, invoke_without_command=True)
@click.pass_context
def jobs(ctx: click.Context) -> None:
    """Look at jobs and change them.

    Jobs are named by their ids, or, to remove them, by their job keys. All that one command changes is changed in one
    transaction. What cannot be done about a job is told, and done about the others; the exit code is 10 then.
    """
    help_unless_invoked(ctx)
