"""A clean virtual environment in which pgtasks and two packages are installed that `pgtasks plugins new` has made."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.running import Done, clean_environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
_LONGEST = 240.0
"""Seconds that a command may take here, on a machine that is busy with other tests."""


class _NotInstalledError(Exception):
    """What is to be installed cannot be had."""


@dataclass(frozen=True)
class Installation:
    """The environment, and the directory that it is in."""

    directory: Path

    @property
    def broken(self) -> Path:
        """Where a plugin is installed that cannot be imported, for those who have this directory on their path."""
        return self.directory / "broken"

    def run(self, *command: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        """Run a program of the environment."""
        program = self.directory / "env" / "bin" / command[0]
        done = subprocess.run(
            [program, *command[1:]],
            cwd=cwd,
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def plugins(self, *options: str, cwd: Path, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return what `pgtasks plugins` lists."""
        done = self.run("pgtasks", "plugins", "--json", *options, cwd=cwd, env=env)
        return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Made once, by the first of pytest's processes that asks for it."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    place /= "installed-plugins"
    place.mkdir(exist_ok=True)
    try:
        with _locked(place / "lock"):
            if not (place / "done").exists():
                _install(place)
                (place / "done").touch()
    except _NotInstalledError as error:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    return Installation(place)


def _install(place: Path) -> None:
    for name in ("alpha", "beta", "broken"):
        made = run("plugins", "new", name, str(place), cwd=place)
        assert made.code == 0, made.err
    (place / "pgtasks-broken/pgtasks_broken/__init__.py").write_text("import there_is_no_such_module\n")
    python = str(place / "env/bin/python")
    # Our own pip, since to install one takes 2 s of the CPU; and only what is imported needs to be compiled.
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check")
    install = (*pip, "install", "--no-compile")
    wheels = place / "wheels"
    _do(sys.executable, "-m", "venv", "--without-pip", str(place / "env"))
    # The build backend is installed, or each of four packages would get an environment of its own to be built in.
    _do(*install, "hatchling>=1.25", "pytest>=8.3")
    packages = [str(ROOT), *(str(place / f"pgtasks-{name}") for name in ("alpha", "beta", "broken"))]
    _do(*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(wheels), *packages)
    broken = next(wheels.glob("pgtasks_broken-*.whl"))
    _do(*install, *(str(wheel) for wheel in wheels.glob("*.whl") if wheel != broken))
    _do(*install, "--no-deps", "--target", str(place / "broken"), str(broken))


def _do(*command: str) -> None:
    try:
        subprocess.run(
            command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise _NotInstalledError(f"not done within {_LONGEST:g} s: {' '.join(command)}") from None
    except subprocess.CalledProcessError as error:
        raise _NotInstalledError(f"{' '.join(command)}: {error.stderr}") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
