"""An application on the test's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgtasks import App, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app(database: str, schema: str) -> Iterator[App]:
    """An App with a registry of its own."""
    app = App(registry=Registry(), database_url=database, schema=schema)
    yield app
    app.close()
