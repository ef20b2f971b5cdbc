"""`pgtasks plugins`: which plugins there are, and which hooks one may implement."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from pgtasks import hookspecs
from pgtasks.cli.application import CommandApp
from pgtasks.cli.lazy import LazyCommand, LazyGroup
from pgtasks.cli.loading import load_plugins
from pgtasks.cli.options import plugin_option, settings_from
from pgtasks.cli.output import note
from pgtasks.cli.tables import Column, count, show_facts, show_json, show_table
from pgtasks.errors import PluginError, did_you_mean
from pgtasks.hookspecs import HOOKS
from pgtasks.plugins import Role

if TYPE_CHECKING:
    from pgtasks.hookspecs import Hook
    from pgtasks.plugins import PluginInfo

_PLUGIN: Final = (
    Column("plugin"),
    Column("version"),
    Column("distribution"),
    Column("loaded by"),
    Column("hooks", fold=True),
    Column("problem", fold=True),
)
_HOOK: Final = (
    Column("hook"),
    Column("kind"),
    Column("processes"),
    Column("async"),
    Column("isolated"),
    Column("what for", fold=True),
)


_COMMANDS: Final = {
    "new": LazyCommand("pgtasks.cli.plugin_new:new", "Make the package of a plugin: pgtasks-NAME in DIR, or here."),
}


@click.group(cls=LazyGroup, commands_by_name=_COMMANDS, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print each plugin as a JSON object on one line.")
@plugin_option
@click.pass_context
def plugins(ctx: click.Context, /, *, as_json: bool, **_settings: object) -> None:
    """List the plugins, and what is wrong with any of them.

    They are those that installed distributions offer and that settings name. What an application brings itself,
    App(plugins=[...]), is not known here. The exit code is 14 if one cannot be loaded.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_from(ctx)
    app = CommandApp()
    troubles = load_plugins(app, settings)
    found = list(app.plugins)
    if as_json:
        show_json(asdict(info) for info in found)
    elif found:
        show_table(_PLUGIN, [_cells(info) for info in found])
    else:
        note("there are no plugins")
    if troubles.lacking is not None:
        raise troubles.lacking
    if troubles.broken:
        raise PluginError(f"{count(len(troubles.broken), 'plugin')} cannot be loaded")


@plugins.command
@click.argument("name", required=False, metavar="[HOOK]")
@click.option("--json", "as_json", is_flag=True, help="Print each hook as a JSON object on one line.")
@click.pass_context
def hooks(ctx: click.Context, /, *, name: str | None, as_json: bool) -> None:
    """List the hooks that a plugin may implement, or show all about one.

    Its kind says what is done with the answers; isolated means that whatever a plugin does wrong is kept from jobs.
    """
    if name is not None and name not in HOOKS:
        raise click.UsageError(f"there is no hook {name!r}{did_you_mean(name, HOOKS)}", ctx)
    shown = list(HOOKS.values()) if name is None else [HOOKS[name]]
    if as_json:
        show_json(_object(hook) for hook in shown)
    elif name is None:
        show_table(_HOOK, [_row(hook) for hook in shown])
    else:
        _show(shown[0])


def _cells(info: PluginInfo) -> tuple[str, ...]:
    return (
        info.name,
        info.version or "",
        info.distribution or "",
        info.origin,
        ", ".join(info.hooks),
        info.problem or "",
    )


def _row(hook: Hook) -> tuple[str, ...]:
    summary = _documentation(hook).split("\n", 1)[0]
    return (hook.name, hook.kind, _processes(hook), _yes(hook.asynchronous), _yes(hook.isolated), summary)


def _show(hook: Hook) -> None:
    show_facts(
        [
            ("hook", _signature(hook)),
            ("kind", hook.kind),
            ("processes", _processes(hook)),
            ("async", _yes(hook.asynchronous)),
            ("isolated", _yes(hook.isolated)),
        ]
    )
    click.echo(f"\n{_documentation(hook)}")


def _object(hook: Hook) -> dict[str, Any]:
    return {
        "name": hook.name,
        "kind": hook.kind,
        "processes": hook.roles,
        "async": hook.asynchronous,
        "isolated": hook.isolated,
        "signature": _signature(hook),
        "documentation": _documentation(hook),
    }


def _signature(hook: Hook) -> str:
    """Return it as it stands in `hookspecs`, where annotations are not evaluated."""
    signature = inspect.signature(getattr(hookspecs, hook.name))
    arguments = ", ".join(f"{one.name}: {one.annotation}" for one in signature.parameters.values())
    return f"{hook.name}({arguments}) -> {signature.return_annotation}"


def _documentation(hook: Hook) -> str:
    return inspect.getdoc(getattr(hookspecs, hook.name)) or ""


def _processes(hook: Hook) -> str:
    return "all" if set(hook.roles) == set(Role) else ", ".join(hook.roles)


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
