"""The READMEs of the examples are followed to the letter."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.cli.running import clean_environment
from tests.docs import runner
from tests.docs.pages import ROOT, steps

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))

# What the README's reader has by being at a terminal, and as many processes on every machine.
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PGTASKS_LOG_FORMAT": "console",
    "PGTASKS_PROCESSES": "2",
    "NO_COLOR": "1",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_its_commands_do_what_it_says_and_leave_no_job(example: Path, empty_database: str, tmp_path: Path) -> None:
    here = tmp_path / example.name
    shutil.copytree(example, here, ignore=shutil.ignore_patterns("__pycache__", ".pgtasks"))
    readme = steps((example / "README.md").read_text(encoding="utf-8"))
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
        assert conn.execute("select task_identifier, last_error from graphile_worker.jobs").fetchall() == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_names_each_file_that_is_to_be_read(example: Path) -> None:
    readme = (example / "README.md").read_text(encoding="utf-8").replace("\\", "")
    files = [
        path.relative_to(example).as_posix()
        for path in example.rglob("*")
        if path.is_file() and path.stat().st_size and not {"__pycache__", ".pgtasks"} & set(path.parts)
    ]
    assert [
        name for name in files if name != "README.md" and not name.endswith("__init__.py") and name not in readme
    ] == []
