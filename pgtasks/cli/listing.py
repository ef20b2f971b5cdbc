"""What commands that list something share: how much of it they list, and how to go on."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgtasks.cli.output import note
from pgtasks.cli.tables import safe
from pgtasks.queue.admin import COUNT_LIMIT
from pgtasks.queue.arguments import MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")


def limit_option(default: int) -> Callable[[Command], Command]:
    """Add `--limit`."""
    return click.option(
        "--limit",
        type=click.IntRange(1, MAX_LIMIT),
        default=default,
        metavar="N",
        help=f"List so many at most; {default} by default, {MAX_LIMIT} at most.",
    )


def say_next(after: str, *, exact: bool = True) -> None:
    """Say on stderr how to get the next page.

    Args:
        after: The value of `--after` for it.
        exact: Whether this page shows something of what was wanted.
    """
    option = f"--after={shlex.quote(safe(after))}"
    note(f"there is more; go on with {option}" if exact else f"nothing so far; go on looking with {option}")


def counted(number: int) -> str:
    """Return a number that was counted only up to `COUNT_LIMIT`."""
    return f"{number}+" if number >= COUNT_LIMIT else str(number)
