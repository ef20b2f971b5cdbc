"""Workers that run traced jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.worker.conftest import ROOT

if TYPE_CHECKING:
    from tests.worker.conftest import StartWorker, Worker

FOLDER = Path(__file__).parent
PATH = ":".join(map(str, (ROOT, FOLDER.parent, FOLDER)))
"""Where they find the plugin and the application."""


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
