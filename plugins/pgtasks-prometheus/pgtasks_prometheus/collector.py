"""Makes metrics of what is known: of the counts, the host, the queue, other plugins and the application itself."""

from __future__ import annotations

import logging
import re
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pgtasks.plugins import Metric as Figure
from pgtasks_prometheus.layout import BUCKETS, HISTOGRAM_CELLS, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pgtasks import App
    from pgtasks.plugins import Application
    from pgtasks_prometheus.cells import Key
    from pgtasks_prometheus.host import Host
    from pgtasks_prometheus.layout import Counter, Histogram, Kind
    from pgtasks_prometheus.queue import QueueLook, TaskQueue

log = logging.getLogger("pgtasks.plugins.prometheus")

_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class HostCollector(Collector):
    """All metrics of a host.

    Args:
        app: whose other plugins are asked.
        host: what the supervisor knows.
        queue: what the database knows.
    """

    def __init__(self, app: Application, host: Host, queue: QueueLook) -> None:
        self._app = app
        self._host = host
        self._queue = queue
        self._refused: set[str] = set()
        self._told = False

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, each name once; those of others come last, and have no name that there is already."""
        names = set()
        for family in self._own():
            names.add(family.name)
            yield family
        for family in (*self._of_plugins(), *self._of_application()):
            if family.name in names:
                self._refuse(family.name, "there is a metric of this name")
            else:
                names.add(family.name)
                yield family

    def _own(self) -> Iterator[Metric]:
        yield from count_families(self._host.counts())
        yield GaugeMetricFamily("pgtasks_processes", "Worker processes that there are.", self._host.processes)
        yield GaugeMetricFamily("pgtasks_processes_wanted", "Worker processes that there are to be.", self._host.wanted)
        yield GaugeMetricFamily("pgtasks_listening", "Whether notifications are heard.", self._host.listening)
        yield from self._slots()
        yield from queue_families(self._queue.get())

    def _slots(self) -> Iterator[Metric]:
        states = self._host.states
        for name, text, values in (
            ("pgtasks_slots_running", "Slots of a worker process with a job.", [one.running for one in states]),
            ("pgtasks_slots_free", "Slots of a worker process without a job.", [one.free for one in states]),
            ("pgtasks_local_queue_jobs", "Jobs that wait in a worker process.", [one.queued for one in states]),
        ):
            family = GaugeMetricFamily(name, text, labels=["process"])
            for state, value in zip(states, values, strict=True):
                family.add_metric([str(state.process.index)], value)
            yield family

    def _of_plugins(self) -> Iterator[Metric]:
        hooks = cast("App", self._app).hooks
        families: dict[str, Metric] = {}
        for plugin, figures in hooks.collect("collect_metrics", _read_figures):
            for figure in figures:
                name = figure.name.removesuffix("_total") if figure.kind == "counter" else figure.name
                family = families.setdefault(name, Metric(name, figure.help or name, figure.kind))
                labels = dict(figure.labels)
                if family.type != figure.kind or any(sample.labels == labels for sample in family.samples):
                    self._refuse(name, f"plugin {plugin!r} answers it twice, or of another kind than somebody else")
                    continue
                sample = f"{name}_total" if figure.kind == "counter" else name
                family.add_sample(sample, labels, float(figure.value))
        yield from families.values()

    def _of_application(self) -> Iterable[Metric]:
        directory = self._host.application_directory
        if directory is None or not Path(directory).is_dir():
            return ()
        try:
            collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]
            return cast("Iterable[Metric]", collector.collect())  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - a file of somebody else's must not hide what is ours
            if not self._told:
                log.warning("application_metrics_unreadable", extra={"directory": directory, "error": str(error)})
            self._told = True
            return ()

    def _refuse(self, name: str, reason: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("metric_refused", extra={"metric": name, "error": reason})


def count_families(counts: Mapping[Key, list[float]]) -> Iterator[Metric]:
    """Yield the metrics that are counted."""
    for kind in KINDS.values():
        blocks = sorted((key[1:], cells) for key, cells in counts.items() if key[0] == kind.name)
        counters: dict[str, list[Counter]] = {}
        for counter in kind.counters:
            counters.setdefault(counter.name, []).append(counter)
        for same in counters.values():
            yield _counter_family(kind, same, blocks)
        for histogram in kind.histograms:
            yield _histogram_family(kind, histogram, blocks)


def _counter_family(kind: Kind, counters: list[Counter], blocks: list[tuple[Key, list[float]]]) -> Metric:
    family = CounterMetricFamily(counters[0].name, counters[0].help, labels=[*kind.labels, *counters[0].labels])
    for labels, cells in blocks:
        for counter in counters:
            family.add_metric([*labels, *counter.labels.values()], cells[counter.cell])
    return family


def _histogram_family(kind: Kind, histogram: Histogram, blocks: list[tuple[Key, list[float]]]) -> Metric:
    family = HistogramMetricFamily(histogram.name, histogram.help, labels=kind.labels)
    for labels, cells in blocks:
        *buckets, total = cells[histogram.cell : histogram.cell + HISTOGRAM_CELLS]
        family.add_metric(labels, list(zip(_BOUNDS, accumulate(buckets), strict=True)), total)
    return family


def queue_families(queues: list[TaskQueue] | None) -> Iterator[Metric]:
    """Yield the metrics of the queue: nothing but that it could not be looked at, if that is so."""
    yield GaugeMetricFamily("pgtasks_queue_up", "Whether the database has told what waits.", queues is not None)
    jobs = GaugeMetricFamily(
        "pgtasks_queue_jobs", "Jobs in the database, counted up to a limit.", labels=["task", "state"]
    )
    oldest = GaugeMetricFamily(
        "pgtasks_queue_oldest_seconds", "For how long the oldest ready job has been due, or 0.", labels=["task"]
    )
    for queue in queues or ():
        for state in ("ready", "scheduled", "running", "failed"):
            jobs.add_metric([queue.task, state], getattr(queue, state))
        oldest.add_metric([queue.task], queue.oldest or 0.0)
    yield jobs
    yield oldest


def _read_figures(answer: Any) -> list[Figure]:
    figures = list(answer)
    for figure in figures:
        if not isinstance(figure, Figure):
            raise TypeError(f"{figure!r} is no Metric")
        if not _NAME.fullmatch(figure.name) or figure.kind not in ("gauge", "counter"):
            raise ValueError(f"{figure!r} has a name or a kind that Prometheus does not take")
        for label, value in figure.labels.items():
            if not _LABEL.fullmatch(label) or not isinstance(value, str):
                raise ValueError(f"{figure!r} has a label that Prometheus does not take")
        float(figure.value)
    return figures
