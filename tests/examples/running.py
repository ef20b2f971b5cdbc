"""Running an example in a copy of its directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cli.running import clean_environment
from tests.docs.pages import ROOT

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))

# What a README's reader has by being at a terminal, and as many processes on every machine.
_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PGTASKS_LOG_FORMAT": "console",
    "PGTASKS_PROCESSES": "2",
    "NO_COLOR": "1",
}


def copy_of(example: Path, place: Path) -> Path:
    """Return where a copy of the example is, which may be written to."""
    here = place / example.name
    return shutil.copytree(example, here, ignore=shutil.ignore_patterns("__pycache__", ".pgtasks"))


def run(*arguments: str, here: Path, database: str, stdin: str = "") -> str:
    """Run Python in a directory, as somebody does who has configured this database; return what it puts out."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        env=clean_environment({**_ENVIRONMENT, "PGTASKS_DATABASE_URL": database}),
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
