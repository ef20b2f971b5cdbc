"""The Grafana dashboard that the package brings: whether it shows what there is, and all of it."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks.plugins import ProcessInfo, ProcessState
from pgtasks_prometheus.collector import HostCollector
from pgtasks_prometheus.layout import KINDS
from pgtasks_prometheus.queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample

_METRIC = re.compile(r"\bpgtasks_\w+")
_SELECTOR = re.compile(r"(pgtasks_\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"by \(([^)]*)\)")
_FROM_PROMETHEUS = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    text = files("pgtasks_prometheus").joinpath("grafana-dashboard.json").read_text()
    read: dict[str, Any] = json.loads(text)
    return read


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def samples() -> list[Sample]:
    """All that is shown, with one of everything that has labels."""

    class AHost:
        processes = wanted = 1
        listening = True
        application_directory = None
        states = (ProcessState(ProcessInfo("w", 0, 1), 1, 1, 1),)

        def counts(self) -> dict[tuple[str, ...], list[float]]:
            return {(kind.name, *kind.labels): [0.0] * kind.size for kind in KINDS.values()}

    class AQueue:
        def get(self) -> list[TaskQueue]:
            return [TaskQueue("work", 1, 1, 1, 1, 1.0)]

    host, queue, app = AHost(), AQueue(), None
    collector = HostCollector(app, host, queue)  # type: ignore[arg-type]  # stand-ins
    return [sample for family in collector._own() for sample in family.samples]


def test_every_metric_that_it_queries_is_there_with_the_labels(dashboard: dict[str, Any]) -> None:
    labels: dict[str, set[str]] = {}
    for sample in samples():
        labels.setdefault(sample.name, set()).update(sample.labels)
    for expression in expressions(dashboard):
        used = _SELECTOR.findall(expression)
        assert [name for name, _ in used] == _METRIC.findall(expression), "each is chosen by job and instance"
        for name, selector in used:
            assert name in labels, f"{name} is not there"
            asked = set(re.findall(r"(\w+)\s*[=!]", selector))
            grouped = {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",")}
            assert {"job", "instance"} <= asked
            assert asked | grouped <= labels[name] | _FROM_PROMETHEUS, expression
    variables = json.dumps(dashboard["templating"])
    assert set(_METRIC.findall(variables)) <= set(labels)


def test_every_metric_that_there_is_has_a_panel(dashboard: dict[str, Any]) -> None:
    shown = {name for expression in expressions(dashboard) for name in _METRIC.findall(expression)}
    assert {sample.name for sample in samples()} == shown


def test_outcomes_and_states_that_it_names_exist(dashboard: dict[str, Any]) -> None:
    known: dict[str, set[str]] = {}
    for sample in samples():
        for label, value in sample.labels.items():
            known.setdefault(label, set()).add(value)
    for expression in expressions(dashboard):
        for label, values in re.findall(r'(outcome|state)[=!]~?"([^"]*)"', expression):
            assert set(values.split("|")) <= known[label]


def test_its_panels_lie_side_by_side(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_the_readme_tells_of_every_metric_and_of_no_other() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text()
    told = set(re.findall(r"pgtasks_\w+", text)) - {"pgtasks_prometheus"}
    there = {re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", sample.name) for sample in samples()}
    assert told == there
