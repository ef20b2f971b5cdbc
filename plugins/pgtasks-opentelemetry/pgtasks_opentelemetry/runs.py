"""Spans of runs."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import INVALID_SPAN, Link, SpanKind, Status, StatusCode

from pgtasks_opentelemetry import attributes as names
from pgtasks_opentelemetry.carrier import context_of

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.trace import Span, Tracer

    from pgtasks import Job
    from pgtasks.plugins import JobEnd
    from pgtasks_opentelemetry.settings import OpenTelemetrySettings

_MOST: Final = 10_000
"""So many spans may wait to hear what has become of their runs; older ones are ended without that."""
_FAILED: Final = frozenset({"retry", "fail"})


class Runs:
    """Opens a span for each run, and ends it when the database has what became of the job.

    The span's time is that of the handler all the same.

    Args:
        settings: the plugin's.
    """

    def __init__(self, settings: OpenTelemetrySettings) -> None:
        self.settings = settings
        self._waiting: dict[int, Run] = {}
        """By the identity of the job, which is the same object in all hooks of a run."""

    def open(self, job: Job, tracer: Tracer) -> Run:
        """Return a context manager that a run's span is current in."""
        return Run(self, job, tracer)

    def wait(self, run: Run) -> None:
        """Keep a span whose handler has ended until it is known how the run has."""
        self._waiting[id(run.job)] = run
        while len(self._waiting) > _MOST:
            try:
                self._waiting.pop(next(iter(self._waiting))).close(None)
            except (KeyError, RuntimeError, StopIteration):  # another thread is at it
                return

    def ended(self, end: JobEnd) -> None:
        """End the span of a run."""
        run = self._waiting.pop(id(end.job), None)
        if run is not None:
            run.close(end)

    def end_all(self) -> None:
        """End all spans whose handlers have ended, for when nothing more will be heard."""
        while self._waiting:
            self._waiting.popitem()[1].close(None)


class Run:
    """One run: a context manager."""

    __slots__ = ("_ended", "_runs", "_span", "_token", "_tracer", "error", "job")

    def __init__(self, runs: Runs, job: Job, tracer: Tracer) -> None:
        self._runs = runs
        self._tracer = tracer
        self.job = job
        self.error: str | None = None

    def __enter__(self) -> Span:
        job, settings = self.job, self._runs.settings
        context = context_of(job.flags, settings.carry)
        links = None
        if settings.relation == "link":
            origin = trace.get_current_span(context).get_span_context()
            if origin.is_valid:
                links = [Link(origin)]
                context = trace.set_span_in_context(INVALID_SPAN, context)  # a trace of its own
        self._span = self._tracer.start_span(
            f"process {job.task}", context, SpanKind.CONSUMER, names.of_run(job), links
        )
        self._token: Any = attach(trace.set_span_in_context(self._span, context))
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        detach(self._token)
        self._ended = time.time_ns()
        if error is not None:
            self.error = names.name_of(error)
            if isinstance(error, Exception):  # and no cancellation
                self._note(error)
        self._runs.wait(self)

    def close(self, end: JobEnd | None) -> None:
        """End the span, with what is known of the run's end."""
        span = self._span
        if end is not None:
            span.set_attribute(names.OUTCOME, end.outcome)
            span.set_attribute(names.STATE, end.state)
        if end.outcome in _FAILED if end is not None else self.error is not None:
            error = error_of(end) if end is not None else self.error
            span.set_attribute(names.ERROR, error or "_OTHER")
            text = end.error if end is not None and self._runs.settings.exception_text else None
            span.set_status(Status(StatusCode.ERROR, text.partition("\n")[0] if text else error))
        span.end(self._ended)

    def _note(self, error: Exception) -> None:
        if self._runs.settings.exception_text:
            self._span.record_exception(error, timestamp=self._ended)
            return
        where = "".join(traceback.format_tb(error.__traceback__))
        said = {"exception.type": names.name_of(error), "exception.stacktrace": where}
        self._span.add_event("exception", said, self._ended)


def error_of(end: JobEnd) -> str | None:
    """Return what a run has failed with, as `error.type` has it; None if it has not."""
    if end.outcome not in _FAILED:
        return None
    if end.timed_out:
        return "timeout"
    return names.name_of(end.exception) if end.exception is not None else "_OTHER"
