"""Fixtures: the project's databases and workers, and OpenTelemetry SDKs that keep what they are given."""

from __future__ import annotations

import json
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
from tests.worker.conftest import ROOT, db, start_worker  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worker.conftest import StartWorker, Worker

FOLDER = Path(__file__).parent
PATH = ":".join(map(str, (ROOT, FOLDER.parent, FOLDER)))


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


class Traced:
    """Runs a worker until there is nothing left to do, and reads what its SDK has exported."""

    def __init__(self, start: StartWorker, folder: Path) -> None:
        self._start = start
        self.file = folder / "spans"

    def run(self, *options: str, **settings: str) -> Worker:
        worker = self.start("--once", *options, **settings)
        assert worker.wait() == 0, worker.text
        return worker

    def start(self, *options: str, **settings: str) -> Worker:
        environment = {
            "PYTHONPATH": PATH,
            "PGTASKS_PLUGINS": "pgtasks_opentelemetry",
            "PGTASKS_PLUGIN_OPENTELEMETRY__SETUP": "otel_jobs:export_to_files",
            "SPANS": str(self.file),
            **{f"PGTASKS_PLUGIN_OPENTELEMETRY__{name.upper()}": value for name, value in settings.items()},
        }
        return self._start(*options, modules=("otel_jobs",), env=environment)

    def spans(self) -> dict[str, dict[str, Any]]:
        """By name; the last one, where several have it."""
        return {span["name"]: span for span in self.all_spans()}

    def all_spans(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for file in self.file.parent.glob("spans.*.jsonl")
            for line in file.read_text().splitlines()
        ]

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        [file] = self.file.parent.glob("spans.*.metrics")
        [resource] = json.loads(file.read_text().splitlines()[-1])["resource_metrics"]
        return {
            metric["name"]: metric["data"]["data_points"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
        }


@pytest.fixture
def traced(start_worker: StartWorker, tmp_path: Path) -> Traced:  # noqa: F811
    return Traced(start_worker, tmp_path)


sys.path.insert(0, str(FOLDER))  # tests are imported by their paths, so that what they share would not be found
