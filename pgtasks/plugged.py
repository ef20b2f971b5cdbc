"""The part of an App that has plugins: loading them, and what calls their hooks."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from pgtasks.errors import PluginError
from pgtasks.plugins import Dispatch, LoopDispatch, Plugins, Role, read_plugin_settings
from pgtasks.plugins.flags import flags_function
from pgtasks.plugins.producing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import BaseModel

    from pgtasks.plugins import PayloadCodec
    from pgtasks.settings import Settings

Model = TypeVar("Model", bound="BaseModel")


class Plugged:
    """The part of an App that has plugins.

    Args:
        plugins: plugins of the application's own.
        forbidden_flags: a function that says which flags are forbidden, if there is one.
    """

    def __init__(self, plugins: Iterable[Any], forbidden_flags: Callable[[], Any] | None) -> None:
        self.plugins = Plugins(lambda: self.settings, list(plugins))
        """The plugins: `app.plugins.register(…)` adds one, and iterating tells of all that are loaded."""
        if forbidden_flags is not None:
            self.plugins.register(flags_function(forbidden_flags), "App(forbidden_flags=…)")
        self.role = Role.PRODUCER
        """What this process is for."""
        self.codec: PayloadCodec | None = None
        """What plugins have payloads stored with, once they are loaded."""
        self.plugin_models: dict[str, BaseModel] = {}
        """The settings that plugins have asked for, by their names."""
        self.on_look: Callable[[], object] | None = None
        """What makes this process look for jobs, if it is a worker's."""
        self._lock = threading.RLock()
        self._hooks: Dispatch | None = None
        self._loading: Dispatch | None = None
        self._outgoing: Outgoing | None = None

    @property
    def settings(self) -> Settings:
        """The settings."""
        raise NotImplementedError

    @property
    def schema(self) -> str:
        """Name of the schema that holds the queue."""
        return self.settings.schema_name

    @property
    def hooks(self) -> Dispatch:
        """What calls the plugins' hooks; they are loaded when it is first asked for.

        Raises:
            PluginError: a plugin cannot be loaded.
            SettingsError: one finds fault with its settings.
        """
        if self._hooks is not None:
            return self._hooks
        with self._lock:
            # Meanwhile another thread may have loaded them; or a plugin uses the database while it is configured.
            if (there := self._there()) is not None:
                return there
            try:
                hooks = self._loading = Dispatch(self.plugins.loaded.implementations(), trace=self.settings.trace_hooks)
                answers = hooks.collect("configure", _wanted, app=self)
                hooks = self._loading = hooks.without({plugin for plugin, wanted in answers if not wanted})
                if self.role is not Role.SUPERVISOR:
                    hooks.collect("register_tasks", _ignored, app=self)
                self.codec = hooks.decide("payload_codec", _codec, app=self)
                self._outgoing = Outgoing(hooks, self.codec)
                self._hooks = hooks
            finally:
                self._loading = None
            return hooks

    @property
    def outgoing(self) -> Outgoing:
        """What plugins do to jobs that are added."""
        if self._outgoing is None:
            _ = self.hooks
            assert self._outgoing is not None
        return self._outgoing

    def assume(self, role: Role) -> None:
        """Say what this process is for, before plugins are loaded."""
        self.role = role

    def use_loop(self) -> LoopDispatch:
        """Have hooks called from the running event loop, for as long as this process lives: a worker's."""
        hooks = LoopDispatch(self.hooks, limit=self.settings.hook_timeout)
        self._hooks, self._outgoing = hooks, Outgoing(hooks, self.codec)
        return hooks

    def session_statements(self) -> list[Any]:
        """Return the statements that plugins want each connection to begin with."""
        answers = self.hooks.collect("prepare_connection", list, app=self)
        return [statement for _, statements in answers for statement in statements]

    def plugin_settings(self, name: str, model: type[Model]) -> Model:
        """Return a plugin's own settings: `[tool.pgtasks.plugin.NAME]` and `PGTASKS_PLUGIN_NAME__KEY`.

        Args:
            name: the plugin's name.
            model: the pydantic model that checks them.

        Raises:
            SettingsError: a name is unknown or a value cannot be used.
        """
        read = read_plugin_settings(self.settings, name, model)
        self.plugin_models[name] = read
        return read

    def look_for_jobs(self) -> None:
        """Have this process look for jobs soon, if it is a worker's; from any thread. For plugins."""
        if self.on_look is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                self.on_look()

    def _there(self) -> Dispatch | None:
        return self._loading if self._hooks is None else self._hooks


def split_plugins(plugins: Iterable[Any]) -> tuple[list[str], list[Any]]:
    """Return the names among what `App(plugins=…)` was given, and the plugins themselves.

    Raises:
        PluginError: it is text and no list.
    """
    if isinstance(plugins, str):
        raise PluginError(f"App(plugins={plugins!r}) must be a list; write App(plugins=[{plugins!r}])")
    given = list(plugins)
    return [one for one in given if isinstance(one, str)], [one for one in given if not isinstance(one, str)]


def _ignored(answer: object) -> object:
    return answer


def _wanted(answer: Any) -> bool:
    if not isinstance(answer, bool):
        raise TypeError("it must be True, False or None")
    return answer


def _codec(answer: Any) -> PayloadCodec:
    if not (callable(getattr(answer, "encode", None)) and callable(getattr(answer, "decode", None))):
        raise TypeError("a codec has functions encode(text) and decode(text)")
    codec: PayloadCodec = answer
    return codec
