"""Projects with an embedded server of their own, and other processes that use it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgtasks.embedded import acquire
from pgtasks.embedded.postmaster import find_postmaster, has_ended
from tests.embedded.users import User
from tests.servers import memory_disk
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _new_place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="pgtasks-embedded-", dir=memory_disk())).resolve()
    place.chmod(0o755)  # root's servers run under an account of their own; pytest's tmp_path is closed to that
    return place


def _clear(place: Path) -> None:
    for pid_file in place.rglob("postmaster.pid"):
        found = find_postmaster(pid_file.parent)
        if found is not None:
            os.kill(found.pid, signal.SIGQUIT)
            wait_until(partial(has_ended, found.pid), what="a server's end")
            Path(found.socket_dir).rmdir()
    shutil.rmtree(place)


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory that any account may enter; servers that still run in it are stopped afterwards."""
    made = _new_place()
    yield made
    _clear(made)


@pytest.fixture(scope="session")
def _made_once() -> Iterator[Path]:
    place = _new_place()
    acquire(place).release()
    yield place / ".pgtasks"
    _clear(place)


@pytest.fixture
def project(place: Path, _made_once: Path) -> Path:
    """A project whose server ran before, which makes a test half a second shorter than one that begins with nothing."""
    directory = place / "project"
    directory.mkdir()
    subprocess.run(["cp", "-a", _made_once, directory], check=True)
    return directory


@pytest.fixture
def new_user() -> Iterator[Callable[..., User]]:
    """A function that starts another process which acquires a project's server; killed at the end of the test."""
    users: list[User] = []

    def start(project: Path, **keywords: str) -> User:
        users.append(User(project, **keywords))
        return users[-1]

    yield start
    for user in users:
        user.end()
