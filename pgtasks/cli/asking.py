"""Trying a change before it is made, and the question before one that destroys much."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
import psycopg

from pgtasks.database.errors import is_connection_lost, reason_of
from pgtasks.errors import DatabaseUnavailableError, LeftUndoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgtasks.app import App

Command = TypeVar("Command", bound="Callable[..., Any]")


def dry_run_option(command: Command) -> Command:
    """Add `--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Only say what would be done: do it and take it back.")(command)


def yes_option(command: Command) -> Command:
    """Add `--yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask before it is done.")(command)


@contextmanager
def transaction(app: App, *, dry_run: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """Lend a connection with a transaction in which all of a command's changes are made, or, by a dry run, none.

    A dry run does everything and rolls it back. So it says exactly what would have been done at that moment, and does
    not have to know the rules.

    Args:
        app: Whose database it is.
        dry_run: Whether to roll it back.

    Raises:
        DatabaseUnavailableError: The connection was lost at the moment that makes the difference.
    """
    committing = False
    with app.connection() as connection:
        try:
            with connection.transaction(force_rollback=dry_run):
                yield connection
                committing = not dry_run
        except psycopg.Error as error:
            if committing and is_connection_lost(error):
                raise DatabaseUnavailableError(
                    "the connection to the database was lost while the change was committed: it is not known whether "
                    f"that was done ({reason_of(error)})"
                ) from error
            raise


def ask(question: str, *, yes: bool) -> None:
    """Ask whether to do something that destroys much, unless the answer was given beforehand.

    Args:
        question: What is to be done, beginning with a verb: `delete 3 jobs`.
        yes: Whether `--yes` was given.

    Raises:
        click.UsageError: There is nobody to ask.
        LeftUndoneError: The answer is no.
        click.Abort: There is none: Ctrl-C, Ctrl-D.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            f"this would {question}, and there is no terminal to ask on: give --yes, or --dry-run to look first",
            click.get_current_context(silent=True),
        )
    if not click.confirm(f"{question[0].upper()}{question[1:]}?", err=True):
        raise LeftUndoneError("nothing was done, since the answer was no")
