"""`pgtasks plugins new`: make the package of a plugin."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pgtasks import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST: Final = 40
"""Characters of a name: tables are called `_pgtasks_<name>_…`, in 63 bytes."""
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_PREFIX: Final = "pgtasks-"
_FILES: Final = {
    ".gitignore": "gitignore.txt",
    "README.md": "README.md.txt",
    "pyproject.toml": "pyproject.toml.txt",
    "@package@/__init__.py": "package/__init__.py.txt",
    "@package@/py.typed": "package/py.typed.txt",
    "tests/conftest.py": "tests/conftest.py.txt",
    "tests/jobs.py": "tests/jobs.py.txt",
    "tests/test_plugin.py": "tests/test_plugin.py.txt",
}
"""What is made, and of which of our files, in which words between @ are replaced."""


@click.command
@click.argument("name")
@click.argument(
    "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def new(name: str, directory: Path) -> None:
    """Make the package of a plugin: pgtasks-NAME in DIR, or here.

    It is complete: it can be installed, has a setting and a hook that does something, and tests that pass.
    """
    _check(name)
    place = directory / f"{_PREFIX}{name}"
    try:
        place.mkdir()
    except FileExistsError:
        raise click.UsageError(f"{place} exists already: remove it, or choose another name") from None
    except OSError as error:
        raise click.UsageError(f"{place} cannot be made: {error.strerror}") from None
    try:
        _write(place, _words(name))
    except OSError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise click.UsageError(f"{error.filename} cannot be written: {error.strerror}") from None
    click.echo(f"made {place}; next:")
    for command in (f"cd {shlex.quote(str(place))}", "pip install --editable '.[test]'", "pytest", "pgtasks plugins"):
        click.echo(f"  {command}")


def _check(name: str) -> None:
    """Raise `click.BadParameter` unless a name can be that of a distribution, a package, and settings."""
    if _NAME.fullmatch(name) and not name.startswith(_PREFIX):
        if len(name) > _LONGEST:
            raise click.BadParameter(f"{name!r} has {len(name)} characters, and a plugin's name at most {_LONGEST}")
        return
    near = re.sub(r"[\W_]+", "-", name.lower()).strip("-")
    while near.startswith(_PREFIX):
        near = near.removeprefix(_PREFIX)
    hint = f"; did you mean {near!r}?" if _NAME.fullmatch(near) else ""
    if name.startswith(_PREFIX) and hint:
        raise click.BadParameter(f"{name!r} is what the distribution is called then, of a plugin {near!r}: say that")
    raise click.BadParameter(
        f"{name!r} cannot be a plugin's name: write it with small letters, digits and single hyphens, beginning with "
        f"a letter, like 'rate-limit'{hint}"
    )


def _words(name: str) -> Mapping[str, str]:
    """Return what stands between @ in our files, and what for."""
    words = name.replace("-", "_")
    return {
        "@name@": name,
        "@NAME@": words.upper(),
        "@package@": f"pgtasks_{words}",
        "@class@": "".join(part.capitalize() for part in name.split("-")),
        "@version@": ".".join(__version__.split(".")[:2]),
    }


def _write(place: Path, words: Mapping[str, str]) -> None:
    ours = files("pgtasks.cli") / "plugin_files"
    for target, source in _FILES.items():
        path = place / _replaced(target, words)
        path.parent.mkdir(exist_ok=True)
        path.write_text(_replaced((ours / source).read_text("utf-8"), words), "utf-8")


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text
