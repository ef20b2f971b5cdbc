"""The plugin."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import sentry_sdk

from pgtasks.plugins import hookimpl
from pgtasks_sentry import client
from pgtasks_sentry.carrier import current_flags, with_flags
from pgtasks_sentry.runs import Runs
from pgtasks_sentry.settings import SentrySettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from pgtasks import Job, JobSpec
    from pgtasks.plugins import Application, JobEnd, LostJob, ProcessInfo

_NOTHING: Final = nullcontext()


class Sentry:
    """Reports failed jobs and crashed worker processes, and isolates each job's scope from those of others.

    It does next to nothing in a process that has no client of Sentry's.

    Example:
        >>> from pgtasks import App
        >>> app = App(plugins=[Sentry()])
    """

    name = "sentry"

    def __init__(self) -> None:
        self._settings = SentrySettings()
        self._runs = Runs(self._settings)

    @hookimpl
    def configure(self, app: Application) -> None:
        """Read the settings."""
        self._settings = app.plugin_settings(self.name, SentrySettings)
        self._runs = Runs(self._settings)

    # Adding

    @hookimpl(trylast=True)
    def before_defer(self, specs: Sequence[JobSpec]) -> Sequence[JobSpec] | None:
        """Have jobs carry the current trace, if runs are traced."""
        if not (self._settings.traces and client.is_active()):
            return None
        name = specs[0].task if len({spec.task for spec in specs}) == 1 else "pgtasks"
        with sentry_sdk.start_span(op="queue.publish", name=name, origin="auto.queue.pgtasks") as span:
            span.set_data("messaging.system", "pgtasks")
            span.set_data("messaging.destination.name", name)
            span.set_data("messaging.batch.message_count", len(specs))
            added = current_flags()
        return [replace(spec, flags=with_flags(spec.flags, added)) for spec in specs]

    # The supervisor

    @hookimpl
    def supervisor_ready(self) -> None:
        """Start a client, if there is to be one. No code of the application's runs here, so that it cannot have one."""
        client.start(self._settings, auto_enabling_integrations=False)

    @hookimpl
    def on_worker_lost(self, process: ProcessInfo, code: int, reason: str, jobs: Sequence[LostJob]) -> None:
        """Report a process that has died over its jobs."""
        if not client.is_active():
            return
        with sentry_sdk.isolation_scope() as scope:
            scope.fingerprint = ["pgtasks", "worker lost", reason]
            scope.set_tag("pgtasks.exit", reason)
            about = {"worker": process.worker_id, "process": process.index, "pid": process.pid, "code": code}
            errors = {str(job.job_id): job.error for job in jobs}
            scope.set_context("pgtasks", {**about, "jobs": [job.job_id for job in jobs], "errors": errors})
            running = f"{len(jobs)} running job{'' if len(jobs) == 1 else 's'}"
            sentry_sdk.capture_message(f"A worker process was lost with {running}: {reason}", level="fatal")

    @hookimpl
    def supervisor_stopped(self) -> None:
        """Have everything sent."""
        sentry_sdk.flush(self._settings.flush_timeout)

    # Worker processes

    @hookimpl(tryfirst=True)
    def worker_process_init(self) -> None:
        """Start a client, if there is to be one: its threads have to be this process's."""
        client.start(self._settings)

    @hookimpl
    def job_context(self, job: Job) -> AbstractContextManager[object]:
        """Isolate the scope of a job, which knows which job it is."""
        return self._runs.open(job) if client.is_active() else _NOTHING

    @hookimpl
    def job_retrying(self, end: JobEnd) -> None:
        """Report a failed attempt, if it is one of those that are."""
        self._ended(end, "warning", wanted=self._settings.report == "every" or self._is_wanted_first(end))

    @hookimpl
    def job_failed(self, end: JobEnd) -> None:
        """Report a job that does not run again."""
        self._ended(end, "error", wanted=self._settings.report in ("every", "last") or self._is_wanted_first(end))

    @hookimpl
    def worker_process_shutdown(self) -> None:
        """Have everything sent."""
        sentry_sdk.flush(self._settings.flush_timeout)

    def _is_wanted_first(self, end: JobEnd) -> bool:
        return self._settings.report == "first" and end.job.attempts == 1

    def _ended(self, end: JobEnd, level: str, *, wanted: bool) -> None:
        if wanted and client.is_active():
            self._runs.report(end, level)
        else:
            self._runs.forget(end)
