"""Each call on the page about mistakes raises what stands beside it."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks.registry import default_registry
from tests.docs.pages import DOCS, blocks
from tests.docs.runner import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (DOCS / "reference" / "mistakes.md").read_text()
_CELL = r"(?:`` (.+?) ``|`([^`]+)`)"
ROWS = [(row[1] or row[2], row[3] or row[4]) for row in re.finditer(rf"^\| {_CELL} \| {_CELL} \|$", TEXT, re.MULTILINE)]


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    """What the page's own code defines; the tasks are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(default_registry, "_tasks", {})
        patched.setattr("pgtasks.app._Current.app", None)
        made: dict[str, Any] = {"__name__": "mistakes"}
        exec(compile(next(iter(blocks(TEXT))).text, "mistakes.py", "exec", dont_inherit=True), made)
        yield made


def raised(names: dict[str, Any], call: str) -> tuple[str, list[str]]:
    """What a call raises, and in which files and functions, from the caller's on."""
    try:
        eval(compile(call, "caller.py", "eval"), names)
    except Exception as error:  # noqa: BLE001 - any is compared
        frames = [
            f"{frame.filename.rpartition('/')[2]} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
        ]
        return f"{type(error).__name__}: {error}", frames[1:]
    raise AssertionError(f"{call} does nothing wrong")


def test_the_page_has_all_its_calls() -> None:
    assert len(ROWS) == TEXT.count("\n| `") > 50


@pytest.mark.parametrize(
    ("call", "message"), [row for row in ROWS if "connection=" not in row[0]], ids=lambda text: text[:40]
)
def test_a_mistake_is_told_as_the_page_says(names: dict[str, Any], call: str, message: str) -> None:
    said, frames = raised(names, call)
    compare(message, said)
    if re.match(r"\w+\.(defer|spec)\(", call) and ".args(" not in call:
        assert frames == ["caller.py <module>", f"deferring.py {re.split('[.(]', call)[1]}"]


def test_connections_that_take_no_job_are_told_as_the_page_says(names: dict[str, Any], database: str) -> None:
    closed = psycopg.connect(database)
    closed.close()
    with psycopg.connect(database) as failed:
        with suppress(psycopg.errors.DivisionByZero):
            failed.execute("select 1/0")
        calls = {call: message for call, message in ROWS if "connection=" in call}
        assert len(calls) == 3
        for call, message in calls.items():
            compare(message, raised({**names, "closed": closed, "failed": failed}, call)[0])
