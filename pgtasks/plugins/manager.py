"""The plugins of an App: loaded when they are first needed, checked when they are registered."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pluggy

from pgtasks import hookspecs
from pgtasks.errors import PluginError, did_you_mean
from pgtasks.hookspecs import HOOKS, PROJECT
from pgtasks.logs import get_logger
from pgtasks.plugins.discovery import Found, discover, missing, name_of
from pgtasks.plugins.implementation import Implementation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pgtasks.settings import Settings

log = get_logger("pgtasks.plugins")

_MARK: Final = f"{PROJECT}_impl"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known of a plugin."""

    name: str
    origin: str
    """Why it is loaded: `entry point`, `settings` or `the application`."""
    distribution: str | None = None
    version: str | None = None
    hooks: tuple[str, ...] = ()
    """The hooks that it implements."""
    problem: str | None = None
    """Why it could not be loaded."""


class Manager:
    """Registers plugins with pluggy, which checks their arguments against the contract and orders the calls."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self.plugins: list[PluginInfo] = []

    def load(self, settings: Settings, local: Sequence[tuple[str, Any]]) -> None:
        """Register all plugins that there are.

        Raises:
            PluginError: one cannot be loaded or has a fault, or a required one is missing. If the settings say that
                broken plugins are only to be warned of, they are left out instead.
        """
        for found in discover(settings, local):
            if isinstance(found, Found):
                try:
                    self._register(found)
                except PluginError as error:
                    problem = str(error)
                else:
                    continue
            else:
                problem = found.problem
            if settings.broken_plugins == "refuse":
                raise refusal(found.name, problem)
            log.warning("plugin_broken", plugin=found.name, error=problem)
            self.plugins.append(PluginInfo(found.name, "left out", problem=problem))
        lacking = missing(settings.required_plugins, [info.name for info in self.plugins if info.problem is None])
        if lacking is not None:
            raise lacking

    def implementations(self) -> dict[str, tuple[Implementation, ...]]:
        """Return the implementations of each hook, in the order in which they are called."""
        return {
            name: tuple(
                Implementation(
                    hook,
                    one.plugin_name,
                    one.function,
                    tuple(one.argnames),
                    vital=name in getattr(one.plugin, "vital_hooks", ()),
                )
                # pluggy keeps them in the opposite order.
                for one in reversed(getattr(self._pluggy.hook, name).get_hookimpls())
            )
            for name, hook in HOOKS.items()
        }

    def _register(self, found: Found) -> None:
        where = f"plugin {found.name!r}"
        if found.distribution is not None:
            where += f" ({found.distribution} {found.version})"
        hooks = _check(found.plugin, where)
        try:
            self._pluggy.register(found.plugin, found.name)
        except pluggy.PluginValidationError as error:
            self._pluggy.unregister(name=found.name)
            raise PluginError(f"{where}: {_in_a_line(error)}") from None
        except ValueError:
            raise PluginError(f"{where} is the same object as another plugin") from None
        self.plugins.append(PluginInfo(found.name, found.origin, found.distribution, found.version, hooks))


def refusal(name: str, problem: str) -> PluginError:
    """Return what to raise for a plugin that cannot be used."""
    return PluginError(
        f"{problem}; mend it, leave it out with -p no:{name}, or set broken_plugins to 'warn' to go on without it"
    )


def _check(plugin: Any, where: str) -> tuple[str, ...]:
    """Return the hooks that a plugin implements, if it implements them as it may."""
    hooks = []
    for name in dir(plugin):
        options = getattr(_attribute(plugin, name), _MARK, None)
        if not isinstance(options, dict):
            continue
        if options.get("specname"):
            name = options["specname"]  # noqa: PLW2901 - the hook that is meant
        if name not in HOOKS:
            if options.get("optionalhook"):
                continue
            raise PluginError(f"{where} implements {name!r}, which is no hook{did_you_mean(name, HOOKS)}")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(
                f"{where}: {name!r} is marked as a wrapper of other plugins' hooks, which pgtasks has not"
            )
        if not HOOKS[name].asynchronous and inspect.iscoroutinefunction(_attribute(plugin, name)):
            raise PluginError(f"{where}: {name!r} is async, and nothing can wait for it there: write it with plain def")
        hooks.append(name)
    if not hooks:
        raise PluginError(
            f"{where} implements no hook: mark its functions with @hookimpl, or its attributes are not what was meant"
        )
    return tuple(name for name in HOOKS if name in hooks)


def _attribute(plugin: Any, name: str) -> Any:
    # Of an object's class, so that no property is computed.
    owner = plugin if inspect.ismodule(plugin) else type(plugin)
    attribute = inspect.getattr_static(owner, name, None)
    if isinstance(attribute, (staticmethod, classmethod)):
        return attribute.__func__
    return attribute if attribute is not None else inspect.getattr_static(plugin, name, None)


def _in_a_line(error: pluggy.PluginValidationError) -> str:
    """What pluggy says of a wrong argument, without its own decoration."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines).removeprefix("Plugin ")


class Plugins:
    """The plugins that an application brings itself, and what was loaded.

    Examples:
        >>> from pgtasks import App, hookimpl
        >>> class Shop:
        ...     @hookimpl
        ...     def after_defer(self, jobs): ...
        >>> app = App()
        >>> app.plugins.register(Shop())
    """

    def __init__(self, settings: Callable[[], Settings], plugins: Sequence[Any] = ()) -> None:
        self._settings = settings
        self._local: list[tuple[str, Any]] = []
        self._manager: Manager | None = None
        for plugin in plugins:
            self.register(plugin)

    def register(self, plugin: Any, name: str | None = None) -> None:
        """Add a plugin of the application's own: a module, an object or a class. Before the first use of the App.

        Raises:
            PluginError: the plugins have been loaded already.
        """
        if self._manager is not None:
            raise PluginError(
                f"plugin {name or name_of(plugin)!r} comes too late: the application has loaded its plugins; register "
                "it before jobs are added, right after the App is made"
            )
        self._local.append((name or name_of(plugin), plugin))

    @property
    def loaded(self) -> Manager:
        """The manager with all plugins, loaded when first asked for.

        Raises:
            PluginError: one cannot be loaded.
        """
        if self._manager is None:
            manager = Manager()
            manager.load(self._settings(), self._local)
            self._manager = manager
        return self._manager

    def __iter__(self) -> Iterator[PluginInfo]:
        return iter(self.loaded.plugins)

    def unload(self) -> None:
        """Load them anew when they are needed the next time: the settings have changed."""
        self._manager = None
