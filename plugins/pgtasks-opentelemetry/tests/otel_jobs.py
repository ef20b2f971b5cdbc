"""The application that the tests' workers run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from opentelemetry import baggage, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from pgtasks import App, JobContext, task
from pgtasks.plugins import Cancel, Snooze, hookimpl


class Decisions:
    @hookimpl
    def retry_decision(self, exception: BaseException) -> Any:
        return exception.args[0] if exception.args and isinstance(exception.args[0], Snooze | Cancel) else None


app = App(plugins=[Decisions()])


def export_to_files() -> None:
    """Configure an SDK that would export much later, so that what is there was flushed."""
    name = f"{os.environ['SPANS']}.{os.getpid()}"
    out = Path(f"{name}.jsonl").open("w", buffering=1)  # noqa: SIM115 - as long as the process
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(tracers)
    figures = Path(f"{name}.metrics").open("w", buffering=1)  # noqa: SIM115
    reader = PeriodicExportingMetricReader(
        ConsoleMetricExporter(out=figures, formatter=lambda data: data.to_json(indent=None) + "\n"),
        export_interval_millis=3_600_000,
    )
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))


@task
def plain(payload: Any) -> None:
    with trace.get_tracer("jobs").start_as_current_span("inside plain"):
        pass


@task
async def coroutine(payload: Any) -> None:
    with trace.get_tracer("jobs").start_as_current_span("inside coroutine"):
        pass


@task
def chain(payload: Any, ctx: JobContext) -> None:
    plain.defer({}, flags=ctx.job.flags)


@task
def says_baggage(payload: Any) -> None:
    trace.get_current_span().set_attribute("seen", str(baggage.get_baggage("who")))


@task(max_attempts=1)
def broken(payload: Any) -> None:
    raise ValueError("it is broken")


@task(max_attempts=2)
def fails_once(payload: Any, ctx: JobContext) -> None:
    if ctx.attempt == 1:
        raise KeyError("not yet")


@task
def cancels(payload: Any) -> None:
    raise LookupError(Cancel("no longer wanted"))


@task(timeout=0.2)
def overdue(payload: Any, ctx: JobContext) -> None:
    ctx.abort.wait()
    ctx.abort.raise_if_set()


@task
async def waits(payload: Any) -> None:
    print("waiting", flush=True)
    await asyncio.Event().wait()
