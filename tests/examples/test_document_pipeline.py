"""examples/document_pipeline: parts are counted side by side, and put together after the last one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import psycopg

from tests.examples.running import EXAMPLES, copy_of, run

if TYPE_CHECKING:
    from pathlib import Path

[EXAMPLE] = (example for example in EXAMPLES if example.name == "document_pipeline")


def test_a_document_of_many_parts_is_put_together_once_after_all_of_them(empty_database: str, tmp_path: Path) -> None:
    here = copy_of(EXAMPLE, tmp_path)
    words = ["often"] * 900 + ["sometimes"] * 60 + ["seldom"] * 40
    (here / "long.txt").write_text("\n".join(words))
    shown = run("-m", "documents", "long.txt", here=here, database=empty_database)
    assert shown.splitlines()[-1] == "long.txt: often, sometimes, seldom (200 parts)"
    with psycopg.connect(empty_database) as conn:
        counted: Counter[str] = Counter()
        for (part,) in conn.execute("select words from documents.parts"):
            counted.update(part)
        left = conn.execute("select parts_left from documents.documents").fetchall()
        later = conn.execute("select id from graphile_worker.add_job('later')").fetchall()
    assert (counted, left) == (Counter(words), [(0,)])
    assert later == [(1 + 200 + 1 + 1,)], "each job was added once"
