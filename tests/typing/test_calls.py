"""mypy and pyright, as users run them, on modules with right and wrong calls."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.npm import install, skipping_what_is_unavailable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CALLS = [HERE / "calls.py", ROOT / "tests" / "connections" / "typed.py"]

SLIPS = """\
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from tests.typing.calls import email, order, send
send.defer(order)
send.defer(email)  # type: ignore[arg-type]
"""
"""A mistake without a mark, and a mark without a mistake: what a checker has to find, or else it checks nothing."""


@pytest.fixture
def mypy(request: pytest.FixtureRequest) -> list[str]:
    cache = request.config.cache.mkdir("mypy")
    return [sys.executable, "-m", "mypy", "--config-file=", "--strict", f"--cache-dir={cache}"]


@pytest.fixture
def pyright(request: pytest.FixtureRequest) -> list[str]:
    with skipping_what_is_unavailable():
        modules = install(HERE, request.config.cache.mkdir("pyright"))
    node = shutil.which("node")
    assert node is not None
    return [node, str(modules / "pyright" / "index.js"), "--pythonpath", sys.executable]


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_sees_what_is_wrong_with_calls_and_nothing_else(
    request: pytest.FixtureRequest, checker: str, tmp_path: Path
) -> None:
    slips = tmp_path / "slips.py"
    slips.write_text(SLIPS)
    command = [*request.getfixturevalue(checker), *map(str, CALLS), str(slips)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"^ *(\S+?):(\d+):(?:\d+ -)? error: ", done.stdout, re.MULTILINE)
    assert [(Path(path).name, int(line)) for path, line in found] == [("slips.py", 3), ("slips.py", 4)], (
        done.stdout + done.stderr
    )
