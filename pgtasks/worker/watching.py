"""Watching Python files, for `pgtasks worker --reload`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pgtasks.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def check_that_files_can_be_watched() -> None:
    """Raise if what watches files is not installed.

    Raises:
        SettingsError: it is not.
    """
    try:
        import watchfiles  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise SettingsError("--reload needs the package watchfiles: pip install 'pgtasks[reload]'") from None


async def watch_files(directory: Path, on_change: Callable[[str], None]) -> None:
    """Call `on_change` with words that name what has changed, whenever a Python file below `directory` has."""
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - an extra

    async for changes in awatch(directory, watch_filter=PythonFilter()):
        on_change(_in_words([path for _, path in changes], directory))


def _in_words(paths: list[str], directory: Path) -> str:
    files = sorted({os.path.relpath(path, directory) for path in paths})
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0]}{more} changed"
