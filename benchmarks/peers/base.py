"""What a peer has to be able to do, and where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks.results import MeasurementError, Role
from benchmarks.server import BENCH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from benchmarks.server import Server

PLACE = BENCH / "peers"
"""Kept between runs."""
SCRIPTS = Path(__file__).parent / "scripts"
INSTALLING = 300.0  # seconds
RUNNING = 600.0  # seconds for a program that adds jobs


class UnavailableError(Exception):
    """A peer cannot be had here; the message says why."""


class Peer(ABC):
    """One that is measured beside pgtasks."""

    name: ClassVar[str]
    """What `--peers` calls it."""
    title: ClassVar[str]
    about: ClassVar[str]
    """How it is configured."""
    role: ClassVar[Role] = Role.PEER
    share: ClassVar[float] = 1.0
    """Of the jobs in a round, how many are enough, since it is slow."""

    version: str = ""
    """Known once it is installed."""

    @property
    def label(self) -> str:
        """What others that are compared with it call it."""
        return f"{self.title} {self.version}".strip()

    @property
    def described(self) -> str:
        """What its rows are called."""
        return f"{self.label}, {self.about}"

    @abstractmethod
    def install(self) -> None:
        """Get what it runs on, into its own place, unless it is there already.

        Raises:
            UnavailableError: It cannot be had.
        """

    @abstractmethod
    def opened(self, server: Server) -> AbstractContextManager[None]:
        """Make what it needs beside the server's database, for as long as the block lasts."""

    @abstractmethod
    def throughput(self, jobs: int) -> float:
        """Jobs a second that two processes do, by what its own store holds."""

    @abstractmethod
    def clear(self) -> None:
        """Leave nothing that the server could tidy up while others are measured."""

    def adding(self, jobs: int) -> dict[str, float]:
        """Jobs a second that one client adds, by the way in which it does."""
        del jobs
        return {}

    def latency(self, jobs: int, *, loaded: bool) -> list[float]:
        """Seconds from before adding to the handler's first line; nothing where that is not measured."""
        del jobs, loaded
        return []


def install_python(name: str, *requirements: str) -> Path:
    """Make a virtual environment with some packages, and return its Python."""
    place = PLACE / name
    python = place / "bin" / "python"
    if (place / ".installed").exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    run_installer([sys.executable, "-m", "venv", place])
    run_installer([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    (place / ".installed").touch()
    return python


def run_installer(command: Sequence[str | Path], directory: Path | None = None) -> None:
    """Run a program that fetches something.

    Raises:
        UnavailableError: It failed.
    """
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALLING, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise UnavailableError(f"{Path(command[0]).name} failed: {lines[-1][:200]}")


def version_of(python: Path, package: str) -> str:
    """The release of a package that a virtual environment holds."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def answer(command: Sequence[str | Path], environment: dict[str, str], *, may_be_silent: bool = False) -> str:
    """Run a program to its end, and return the last line that it wrote.

    Raises:
        MeasurementError: It failed.
    """
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=RUNNING, check=False
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and may_be_silent:
        return ""
    if done.returncode != 0 or not lines:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise MeasurementError(f"{Path(command[0]).name} failed: {said[-1][:300]}")
    return lines[-1]
