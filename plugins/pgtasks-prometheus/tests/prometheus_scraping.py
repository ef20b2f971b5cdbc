"""What a worker answers, as numbers, and how one is started that has the plugin."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import wait_until
from tests.worker.conftest import LONG, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.worker.conftest import Worker

PATHS = (ROOT, ROOT / "plugins" / "pgtasks-prometheus", Path(__file__).parent)

Scrape = dict[str, dict[tuple[str, ...], float]]
"""Values by the sample's name and its labels' values, in the order of the labels' names."""


def scrape_port(port: int) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> Scrape:
    found: Scrape = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            assert labels not in found.get(sample.name, {}), f"{sample.name} {labels} is there twice"
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def scrape(worker: Worker) -> Scrape:
    return scrape_port(worker.wait_for("metrics_served")["port"])


def wait_for_value(worker: Worker, name: str, labels: tuple[str, ...], value: float) -> Scrape:
    """Scrape until a metric has a value, and return all that was answered then."""
    answers: list[Scrape] = []

    def has_it() -> bool:
        answers[:] = [scrape(worker)]
        return answers[0].get(name, {}).get(labels) == value

    try:
        wait_until(has_it, LONG, "")
    except AssertionError:
        raise AssertionError(f"{name} {labels} is not {value}: {answers[0].get(name)}\n{worker.text}") from None
    return answers[0]


class StartMeasured(Protocol):
    def __call__(self, *options: str, env: Mapping[str, str | None] | None = ...) -> Worker: ...


def measured(env: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a worker that has the plugin; what is None is not set."""
    paths = os.pathsep.join([*map(str, PATHS), os.environ.get("PYTHONPATH", "")])
    plugin = {"PGTASKS_PLUGINS": "pgtasks_prometheus", "PGTASKS_PLUGIN_PROMETHEUS__PORT": "0"}
    often = {"PGTASKS_PLUGIN_PROMETHEUS__QUEUE_INTERVAL": "0.01"}
    wanted = {"PYTHONPATH": paths, **plugin, **often, **(env or {})}
    return {name: value for name, value in wanted.items() if value is not None}
