"""`pgtasks ratelimit`: limits that hold at once, for all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from psycopg import sql

from pgtasks.plugins import PluginError
from pgtasks_ratelimit.rules import RateLimitSettings, parse_limit

if TYPE_CHECKING:
    from pgtasks.plugins import Application

_LIST: Final = "select name, rule from {schema}._pgtasks_ratelimit_limits order by name"


@click.group(short_help="Set, list and remove limits at run time.")
def ratelimit() -> None:
    """Set, list and remove rate limits and caps while workers run.

    What is set here comes before the limit of the same name in the settings.
    """


@ratelimit.command("set")
@click.argument("name")
@click.argument("rule")
@click.pass_obj
def set_limit(app: Application, name: str, rule: str) -> None:
    """Set the limit NAME to RULE.

    NAME is a flag, the beginning of flags and '*', or 'payload:' and the path of a value in the payload. RULE is like
    '100/s burst 20', '10/minute', 'max 4 running', both with a comma between, or 'unlimited'.
    """
    parse_limit(name, rule)
    _fetch(app, "select {schema}.set_rate_limit(%s, %s)", name, rule)
    click.echo(f"{name}: {rule}")


@ratelimit.command("list")
@click.pass_obj
def list_limits(app: Application) -> None:
    """List all limits, and where each comes from."""
    stored = dict(_fetch(app, _LIST))
    own = app.plugin_settings("ratelimit", RateLimitSettings).limits
    lines = [
        (name, rule, "set at run time" if name in stored else "settings") for name, rule in {**own, **stored}.items()
    ]
    widths = [max((len(line[column]) for line in lines), default=0) for column in (0, 1)]
    for name, rule, source in sorted(lines):
        click.echo(f"{name:{widths[0]}}  {rule:{widths[1]}}  {source}")


@ratelimit.command("remove")
@click.argument("name")
@click.pass_obj
def remove_limit(app: Application, name: str) -> None:
    """Remove the limit NAME that was set at run time: that of the settings holds again, if there is one."""
    if not _fetch(app, "select {schema}.remove_rate_limit(%s)", name)[0][0]:
        names = ", ".join(repr(row[0]) for row in _fetch(app, _LIST)) or "none"
        raise PluginError(f"no limit {name!r} was set at run time (there are: {names})")
    click.echo(f"{name}: removed")


def _fetch(app: Application, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    composed = sql.SQL(query).format(schema=sql.Identifier(app.schema))
    with app.connection() as connection:
        return connection.execute(composed, parameters).fetchall()
