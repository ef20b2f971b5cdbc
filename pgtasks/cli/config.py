"""`pgtasks config`: show the settings, those of plugins too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import click

from pgtasks.cli.application import CommandApp
from pgtasks.cli.loading import load_plugins
from pgtasks.cli.options import database_options, logging_options, settings_from
from pgtasks.cli.output import warn
from pgtasks.cli.tables import Column, show_json, show_table
from pgtasks.errors import PgtasksError, did_you_mean
from pgtasks.plugins import describe_plugin_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.app import App
    from pgtasks.settings import Settings

_COLUMNS: Final = (Column("setting"), Column("value", fold=True), Column("from", fold=True))


class _Line(NamedTuple):
    plugin: str | None
    name: str
    value: str | None
    """None: it is not shown, since nobody can tell whether it is a secret."""
    origin: str


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print each setting as a JSON object on one line.")
@database_options
@logging_options
@click.pass_context
def config(ctx: click.Context, /, *, as_json: bool, **_settings: object) -> None:
    """Show all settings, their values, and where these come from.

    Then those of plugins. Passwords and other secrets are left out. What an application sets in code, App(...), is not
    known here.
    """
    settings = settings_from(ctx)
    lines = [_Line(None, *line) for line in settings.describe()]
    app = CommandApp()
    try:
        load_plugins(app, settings).settle(settings)
        with app.opened(settings):
            lines += _of_plugins(app, settings)
    except PgtasksError:
        _show(lines, as_json=as_json)
        raise
    _show(lines, as_json=as_json)
    loaded = [info.name for info in app.plugins if info.problem is None]
    readers = [*app.plugin_models, *loaded]
    for name in settings.plugin_tables:
        if name not in app.plugin_models:
            what = "asks for no settings" if name in loaded else f"is not loaded{did_you_mean(name, readers)}"
            warn(f"nobody reads {_places(settings, name)}: plugin {name!r} {what}")


def _of_plugins(app: App, settings: Settings) -> Iterator[_Line]:
    for name in sorted({*app.plugin_models, *settings.plugin_tables}):
        if (model := app.plugin_models.get(name)) is not None:
            yield from (_Line(name, *line) for line in describe_plugin_settings(settings, name, model))
        else:
            yield from (_Line(name, key, None, place) for key, (_, place) in settings.of_plugin(name).items())


def _places(settings: Settings, plugin: str) -> str:
    places = [place for _, place in settings.of_plugin(plugin).values()]
    return ", ".join(places) or f"table 'plugin.{plugin}', which is empty"


def _show(lines: list[_Line], *, as_json: bool) -> None:
    if as_json:
        show_json(
            {"name": line.name, "value": line.value, "origin": line.origin, "plugin": line.plugin} for line in lines
        )
        return
    show_table(
        _COLUMNS,
        [
            (
                line.name if line.plugin is None else f"plugin.{line.plugin}.{line.name}",
                "(not read)" if line.value is None else line.value,
                line.origin,
            )
            for line in lines
        ],
    )
