"""The command `pgtasks`: which subcommands there are, and how each ending becomes an exit code.

Subcommands are imported when they are called, so that `pgtasks --help` stays quick and a worker holds nothing in
memory that only another command needs. The exit codes are an interface: docs/reference/exit-codes.md lists them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from pgtasks.cli.lazy import LazyCommand, PluginGroup, help_unless_invoked
from pgtasks.cli.options import PLUGIN
from pgtasks.cli.output import complain, explain_bug, explain_usage
from pgtasks.cli.streams import open_standard_streams, silence_stdout, watch_stdout
from pgtasks.errors import PgtasksError

if TYPE_CHECKING:
    from collections.abc import Sequence

BUG: Final = 1
"""An exception that is not a `PgtasksError`: pgtasks itself is at fault."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C, as a shell reports it (128 + SIGINT)."""
UNWRITTEN: Final = 12
"""The output could not be written: a full disk."""
BROKEN_PIPE: Final = 141
"""Whatever read the output has gone away (128 + SIGPIPE)."""

COMMANDS: Final = {
    "worker": LazyCommand(
        "pgtasks.cli.worker:worker", "Run jobs of the tasks in MODULE and in files, with a pool of worker processes."
    ),
    "health": LazyCommand(
        "pgtasks.cli.health:health", "Ask the worker on this host whether it takes jobs: code 0 if it does, 1 if not."
    ),
    "add": LazyCommand("pgtasks.cli.add:add", "Add a job for TASK, with a payload in JSON."),
    "jobs": LazyCommand("pgtasks.cli.jobs:jobs", "Look at jobs and change them."),
    "queues": LazyCommand(
        "pgtasks.cli.names:queues", "List the named queues, how many jobs wait in each, and which worker has it."
    ),
    "tasks": LazyCommand(
        "pgtasks.cli.names:tasks",
        "List the tasks that the database knows, and how many jobs of each wait, run and have failed.",
    ),
    "workers": LazyCommand("pgtasks.cli.workers:workers", "See which workers there are, and take jobs from dead ones."),
    "top": LazyCommand("pgtasks.cli.top:top", "Watch workers, running jobs and their progress."),
    "cron": LazyCommand("pgtasks.cli.cron:cron", "See what runs at which times, and steer it."),
    "cleanup": LazyCommand(
        "pgtasks.cli.cleanup:cleanup",
        "Forget tasks and queues that no job has, or delete the jobs that are permanently failed.",
    ),
    "doctor": LazyCommand(
        "pgtasks.cli.doctor:doctor", "Look for what makes the queue slow or stuck, and say what to do about it."
    ),
    "migrate": LazyCommand(
        "pgtasks.cli.migrate:migrate", "Install the schema or bring it up to date, and the tables of plugins."
    ),
    "config": LazyCommand("pgtasks.cli.config:config", "Show all settings, their values, and where these come from."),
    "plugins": LazyCommand("pgtasks.cli.plugins:plugins", "List the plugins, and what is wrong with any of them."),
    "demo": LazyCommand(
        "pgtasks.cli.demo:demo", "Index Python's standard library with a pool of workers, and show what they found."
    ),
}

_COMPLETION: Final = "_PGTASKS_COMPLETE"


@click.group(
    cls=PluginGroup, commands_by_name=COMMANDS, invoke_without_command=True, context_settings={"max_content_width": 100}
)
# Eager like --help, so that the list of commands has those of plugins that are named before it.
@click.option("-p", "--plugin", "plugins", is_eager=True, **PLUGIN)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def pgtasks(ctx: click.Context, /, *, version: bool, **_settings: object) -> None:
    """Run background jobs with PostgreSQL as the only server.

    \b
    pgtasks worker shop.tasks              run the jobs of the tasks in that module
    pgtasks migrate                        install the schema, or bring it up to date
    pgtasks add greet '{"name": "Ada"}'    add a job for the task 'greet'
    pgtasks jobs list --state failed       see which jobs have failed, and why
    pgtasks jobs retry 42                  let a failed job run again
    pgtasks top                            watch workers and running jobs
    pgtasks doctor                         see what makes the queue slow or stuck

    The database is --database-url, PGTASKS_DATABASE_URL, DATABASE_URL, what the PG… variables of libpq name, or
    'database_url' in pgtasks.toml or under [tool.pgtasks] in pyproject.toml. Without any of these, pgtasks runs a
    PostgreSQL of its own for the project (pip install 'pgtasks[embedded]').
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its line breaks
    if version:
        from pgtasks import __version__  # noqa: PLC0415 - not needed by any other call

        click.echo(f"pgtasks {__version__}")
    else:
        help_unless_invoked(ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: The arguments after the command's name; those of this process by default.
    """
    open_standard_streams()
    stdout = watch_stdout()
    if os.getpid() == 1:
        from pgtasks.cli.reaper import leave_process_1  # noqa: PLC0415 - in containers alone

        leave_process_1()
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:  # it is None when the process was started without one
            sys.stdout.flush()  # here, where a reader that has gone away can still be told from an error
    except BrokenPipeError:
        silence_stdout()
        return BROKEN_PIPE
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        complain(explain_usage(error))
        return error.exit_code
    except PgtasksError as error:
        complain(str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the end of the line: all that is expected was handled above
        if stdout is not None and error is stdout.error:
            silence_stdout()
            complain(
                f"the output could not be written: {error.strerror}; what the command had changed by then stays changed"
            )
            return UNWRITTEN
        explain_bug(error)
        return BUG
    return code


def _run(argv: list[str]) -> int:
    if instruction := os.environ.get(_COMPLETION):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - for a shell's Tab key alone

        return shell_complete(pgtasks, {}, "pgtasks", _COMPLETION, instruction)
    # Not click's own `main`, which answers a broken pipe and Ctrl-C in its own way before we hear of them.
    with pgtasks.make_context("pgtasks", argv) as ctx:
        code = pgtasks.invoke(ctx)
    return code if isinstance(code, int) else 0
