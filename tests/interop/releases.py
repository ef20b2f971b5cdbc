"""The releases of Graphile Worker that the tests run: `package.json` and `package-lock.json` say which."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.npm import UnavailableError, this_platform

HERE = Path(__file__).parent
MANIFEST = json.loads((HERE / "package.json").read_text())
LABELS = ("0.17", "0.18")
_OWN_NODE = "0.18"
"""The release that wants a newer Node.js than systems have: it comes with one, from npm like itself."""


@dataclass(frozen=True)
class Release:
    """An installed release of Graphile Worker."""

    version: str
    node: Path
    package: Path


def describe() -> str:
    """One line for the head of the test report."""
    node = shutil.which("node")
    if node is None:
        return "graphile worker: not tested, there is no node"
    installed = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    own = MANIFEST["optionalDependencies"].get(_node_package(), "of this machine's kind is missing")
    nodes = {label: f"v{own}" if label == _OWN_NODE else installed for label in LABELS}
    return "graphile worker: " + ", ".join(f"{_version(label)} on node {nodes[label]}" for label in LABELS)


def find_release(label: str, modules: Path) -> Release:
    """Return a release that npm has installed.

    Raises:
        UnavailableError: there is nothing that it could run on.
    """
    node = shutil.which("node")
    if label == _OWN_NODE:
        node = shutil.which(modules / _node_package() / "bin" / "node")
    if node is None:
        raise UnavailableError(f"npm has no {_node_package()}, which Graphile Worker {label} would run on")
    return Release(_version(label), Path(node), modules / _package(label))


def _node_package() -> str:
    """The npm package that brings Node.js for this kind of machine."""
    return f"node-{this_platform()}"


def _package(label: str) -> str:
    return f"graphile-worker-{label}"


def _version(label: str) -> str:
    version: str = MANIFEST["dependencies"][_package(label)].rpartition("@")[2]
    return version
