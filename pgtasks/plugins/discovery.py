"""Finding plugins: which ones, in which order, and what is wrong with one that cannot be had."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pgtasks.errors import PgtasksError, PluginError, did_you_mean
from pgtasks.hookspecs import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgtasks.settings import Settings

BLOCK: Final = "no:"
"""What stands before a name to say that the plugin is not to be loaded."""
_PACKAGE = str(Path(__file__).parent.parent)


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin that is to be registered."""

    name: str
    plugin: Any
    origin: str
    """Why it is loaded, in the words of a message."""
    distribution: str | None = None
    """The distribution that it belongs to, if that is known."""
    version: str | None = None
    """Of that distribution."""


@dataclass(frozen=True, slots=True)
class Unloadable:
    """A plugin that was to be loaded and cannot be."""

    name: str
    problem: str


def blocked(settings: Settings) -> frozenset[str]:
    """Return the names of the plugins that are not to be loaded, whoever asks for them."""
    return frozenset(name.removeprefix(BLOCK) for name in settings.plugins if name.startswith(BLOCK))


def discover(settings: Settings, local: Sequence[tuple[str, Any]]) -> Iterator[Found | Unloadable]:
    """Yield plugins in the order in which they are registered.

    First those that installed distributions offer, by name, unless that is turned off; then those that settings name,
    which are the name of such an entry point or a module; last those that the application has brought itself. A module
    may say by its `name` what it is called, and so be the same plugin however it is loaded.

    Args:
        settings: say what to load and what not.
        local: plugins of the application's own, with their names.
    """
    forbidden = blocked(settings)
    offered = {point.name: point for point in sorted(entry_points(group=PROJECT), key=lambda point: point.name)}
    asked = [name for name in settings.plugins if not name.startswith(BLOCK)]
    seen = set(forbidden)
    if settings.autoload_plugins:
        for name, point in offered.items():
            if name not in seen:
                seen.add(name)
                yield _load(name, point)
    for name in asked:
        if name not in seen:
            seen.add(name)
            found = _load(name, offered[name]) if name in offered else _import(name, offered)
            if found.name == name or found.name not in seen:
                seen.add(found.name)
                yield found
            elif found.name not in forbidden and found.name != offering(name, offered):
                yield Unloadable(found.name, f"there are two plugins {found.name!r}: module {name!r} is another one")
    for name, plugin in local:
        if name in seen and name not in forbidden:
            yield Unloadable(name, f"there are two plugins {name!r}: give the one of the application another name")
        elif name not in seen:
            seen.add(name)
            yield Found(name, _instance(plugin), "the application")


def offering(module: str, offered: Mapping[str, EntryPoint]) -> str | None:
    """Return the name of the plugin that an installed distribution offers in a module."""
    return next((name for name, point in offered.items() if point.module == module), None)


def name_of(plugin: Any) -> str:
    """Return the name of a plugin that an application brings: its `name`, or that of its module or class."""
    name = getattr(plugin, "name", None)
    if isinstance(name, str) and name:
        return name
    if inspect.ismodule(plugin):
        return plugin.__name__
    return plugin.__name__ if inspect.isclass(plugin) else type(plugin).__name__


def _load(name: str, point: EntryPoint) -> Found | Unloadable:
    distribution = point.dist
    place = f"distribution {distribution.name} {distribution.version}" if distribution is not None else point.value
    try:
        plugin = _instance(point.load())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the plugin's
        return Unloadable(name, f"plugin {name!r} ({place}) cannot be loaded: {explain(error)}")
    if distribution is None:
        return Found(name, plugin, "entry point")
    return Found(name, plugin, "entry point", distribution.name, distribution.version)


def _import(name: str, offered: Iterable[str]) -> Found | Unloadable:
    if not all(part.isidentifier() for part in name.split(".")):
        known = ", ".join(offered) or "none"
        return Unloadable(
            name,
            f"plugin {name!r} is not installed (installed: {known}){did_you_mean(name, offered)}",
        )
    try:
        plugin = importlib.import_module(name)
        return Found(name_of(plugin), plugin, "settings")
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            known = ", ".join(offered) or "none"
            return Unloadable(
                name,
                f"plugin {name!r} is neither installed (installed: {known}) nor a module that can be imported"
                f"{did_you_mean(name, offered)}",
            )
        return Unloadable(name, f"plugin {name!r} cannot be loaded: {explain(error)}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is the plugin's
        return Unloadable(name, f"plugin {name!r} cannot be loaded: {explain(error)}")


def _instance(plugin: Any) -> Any:
    return plugin() if inspect.isclass(plugin) else plugin


def explain(error: BaseException) -> str:
    """The error in a line, with the place in the plugin's code where it was raised."""
    if isinstance(error, PgtasksError):
        return str(error)
    text = f"{type(error).__name__}: {error}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not (frame.filename.startswith((_PACKAGE, "<frozen")) or frame.filename == importlib.__file__):
            return f"{text} ({frame.filename}:{frame.lineno})"
    return text


def missing(required: Iterable[str], there: Iterable[str]) -> PluginError | None:
    """Return what to say of required plugins that are not there."""
    there = set(there)
    gone = [name for name in required if name not in there]
    if not gone:
        return None
    return PluginError(
        f"required plugin{'s' * (len(gone) > 1)} {', '.join(map(repr, gone))} not loaded: install "
        f"{', '.join(f'pgtasks-{name}' for name in gone)}, or take the name out of required_plugins"
        f"{did_you_mean(gone[0], there)}"
    )
