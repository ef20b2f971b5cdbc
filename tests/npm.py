"""Getting what tests run from npm, and keeping it between sessions in pytest's cache.

The files `package.json` and `package-lock.json` of a directory say what is installed, to the digit. It is kept for as
long as these two stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NPM_SECONDS = 90.0


class UnavailableError(Exception):
    """What a test would run, or what that runs on, cannot be had here."""


def this_platform() -> str:
    """The kind of machine, as npm names it."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{platform.system().lower()}-{machine}"


def install(directory: Path, cache: Path) -> Path:
    """Return where the packages are that a directory names, installed under `cache` if they are not there yet.

    Of all processes that want it, one installs and the others wait.

    Raises:
        UnavailableError: they cannot be had; the message says why.
    """
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        raise UnavailableError("there is no node or no npm on the PATH")
    files = [directory / "package.json", directory / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    place = cache / f"{digest}-node-{this_platform()}"
    with _locked(cache / "lock"):
        if not place.exists():
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _install(npm, files, place)
    return place / "node_modules"


@contextmanager
def skipping_what_is_unavailable() -> Iterator[None]:
    """Skip the test over what cannot be had, or let it fail: in CI, where there is node."""
    try:
        yield
    except UnavailableError as error:
        if os.environ.get("CI", "").lower() not in ("", "0", "false") and shutil.which("node") is not None:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def _install(npm: str, files: list[Path], place: Path) -> None:
    partial = place.with_suffix(".partial")
    partial.mkdir()
    for file in files:
        shutil.copy(file, partial)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    what = f"what {files[0].parent.name}/{files[0].name} names"
    try:
        done = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"npm has not installed {what} within {_NPM_SECONDS:g} s") from None
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())[:300]
        raise UnavailableError(f"npm could not install {what}: {reason}")
    partial.rename(place)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
