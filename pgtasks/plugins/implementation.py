"""One plugin's implementation of one hook, and whether it is trusted at the moment."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any, Final

from pgtasks.errors import PluginError
from pgtasks.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgtasks.hookspecs import Hook
    from pgtasks.plugins.lanes import Call

log = get_logger("pgtasks.plugins")

FAILURES: Final = 3
"""After so many failures in a row an implementation is left alone."""
PAUSE: Final = 30.0
"""For so many seconds; then one call shows whether it works again."""
_QUIET_SECONDS: Final = 60.0
"""How long the same failure is not logged again."""


class Implementation:
    """A function of a plugin's that implements a hook.

    Args:
        hook: which hook.
        plugin: the plugin's name.
        function: what to call.
        arguments: which of the hook's arguments it takes.
        vital: whether it must not be passed over.
    """

    __slots__ = (
        "_failures",
        "_quiet_until",
        "_trusted_at",
        "_waits_for",
        "arguments",
        "function",
        "hook",
        "is_async",
        "plugin",
        "vital",
    )

    def __init__(
        self, hook: Hook, plugin: str, function: Callable[..., Any], arguments: tuple[str, ...], *, vital: bool = False
    ) -> None:
        self.hook = hook
        self.plugin = plugin
        self.function = function
        self.arguments = arguments
        self.vital = vital
        self.is_async = inspect.iscoroutinefunction(function)
        self._waits_for: Call | None = None
        self._failures = 0
        self._trusted_at = 0.0
        self._quiet_until = 0.0

    @property
    def trusted(self) -> bool:
        """Whether it is to be called now."""
        if self._waits_for is not None and not self._waits_for.ended:
            return False
        return self.vital or self._failures < FAILURES or time.monotonic() >= self._trusted_at

    def waits_for(self, call: Call) -> None:
        """Do not call it again before a call has ended that was given up: one stuck thread is enough."""
        self._waits_for = call

    def call(self, given: Mapping[str, Any]) -> Any:
        """Call it with what it takes of the hook's arguments."""
        return self.function(**{name: given[name] for name in self.arguments})

    def succeeded(self) -> None:
        """Note that a call went well."""
        if self._failures:
            self._failures = 0

    def failed(self, error: BaseException | str) -> str:
        """Note that a call did not, and say so in the log, once a minute; returns the error in a line.

        The traceback is logged without the values of variables, like that of a job.
        """
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._failures += 1
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            trace = None if isinstance(error, str) else error
            log.error("hook_failed", plugin=self.plugin, hook=self.hook.name, error=text, exc_info=trace)
        if self._failures >= FAILURES:
            self._trusted_at = now + PAUSE
            if self._failures == FAILURES and not self.vital:
                log.error("hook_disabled", plugin=self.plugin, hook=self.hook.name, seconds=PAUSE)
        return text

    def __repr__(self) -> str:
        return f"<{self.hook.name} of {self.plugin}>"


def nonsense(implementation: Implementation, what: str) -> PluginError:
    """Return the error of an answer that is not what the hook is to be answered with."""
    return PluginError(
        f"plugin {implementation.plugin!r} has answered hook {implementation.hook.name!r} with {what}; "
        f"see `pgtasks plugins hooks {implementation.hook.name}`"
    )


def close(answer: Any) -> None:
    """Close a coroutine that nobody is going to wait for."""
    if inspect.iscoroutine(answer):
        answer.close()
