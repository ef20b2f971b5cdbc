"""A world whose time is the test's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cron.simulation import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(database: str, schema: str) -> Iterator[World]:
    simulated = World(database, schema)
    yield simulated
    simulated.close()
