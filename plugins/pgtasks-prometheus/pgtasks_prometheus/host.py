"""What the supervisor knows of its host: what it counts itself, and what its processes have counted, dead ones too."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import mark_process_dead

from pgtasks_prometheus.cells import read_cells
from pgtasks_prometheus.collector import HostCollector
from pgtasks_prometheus.directory import Directory
from pgtasks_prometheus.layout import (
    CHARGED,
    DATABASE_ERRORS,
    EXIT,
    HOOK,
    HOST,
    LOST_JOBS,
    LOST_PROCESSES,
    PROCESS,
    STARTED_PROCESSES,
    UNCHARGED,
    VERSION,
)
from pgtasks_prometheus.queue import QueueLook
from pgtasks_prometheus.server import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgtasks.plugins import Application, HostInfo, ProcessInfo, ProcessState
    from pgtasks_prometheus.cells import Key
    from pgtasks_prometheus.layout import Kind
    from pgtasks_prometheus.settings import PrometheusSettings

Counts = dict["Key", list[float]]


class Host:
    """Counts, and answers from now on.

    Args:
        app: the application, as the supervisor knows it.
        settings: say where to answer.

    Raises:
        PluginError: nobody can listen there.
    """

    def __init__(self, app: Application, settings: PrometheusSettings) -> None:
        self.listening = app.settings.listen
        """Whether notifications are heard; a worker that starts says so only if they are not."""
        self.wanted = 0
        """How many processes there are to be."""
        self.states: tuple[ProcessState, ...] = ()
        """What each process was doing about a second ago."""
        self.application_directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        """Where processes of the application leave metrics of its own, if it has prometheus_client do that."""
        self._lock = threading.Lock()
        self._totals: Counts = {(kind.name,): [0.0] * kind.size for kind in (HOST, PROCESS)}
        self._alive: set[str] = set()
        self._directory: Directory | None = None
        registry = CollectorRegistry()
        registry.register(HostCollector(app, self, QueueLook(app, settings.queue_interval, settings.queue_limit)))
        self._server = MetricsServer(registry, settings.address, settings.port or 0)

    @property
    def port(self) -> int:
        """Where it answers."""
        return self._server.port

    @property
    def processes(self) -> int:
        """How many processes there are."""
        return len(self._alive)

    def begin(self, host: HostInfo) -> None:
        """Look for what processes count from now on, and clear away what killed workers have left."""
        self.wanted = host.processes
        directory = Directory(host.host_id)
        directory.clear_leftovers()
        self._directory = directory

    def note(self, host: HostInfo) -> None:
        """Note how the host is."""
        self.wanted, self.states = host.processes, host.states

    def close(self) -> None:
        """Answer no more, and leave nothing behind."""
        self._server.close()
        with self._lock:
            if self._directory is not None:
                self._directory.remove()
                self._directory = None

    def counts(self) -> Counts:
        """Return all that was counted on this host, by this process and by all others."""
        with self._lock:
            counts = {key: list(cells) for key, cells in self._totals.items()}
            if self._directory is not None:
                # It may be gone: systemd deletes what a user has in shared memory when that user logs out.
                with contextlib.suppress(FileNotFoundError):
                    for path in self._directory.path.iterdir():
                        _add(counts, read_cells(path, VERSION))
        return counts

    # What happens

    def spawned(self, process: ProcessInfo) -> None:
        """Count a process."""
        self._alive.add(process.worker_id)
        self._count(HOST, (), STARTED_PROCESSES)

    def exited(self, process: ProcessInfo, code: int) -> None:
        """Keep what a process has counted, and delete its file: there may be many processes in the life of a host."""
        self._alive.discard(process.worker_id)
        self._count(EXIT, (str(code),), 0)
        if self.application_directory is not None:
            mark_process_dead(process.pid, self.application_directory)  # type: ignore[no-untyped-call]
        if self._directory is not None:
            path = self._directory.path / process.worker_id
            # Under the lock, or a look in between would see it all twice, or not at all.
            with self._lock, contextlib.suppress(FileNotFoundError):
                _add(self._totals, read_cells(path, VERSION))
                path.unlink()

    def lost(self, jobs: int) -> None:
        """Count a process that has died, and the jobs that it ran."""
        self._count(HOST, (), LOST_PROCESSES)
        self._count(HOST, (), LOST_JOBS, jobs)

    def recovered(self, charged: int, returned: int) -> None:
        """Count jobs that were taken back."""
        self._count(HOST, (), CHARGED, charged)
        self._count(HOST, (), UNCHARGED, returned)

    def database_error(self) -> None:
        """Count that the database is away."""
        self._count(PROCESS, (), DATABASE_ERRORS)

    def hook_error(self, plugin: str, hook: str) -> None:
        """Count a failure of a hook of some plugin's."""
        self._count(HOOK, (plugin, hook), 0)

    def _count(self, kind: Kind, labels: tuple[str, ...], cell: int, number: int = 1) -> None:
        with self._lock:
            self._totals.setdefault((kind.name, *labels), [0.0] * kind.size)[cell] += number


def _add(counts: Counts, blocks: Iterable[tuple[Key, list[float]]]) -> None:
    for key, cells in blocks:
        before = counts.get(key)
        counts[key] = cells if before is None else [a + b for a, b in zip(before, cells, strict=True)]
