"""The releases of Graphile Worker that the tests run, and getting them with npm.

`package.json` and `package-lock.json` say what is installed, to the digit. The directory is kept between sessions, for
as long as these two files stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
MANIFEST = json.loads((HERE / "package.json").read_text())
LABELS = ("0.17", "0.18")
_OWN_NODE = "0.18"
"""The release that wants a newer Node.js than systems have: it comes with one, from npm like itself."""
_NPM_SECONDS = 90.0


class UnavailableError(Exception):
    """Graphile Worker, or what it runs on, cannot be had here."""


@dataclass(frozen=True)
class Release:
    """An installed release of Graphile Worker."""

    version: str
    node: Path
    package: Path


def node_package() -> str:
    """The npm package that brings Node.js for this kind of machine."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"node-{platform.system().lower()}-{machine}"


def describe() -> str:
    """One line for the head of the test report."""
    node = shutil.which("node")
    if node is None:
        return "graphile worker: not tested, there is no node"
    installed = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    own = MANIFEST["optionalDependencies"].get(node_package(), "of this machine's kind is missing")
    nodes = {label: f"v{own}" if label == _OWN_NODE else installed for label in LABELS}
    return "graphile worker: " + ", ".join(f"{_version(label)} on node {nodes[label]}" for label in LABELS)


def install(cache: Path) -> Path:
    """Return the directory with the packages, installed under `cache` if they are not there yet.

    Of all processes that want it, one installs and the others wait.

    Raises:
        UnavailableError: they cannot be had; the message says why.
    """
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        raise UnavailableError("there is no node or no npm on the PATH")
    files = [HERE / "package.json", HERE / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    place = cache / f"{digest}-{node_package()}"
    with _locked(cache / "lock"):
        if not place.exists():
            for old in cache.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            _install(npm, files, place)
    return place / "node_modules"


def find_release(label: str, modules: Path) -> Release:
    """Return a release that `install` has installed.

    Raises:
        UnavailableError: there is nothing that it could run on.
    """
    node = shutil.which("node")
    if label == _OWN_NODE:
        node = shutil.which(modules / node_package() / "bin" / "node")
    if node is None:
        raise UnavailableError(f"npm has no {node_package()}, which Graphile Worker {label} would run on")
    return Release(_version(label), Path(node), modules / _package(label))


def missing_is_failure() -> bool:
    """Whether what cannot be had fails the tests: in CI, where there is node."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false") and shutil.which("node") is not None


def _package(label: str) -> str:
    return f"graphile-worker-{label}"


def _version(label: str) -> str:
    version: str = MANIFEST["dependencies"][_package(label)].rpartition("@")[2]
    return version


def _install(npm: str, files: list[Path], place: Path) -> None:
    partial = place.with_suffix(".partial")
    partial.mkdir()
    for file in files:
        shutil.copy(file, partial)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"npm has not installed Graphile Worker within {_NPM_SECONDS:g} s") from None
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())[:300]
        raise UnavailableError(f"npm could not install Graphile Worker: {reason}")
    partial.rename(place)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
