"""Context managers of several plugins round one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgtasks.plugins.implementation import close, nonsense

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from pgtasks.plugins.implementation import Implementation


class Wrap:
    """Enters the context managers of several plugins, and leaves them in the opposite order."""

    def __init__(
        self,
        wanted: list[tuple[Implementation, Mapping[str, Any]]],
        failed: Callable[[Implementation, BaseException], None],
    ) -> None:
        self._wanted = wanted
        self._failed = failed
        self._entered: list[tuple[Implementation, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for implementation, given in self._wanted:
            try:
                manager = implementation.call(given)
                if not (hasattr(manager, "__enter__") and hasattr(manager, "__exit__")):
                    close(manager)
                    raise nonsense(implementation, f"{type(manager).__name__}, which is no context manager")
                manager.__enter__()
            except BaseException as error:  # noqa: BLE001 - it is the plugin's
                self._failed(implementation, error)
            else:
                self._entered.append((implementation, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for implementation, manager in reversed(self._entered):
            try:
                manager.__exit__(kind, error, traceback)
            except BaseException as raised:  # noqa: BLE001 - likewise
                if raised is not error:
                    self._failed(implementation, raised)
                    continue
            implementation.succeeded()
