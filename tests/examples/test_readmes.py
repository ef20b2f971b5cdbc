"""The READMEs of the examples are followed to the letter."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.docs import runner
from tests.docs.pages import ROOT, steps
from tests.examples.running import EXAMPLES, copy_of, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_its_commands_do_what_it_says_and_leave_no_job(example: Path, empty_database: str, tmp_path: Path) -> None:
    readme = steps((example / "README.md").read_text(encoding="utf-8"))
    page = json.dumps({"name": "README.md", "steps": [dataclasses.asdict(step) for step in readme]})
    run(runner.__file__, here=copy_of(example, tmp_path), database=empty_database, stdin=page)
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


def test_the_list_of_examples_is_complete() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [example.name for example in EXAMPLES if f"({example.name}/README.md)" not in listed] == []
