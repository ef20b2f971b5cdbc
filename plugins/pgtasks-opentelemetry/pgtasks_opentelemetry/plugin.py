"""The plugin."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind

from pgtasks.plugins import Role, hookimpl
from pgtasks_opentelemetry import attributes as names
from pgtasks_opentelemetry.carrier import flags_of, with_flags
from pgtasks_opentelemetry.metrics import Figures
from pgtasks_opentelemetry.runs import Runs, error_of
from pgtasks_opentelemetry.settings import OpenTelemetrySettings, load_setup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Tracer

    from pgtasks import Job, JobSpec
    from pgtasks.plugins import Application, JobEnd

_NOTHING: Final = nullcontext()


class OpenTelemetry:
    """A span for each add, one for each run, which finds its way back to the add, and metrics of both.

    It uses what SDK the application has configured, and does next to nothing where there is none.

    Example:
        >>> from pgtasks import App
        >>> app = App(plugins=[OpenTelemetry()])
    """

    name = "opentelemetry"

    def __init__(self) -> None:
        self._settings = OpenTelemetrySettings()
        self._runs = Runs(self._settings)
        self._figures = Figures()
        self._setup: Callable[[], object] | None = None
        self._tracers: Any = None
        self._tracer: Tracer | None = None
        self._meters: Any = None
        self._counts = False

    @hookimpl
    def configure(self, app: Application) -> None:
        """Read the settings."""
        self._settings = app.plugin_settings(self.name, OpenTelemetrySettings)
        self._runs = Runs(self._settings)
        if self._settings.setup is not None and app.role is Role.WORKER:
            self._setup = load_setup(self._settings.setup)

    @hookimpl(trylast=True)
    def before_defer(self, specs: Sequence[JobSpec]) -> Sequence[JobSpec] | None:
        """Make a span, and have the jobs carry it. Last, so that nobody refuses or changes the jobs afterwards."""
        tracer, counts = self._active_tracer(), self._is_counting()
        if tracer is None and not counts:
            return None
        by_task: dict[str, list[int]] = {}
        for position, spec in enumerate(specs):
            by_task.setdefault(spec.task, []).append(position)
        if counts:
            for task, positions in by_task.items():
                self._figures.added(task, len(positions))
        if tracer is None:
            return None
        fields, changed = self._settings.carry, list(specs)
        for task, positions in by_task.items():
            about = names.of_add(task, [specs[position] for position in positions])
            # It ends at once: whether the transaction commits, and when, is the caller's, and its statements may have
            # spans of their own.
            with tracer.start_span(f"create {task}", kind=SpanKind.PRODUCER, attributes=about) as span:
                carried = flags_of(trace.set_span_in_context(span), fields)
            for position in positions:
                spec = specs[position]
                changed[position] = replace(spec, flags=with_flags(spec.flags, carried, fields))
        return changed

    @hookimpl(tryfirst=True)
    def worker_process_init(self) -> None:
        """Configure the SDK, if the settings say how: its threads have to be this process's."""
        if self._setup is not None:
            self._setup()

    @hookimpl
    def job_context(self, job: Job) -> AbstractContextManager[object]:
        """Make a span that is current while the handler runs."""
        tracer = self._active_tracer()
        return _NOTHING if tracer is None else self._runs.open(job, tracer)

    @hookimpl
    def job_finished(self, end: JobEnd) -> None:
        """End the span, and count the run."""
        self._runs.ended(end)
        if self._is_counting():
            self._figures.ended(end, error_of(end))

    @hookimpl
    def worker_process_shutdown(self) -> None:
        """Have everything exported."""
        self._runs.end_all()
        milliseconds = int(self._settings.flush_timeout * 1000)
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                flush(milliseconds)

    def _active_tracer(self) -> Tracer | None:
        """Return the tracer of the provider that there is now; None if that does nothing."""
        provider = trace.get_tracer_provider()
        if provider is not self._tracers:
            self._tracers = provider
            self._tracer = None if _does_nothing(provider) else provider.get_tracer("pgtasks")
        return self._tracer

    def _is_counting(self) -> bool:
        provider = metrics.get_meter_provider()
        if provider is not self._meters:
            self._meters = provider
            self._counts = not _does_nothing(provider)
        return self._counts


def _does_nothing(provider: object) -> bool:
    """Whether a provider is one of the API's own, which stand in where no SDK is configured."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
