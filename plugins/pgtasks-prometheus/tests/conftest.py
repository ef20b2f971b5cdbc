"""Real workers with the plugin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import connection, database, schema, server, servers  # noqa: F401 - fixtures
from tests.worker.conftest import db, start_worker  # noqa: F401 - fixtures

# pytest imports tests by their paths, so that modules which they share are not found.
sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_scraping import StartMeasured

    from tests.worker.conftest import StartWorker, Worker


@pytest.fixture
def start_measured(start_worker: StartWorker) -> StartMeasured:  # noqa: F811
    """Start a worker with the plugin, at a port that the system chooses."""
    from prometheus_scraping import measured

    def start(*options: str, env: Mapping[str, str | None] | None = None) -> Worker:
        return start_worker(*options, modules=("prometheus_jobs",), env=measured(env))

    return start
