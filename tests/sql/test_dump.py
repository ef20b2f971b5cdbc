from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.sql import steps
from tests.sql.dump import PATH, dump

if TYPE_CHECKING:
    import psycopg


@pytest.mark.every_postgres
def test_a_fresh_install_leaves_what_the_committed_dump_says(connection: psycopg.Connection[Any], schema: str) -> None:
    """Where this is meant to differ, write the dump anew: `python -m tests.sql.dump`."""
    assert dump(connection, schema) == PATH.read_text(encoding="utf-8")


def test_the_steps_are_numbered_without_a_gap() -> None:
    assert [step.id for step in steps()] == [*range(1, len(steps()) + 1)]


def test_all_sql_is_ascii_since_a_database_of_another_encoding_could_not_take_it() -> None:
    files = [path for path in PATH.parent.rglob("*.sql") if path != PATH]
    assert [path.name for path in files if not path.read_text(encoding="utf-8").isascii()] == []
