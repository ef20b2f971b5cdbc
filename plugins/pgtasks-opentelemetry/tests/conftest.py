"""Fixtures: the project's databases and workers, and OpenTelemetry SDKs that keep what they are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.conftest import connection, database, schema, server, servers  # noqa: F401 - fixtures
from tests.worker.conftest import db, start_worker  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worker.conftest import StartWorker

# Tests are imported by their paths, so that what they share would not be found.
sys.path.insert(0, str(Path(__file__).parent))
from otel_worker import Traced


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What the SDK of this process exports, which has it for one test only."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """The data points of each metric, of instruments that are made after this."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", provider)

    def read() -> dict[str, Any]:
        data = reader.get_metrics_data()
        assert data is not None
        return {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}

    return read


@pytest.fixture
def traced(start_worker: StartWorker, tmp_path: Path) -> Traced:  # noqa: F811
    return Traced(start_worker, tmp_path)
