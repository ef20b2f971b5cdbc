"""Counters and histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import metrics

from pgtasks_opentelemetry import attributes as names

if TYPE_CHECKING:
    from pgtasks.plugins import JobEnd
    from pgtasks_opentelemetry.attributes import Attributes

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 1800)


class Figures:
    """What is counted. Its instruments do nothing before the application has a meter provider.

    Neither queues nor keys are among the attributes: there may be any number of them.
    """

    def __init__(self) -> None:
        meter = metrics.get_meter("pgtasks")
        self._added = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Jobs that were sent to the database."
        )
        self._ended = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Runs that have ended, by outcome."
        )
        self._duration = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "How long handlers ran.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._wait = meter.create_histogram(
            "pgtasks.job.wait.duration",
            "s",
            "From when a job was due to when it was claimed, by the database's clock.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def added(self, task: str, jobs: int) -> None:
        """Count jobs that are about to be added."""
        self._added.add(jobs, {names.SYSTEM: "pgtasks", names.OPERATION: "create", names.DESTINATION: task})

    def ended(self, end: JobEnd, error: str | None) -> None:
        """Count a run that has ended; `error` says with what, if it has failed."""
        job = end.job
        about: Attributes = {
            names.SYSTEM: "pgtasks",
            names.OPERATION: "process",
            names.DESTINATION: job.task,
        }
        if job.locked_at is not None:
            self._wait.record(max(0, job.locked_micros - job.due_micros) / 1e6, about)
        about[names.OUTCOME] = end.outcome
        if error is not None:
            about[names.ERROR] = error
        self._ended.add(1, about)
        self._duration.record(end.seconds, about)
