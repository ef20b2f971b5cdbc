"""`pgtasks doctor`: say what makes the queue slow or stuck, and what to do about it."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click

from pgtasks.cli.application import application
from pgtasks.cli.options import database_options
from pgtasks.cli.tables import count, in_colour, on_terminal, safe, show_json
from pgtasks.cli.values import delay as span_type
from pgtasks.errors import LeftUndoneError, ProblemsFoundError
from pgtasks.queue.doctor import Thresholds, by_seriousness, examine, examine_plugins
from pgtasks.queue.plugin_steps import plugin_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.queue.doctor import Finding, Level

_COLOURS: Final[dict[Level, str]] = {"problem": "red", "warning": "yellow", "note": "cyan", "unseen": "magenta"}
_NO_QUEUE: Final = ("schema_missing", "schema_refused")
"""Where this is found, plugins have nothing to look at."""
_INDENT: Final = " " * 8
"""Below which the words about a finding begin."""


@click.command
@click.option(
    "--older-than",
    type=span_type,
    default="5m",
    metavar="SPAN",
    help="Tell of transactions that are open, and of jobs that are due, for longer than this; 5m by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each finding as a JSON object on one line.")
@database_options
@click.pass_context
def doctor(ctx: click.Context, /, *, older_than: float, as_json: bool, **_settings: object) -> None:
    """Look for what makes the queue slow or stuck, and say what to do about it.

    Nothing is changed, and no table is read as a whole. The exit code is 13 if something needs action, 10 if nothing
    does but not everything could be looked at, and 0 if nothing was found or only what is good to know.
    """
    with application(ctx) as app:
        settings = app.settings
        found = examine(
            app.database,
            app.statements,
            Thresholds(older_than=older_than, stale_after=settings.stale_after),
            listen=settings.listen,
            listen_at=settings.listen_conninfo,
        )
        if not any(finding.name in _NO_QUEUE for finding in found):
            steps = plugin_steps(app.schema, app.hooks.collect("register_migrations", tuple))
            checks = app.hooks.collect("register_checks", tuple, app=app)
            found = by_seriousness([*found, *examine_plugins(app.database, app.schema, steps, checks)])
    if as_json:
        show_json(_object(finding) for finding in found)
    else:
        _show(found, settings.schema_name)
    if serious := _counted(found, "problem", "warning"):
        raise ProblemsFoundError(f"{serious} in schema {settings.schema_name!r} or on its server")
    if any(finding.level == "unseen" for finding in found):
        raise LeftUndoneError("nothing that needs action was found, but not everything could be looked at")


def _show(found: Sequence[Finding], schema: str) -> None:
    for position, finding in enumerate(found):
        if position:
            click.echo()
        _show_finding(finding)
    if not _counted(found, "problem", "warning"):
        if found:
            click.echo()
        click.echo(f"schema {schema!r}: nothing {'was found' if not found else 'else was found'}")


def _show_finding(finding: Finding) -> None:
    level = f"{finding.level}:"
    label = click.style(level, fg=_COLOURS[finding.level], bold=True) if in_colour() else level
    click.echo(label + _wrapped(f"{finding.what} [{finding.name}]", len(level) + 1, "  ")[len(level) :])
    click.echo(f"  why:  {_wrapped(finding.why, len(_INDENT), _INDENT).lstrip()}")
    click.echo(f"  cure: {_wrapped(finding.cure, len(_INDENT), _INDENT).lstrip()}")
    for command in finding.commands:
        click.echo(f"{_INDENT}{safe(command)}")


def _wrapped(text: str, column: int, indent: str) -> str:
    """Return text that begins at a column, in as many lines as a terminal needs; elsewhere it is one."""
    text = " " * column + safe(text)
    if not on_terminal():
        return text
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def _counted(found: Sequence[Finding], *levels: str) -> str:
    numbers = {level: sum(finding.level == level for finding in found) for level in levels}
    return " and ".join(count(number, level) for level, number in numbers.items() if number)


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "level": finding.level,
        "what": finding.what,
        "why": finding.why,
        "cure": finding.cure,
        "commands": finding.commands,
        "facts": finding.facts,
    }
