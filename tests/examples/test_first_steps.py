"""examples/first_steps: its README is followed to the letter."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg

from tests.cli.running import clean_environment
from tests.docs import runner
from tests.docs.pages import ROOT, steps

EXAMPLE = ROOT / "examples" / "first_steps"

# What the README's reader has by being at a terminal, and as many processes on every machine.
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PGTASKS_LOG_FORMAT": "console",
    "PGTASKS_PROCESSES": "2",
    "NO_COLOR": "1",
}


def test_the_readmes_commands_do_what_it_says(empty_database: str, tmp_path: Path) -> None:
    here = tmp_path / "first_steps"
    shutil.copytree(EXAMPLE, here, ignore=shutil.ignore_patterns("__pycache__"))
    readme = steps((EXAMPLE / "README.md").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, runner.__file__],
        input=json.dumps({"name": "README.md", "steps": [dataclasses.asdict(step) for step in readme]}),
        env=clean_environment({**ENVIRONMENT, "PGTASKS_DATABASE_URL": empty_database}),
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with psycopg.connect(empty_database) as conn:
        orders = conn.execute("select customer from first_steps.orders order by id").fetchall()
        left = conn.execute("select task_identifier, last_error from graphile_worker.jobs").fetchall()
    assert orders == [("ada@example.com",), ("edsger@example.com",)]
    assert left == []


def test_the_readme_shows_each_file_of_the_example() -> None:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLE.iterdir() if path.is_file() and path.name != "README.md"]
    assert [name for name in files if name not in readme] == []
