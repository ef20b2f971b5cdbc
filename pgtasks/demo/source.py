"""The files that the demo parses: the standard library's, and one of its own that is broken."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgtasks.errors import PgtasksError

if TYPE_CHECKING:
    from collections.abc import Iterator

BROKEN: Final = Path(__file__).parent / "broken.py.txt"
"""A file that does not parse."""

_LEFT_OUT: Final = frozenset({"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"})
"""Directories of tests, some of which are broken on purpose, and what is not part of the standard library."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file with Python source."""

    module: str
    """Its name as a module: `json.decoder`."""
    path: Path


def library() -> Path:
    """Return the directory that holds the standard library of the running Python."""
    return Path(sysconfig.get_path("stdlib"))


def library_files(root: Path, limit: int | None = None) -> list[SourceFile]:
    """Return the standard library's files, by the names of their modules, without its tests.

    Args:
        root: The directory that holds it.
        limit: The most files to return; all of them by default.

    Raises:
        PgtasksError: There is none: this Python came without its source.
    """
    files = sorted(_walk(root, ()), key=lambda file: file.module)[:limit]
    if not files:
        raise PgtasksError(
            f"the demo parses the source of the standard library, and there is none in {root}; "
            f"use a Python that comes with it"
        )
    return files


def _walk(directory: Path, package: tuple[str, ...]) -> Iterator[SourceFile]:
    for entry in directory.iterdir():
        if entry.suffix == ".py" and entry.stem.isidentifier():
            parts = package if entry.stem == "__init__" else (*package, entry.stem)
            yield SourceFile(".".join(parts), entry)
        elif entry.name.isidentifier() and entry.name not in _LEFT_OUT and entry.is_dir():
            yield from _walk(entry, (*package, entry.name))
