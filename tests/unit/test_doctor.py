"""What the doctor takes from the dump."""

from __future__ import annotations

from pgtasks.sql import dumped


def test_every_table_of_the_dump_has_a_primary_key() -> None:
    keys = [index.table for index in dumped.dumped_indexes() if index.constraint == "primary key"]
    assert len(keys) == len(set(keys)) == len({index.table for index in dumped.dumped_indexes()})
