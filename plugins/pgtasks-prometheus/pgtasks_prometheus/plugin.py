"""The plugin: hands what it is told to what counts in this kind of process, if anything does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pgtasks import hookimpl
from pgtasks.plugins import Role
from pgtasks_prometheus.counting import Counting
from pgtasks_prometheus.directory import Directory
from pgtasks_prometheus.settings import NAME, PrometheusSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks import Job
    from pgtasks.plugins import Application, HostInfo, JobEnd, LostJob, ProcessInfo
    from pgtasks_prometheus.host import Host

log = logging.getLogger("pgtasks.plugins.prometheus")


class Prometheus:
    """Counts in worker processes, and answers in the supervisor."""

    def __init__(self) -> None:
        self._settings = PrometheusSettings()
        self._counting: Counting | None = None
        self._host: Host | None = None

    @hookimpl
    def configure(self, app: Application) -> bool:
        """Read the settings; in the supervisor, begin to answer. Without a port there is nothing to do.

        That is here, and not in `supervisor_ready`, since a port that is taken has to keep the worker from starting.
        """
        self._settings = app.plugin_settings(NAME, PrometheusSettings)
        if app.role is Role.SUPERVISOR and self._settings.port is not None:
            # Only the supervisor imports prometheus_client, or worker processes would carry an HTTP server about.
            from pgtasks_prometheus.host import Host  # noqa: PLC0415

            self._host = Host(app, self._settings)
        return self._settings.port is not None

    # Worker processes

    @hookimpl
    def worker_process_init(self, app: Application, process: ProcessInfo) -> None:
        """Make the file that this process counts in. Without one it runs its jobs all the same, uncounted."""
        if self._settings.port is None:
            return
        try:
            directory = Directory(process.worker_id.rpartition("-")[0])
            self._counting = Counting(directory.path / process.worker_id, app.registry.names)
        except OSError as error:
            log.error("metrics_not_counted", extra={"error": str(error)})  # noqa: TRY400 - our own stack says nothing

    @hookimpl
    def jobs_claimed(self, jobs: Sequence[Job]) -> None:
        """Count a claim."""
        if self._counting is not None:
            self._counting.claimed(jobs)

    @hookimpl
    def job_timed_out(self, job: Job) -> None:
        """Count a job that was asked to stop."""
        if self._counting is not None:
            self._counting.timed_out(job)

    @hookimpl
    def job_finished(self, end: JobEnd) -> None:
        """Count a run that has ended."""
        if self._counting is not None:
            self._counting.finished(end)

    # The supervisor

    @hookimpl
    def supervisor_ready(self, host: HostInfo) -> None:
        """Look for the counts of this host's processes."""
        if self._host is not None:
            self._host.begin(host)

    @hookimpl
    def supervisor_tick(self, host: HostInfo) -> None:
        """Note how the host is."""
        if self._host is not None:
            self._host.note(host)

    @hookimpl
    def supervisor_stopped(self) -> None:
        """Answer no more, and leave nothing behind."""
        if self._host is not None:
            self._host.close()
            self._host = None

    @hookimpl
    def worker_spawned(self, process: ProcessInfo) -> None:
        """Count a process."""
        if self._host is not None:
            self._host.spawned(process)

    @hookimpl
    def worker_exited(self, process: ProcessInfo, code: int) -> None:
        """Keep what a process has counted."""
        if self._host is not None:
            self._host.exited(process, code)

    @hookimpl
    def on_worker_lost(self, jobs: Sequence[LostJob]) -> None:
        """Count a process that has died, and its jobs."""
        if self._host is not None:
            self._host.lost(len(jobs))

    @hookimpl
    def jobs_recovered(self, charged: int, returned: int) -> None:
        """Count jobs that were taken back."""
        if self._host is not None:
            self._host.recovered(charged, returned)

    @hookimpl
    def listen_lost(self) -> None:
        """Note that notifications are not heard."""
        if self._host is not None:
            self._host.listening = False

    @hookimpl
    def listen_restored(self) -> None:
        """Note that they are heard again."""
        if self._host is not None:
            self._host.listening = True

    # Both

    @hookimpl
    def database_error(self) -> None:
        """Count that the database is away."""
        counting: Any = self._counting or self._host
        if counting is not None:
            counting.database_error()

    @hookimpl
    def hook_error(self, plugin: str, hook: str) -> None:
        """Count a failure of any plugin's hook."""
        counting: Any = self._counting or self._host
        if counting is not None:
            counting.hook_error(plugin, hook)
