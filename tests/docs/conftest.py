"""Running a page in a directory and a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pgtasks.embedded.postmaster import find_postmaster
from pgtasks.settings.sources import TEST_DATABASE
from tests.docs.pages import steps
from tests.servers import memory_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RUNNER = Path(__file__).with_name("runner.py")
_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PGTASKS_LOG_FORMAT": "console",  # pages show what a terminal shows
    "PGTASKS_PROCESSES": "2",  # however large the machine is
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # a module that is shown twice within a second would look unchanged
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "LC_ALL": "C.UTF-8",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory that any account may enter, as an embedded server of root's has to."""
    made = Path(tempfile.mkdtemp(prefix="pgtasks-docs-", dir=memory_disk())).resolve()
    made.chmod(0o755)
    yield made
    server = find_postmaster(made / ".pgtasks" / "postgres")
    if server is not None:
        os.kill(server.pid, signal.SIGQUIT)
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def run_text(place: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that does what a page's text shows: `run_text(text, name, database)`; without one it is embedded."""

    def run(text: str, name: str = "page.md", database: str | None = None) -> subprocess.CompletedProcess[str]:
        page = {"name": name, "steps": [dataclasses.asdict(step) for step in steps(text)]}
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "DATABASE_URL"))}
        environment |= _ENVIRONMENT
        if database is not None:
            # The last one keeps the tests that a page shows from starting a server of their own.
            environment |= dict.fromkeys(("PGTASKS_DATABASE_URL", "DATABASE_URL", TEST_DATABASE), database)
        return subprocess.run(
            [sys.executable, "-W", "error", str(_RUNNER)],
            input=json.dumps(page),
            capture_output=True,
            text=True,
            cwd=place,
            env=environment,
            check=False,
        )

    return run
