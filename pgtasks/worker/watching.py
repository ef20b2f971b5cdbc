"""Watching Python files and those that are tasks, for `pgtasks worker --reload`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.errors import SettingsError
from pgtasks.files import is_hidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchfiles import Change


def check_that_files_can_be_watched() -> None:
    """Raise if what watches files is not installed.

    Raises:
        SettingsError: it is not.
    """
    try:
        import watchfiles  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise SettingsError("--reload needs the package watchfiles: pip install 'pgtasks[reload]'") from None


async def watch_files(
    directory: Path, tasks_dir: Path | None, on_change: Callable[[str], None], crontab: Path | None = None
) -> None:
    """Call `on_change` with words that name what has changed, until cancelled.

    Args:
        directory: below it, Python files are watched.
        tasks_dir: below it, all files are, since they are tasks.
        on_change: is called for files that are new, changed or gone.
        crontab: is watched too, if it is below `directory`.
    """
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - an extra

    is_python = PythonFilter()

    def is_wanted(change: Change, path: str) -> bool:
        if tasks_dir is not None and (file := Path(path)).is_relative_to(tasks_dir):
            return not any(map(is_hidden, file.relative_to(tasks_dir).parts))
        return is_python(change, path) or (crontab is not None and Path(path) == crontab)

    others = [] if tasks_dir is None or tasks_dir.is_relative_to(directory) else [tasks_dir]
    async for changes in awatch(directory, *others, watch_filter=is_wanted):
        on_change(_in_words([path for _, path in changes], directory))


def _in_words(paths: list[str], directory: Path) -> str:
    files = sorted({os.path.relpath(path, directory) for path in paths})
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0]}{more} changed"
