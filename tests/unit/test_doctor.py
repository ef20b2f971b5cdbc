"""The doctor's words for figures, and what it takes from the dump: their examples."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

import pytest

from pgtasks.queue.doctor import finding
from pgtasks.sql import dumped

if TYPE_CHECKING:
    from types import ModuleType


@pytest.mark.parametrize("module", [finding, dumped], ids=lambda module: module.__name__)
def test_examples_do_what_they_say(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0


def test_every_table_of_the_dump_has_a_primary_key() -> None:
    keys = [index.table for index in dumped.dumped_indexes() if index.constraint == "primary key"]
    assert len(keys) == len(set(keys)) == len({index.table for index in dumped.dumped_indexes()})
