"""`pgtasks demo`: see it work."""

from __future__ import annotations

from functools import partial

import click

from pgtasks.cli.database import connect
from pgtasks.cli.options import database_options, given_settings, settings_from
from pgtasks.demo.run import Demo
from pgtasks.demo.screen import Screen
from pgtasks.demo.suggestions import suggestions
from pgtasks.settings import environment_name

_MOST_BY_DEFAULT = 4
"""Processes: more would be idle before they have begun."""


@click.command
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=32),
    metavar="N",
    help="Worker processes; by default one for each usable CPU, but two to four.",
)
@click.option(
    "--files",
    type=click.IntRange(min=1),
    metavar="N",
    help="Index so many files of the standard library; all of them by default.",
)
@database_options
@click.pass_context
def demo(ctx: click.Context, /, *, processes: int | None, files: int | None, **_settings: object) -> None:
    """Index Python's standard library with a pool of workers, and show what they found.

    Without a configured database this runs on the project's embedded PostgreSQL. On yours it uses a schema of its own,
    'pgtasks_demo', and jobs of its own tasks, and removes both at its end, which Ctrl-C brings about too.
    """
    settings = settings_from(ctx)
    given = given_settings(ctx)
    chosen = {name: str(given[name]) for name in ("database_url", "schema") if name in given}
    environment = {environment_name(name): value for name, value in chosen.items()}
    # All of them, since the variable may be set already.
    plugins = {environment_name("plugins"): ",".join(settings.plugins)} if "plugins" in given else {}
    screen = Screen()
    Demo(
        settings=settings,
        connect=partial(connect, settings, "pgtasks demo"),
        environment=environment | plugins,
        processes=processes or max(2, min(settings.processes, _MOST_BY_DEFAULT)),
        files=files,
        screen=screen,
    ).run()
    screen.suggest(suggestions(environment))
