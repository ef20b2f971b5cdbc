"""Fixtures: the project's databases and workers, and a server that takes what is sent to Sentry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import connection, database, schema, server, servers  # noqa: F401 - fixtures
from tests.worker.conftest import db, start_worker  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.worker.conftest import StartWorker

# Tests are imported by their paths, so that what they share would not be found.
sys.path.insert(0, str(Path(__file__).parent))
from sentry_worker import Endpoint, Reported


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def reported(start_worker: StartWorker, endpoint: Endpoint) -> Reported:  # noqa: F811
    return Reported(start_worker, endpoint)
