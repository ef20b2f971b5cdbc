"""The command `pgtasks`: which subcommands there are, and how each ending becomes an exit code.

Subcommands are imported when they are called, so that `pgtasks --help` stays quick and a worker holds nothing in
memory that only another command needs. The exit codes are an interface: docs/reference/exit-codes.md lists them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from pgtasks.cli.lazy import LazyCommand, LazyGroup
from pgtasks.cli.output import complain, explain_bug, explain_usage
from pgtasks.errors import PgtasksError

if TYPE_CHECKING:
    from collections.abc import Sequence

BUG: Final = 1
"""An exception that is not a `PgtasksError`: pgtasks itself is at fault."""
USAGE: Final = 2
"""The command line itself cannot be understood."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C, as a shell reports it (128 + SIGINT)."""
BROKEN_PIPE: Final = 141
"""Whatever read the output has gone away (128 + SIGPIPE)."""

COMMANDS: Final = {
    "worker": LazyCommand(
        "pgtasks.cli.worker:worker", "Run jobs of the tasks in MODULE, with a pool of worker processes."
    ),
    "migrate": LazyCommand("pgtasks.cli.migrate:migrate", "Install the schema or bring it up to date."),
    "demo": LazyCommand(
        "pgtasks.cli.demo:demo", "Index Python's standard library with a pool of workers, and show what they found."
    ),
}

_COMPLETION: Final = "_PGTASKS_COMPLETE"


@click.group(
    cls=LazyGroup, commands_by_name=COMMANDS, invoke_without_command=True, context_settings={"max_content_width": 100}
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def pgtasks(ctx: click.Context, *, version: bool) -> None:
    """Run background jobs with PostgreSQL as the only server.

    \b
    pgtasks worker shop.tasks              run the jobs of the tasks in that module
    pgtasks migrate                        install the schema, or bring it up to date
    pgtasks migrate --check                say what is pending, and change nothing
    pgtasks migrate --sql > install.sql    print the SQL instead, to apply it by hand

    The database is --database-url, PGTASKS_DATABASE_URL, DATABASE_URL, what the PG… variables of libpq name, or
    'database_url' in pgtasks.toml or under [tool.pgtasks] in pyproject.toml. Without any of these, pgtasks runs a
    PostgreSQL of its own for the project (pip install 'pgtasks[embedded]').
    """  # noqa: D301 - \b is click's mark for a paragraph that keeps its line breaks
    if version:
        from pgtasks import __version__  # noqa: PLC0415 - not needed by any other call

        click.echo(f"pgtasks {__version__}")
    elif ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: The arguments after the command's name; those of this process by default.
    """
    _open_standard_streams()
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:  # it is None when the process was started without one
            sys.stdout.flush()  # here, where a reader that has gone away can still be told from an error
    except BrokenPipeError:
        _silence_stdout()
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


def _open_standard_streams() -> None:
    """Put nothing in the place of standard streams that are closed, before a socket or file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def _silence_stdout() -> None:
    """Let the interpreter flush what is left into nothing, instead of reporting a broken pipe at its exit."""
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
