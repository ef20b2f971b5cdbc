"""A function that says which flags are forbidden, as a plugin."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pgtasks.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable


class _Flags:
    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    @hookimpl
    def forbidden_flags(self) -> Any:
        """Return what the function says."""
        return self._function()


class _AsyncFlags:
    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    @hookimpl
    async def forbidden_flags(self) -> Any:
        """Return what the function says."""
        return await self._function()


def flags_function(function: Callable[[], Any]) -> object:
    """Return a plugin that answers `forbidden_flags` with what a function returns, plain or `async def`."""
    return _AsyncFlags(function) if inspect.iscoroutinefunction(function) else _Flags(function)
