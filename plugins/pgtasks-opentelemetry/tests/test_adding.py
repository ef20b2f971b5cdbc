"""Spans of adds, and what the jobs carry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanKind

from pgtasks import App, JobSpec, Registry, hookimpl
from pgtasks_opentelemetry import OpenTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

tracer = trace.get_tracer("test")


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, plugins=[OpenTelemetry()])
    yield app
    app.close()


def carried(span: Any) -> str:
    found = span.get_span_context()
    return f"@traceparent=00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def test_an_add_is_a_span_within_that_of_the_caller(app: App, spans: InMemorySpanExporter) -> None:
    with trace.get_tracer("test").start_as_current_span("request") as request:
        app.add_job("send", {"to": "ada"}, queue="mail")
    span, _ = spans.get_finished_spans()
    assert (span.name, span.kind, span.parent) == ("create send", SpanKind.PRODUCER, request.get_span_context())
    assert dict(span.attributes or {}) == {
        "messaging.system": "pgtasks",
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": "send",
        "messaging.destination.partition.id": "mail",
    }


def test_a_job_carries_its_span_as_a_flag_and_its_payload_is_as_it_was(
    app: App, spans: InMemorySpanExporter, connection: psycopg.Connection
) -> None:
    job = app.add_job("send", {"to": "ada"}, flags=["smtp"])
    [span] = spans.get_finished_spans()
    assert job.flags == (carried(span), "smtp")
    [(payload, flags)] = connection.execute("select payload, flags from graphile_worker._private_jobs").fetchall()
    assert (payload, flags) == ({"to": "ada"}, {carried(span): True, "smtp": True})


def test_the_flag_belongs_to_the_callers_transaction(
    app: App, spans: InMemorySpanExporter, connection: psycopg.Connection
) -> None:
    with connection.transaction(force_rollback=True):
        app.add_job("send", connection=connection)
    assert connection.execute("select count(*) from graphile_worker._private_jobs").fetchone() == (0,)


def test_jobs_that_are_added_together_share_a_span_by_task(spans: InMemorySpanExporter) -> None:
    specs = [JobSpec(task="send"), JobSpec(task="print"), JobSpec(task="send", flags=("smtp",))]
    changed = OpenTelemetry().before_defer(specs)
    by_name = {span.name: span for span in spans.get_finished_spans()}
    assert (by_name["create send"].attributes or {})["messaging.batch.message_count"] == 2
    send, printed = carried(by_name["create send"]), carried(by_name["create print"])
    assert changed is not None
    assert [spec.flags for spec in changed] == [(send,), (printed,), ("smtp", send)]


def test_a_call_with_many_jobs_has_few_spans(app: App, spans: InMemorySpanExporter) -> None:
    assert app.add_jobs((JobSpec(task="send") for _ in range(1000)), returning=False) == 1000
    found = spans.get_finished_spans()
    assert len(found) < 20
    assert sum(int((span.attributes or {}).get("messaging.batch.message_count", 1)) for span in found) == 1000  # type: ignore[call-overload]


def test_jobs_are_added_from_asyncio_in_the_trace_of_their_task(app: App, spans: InMemorySpanExporter) -> None:
    async def request(name: str) -> None:
        with trace.get_tracer("test").start_as_current_span(name):
            await asyncio.sleep(0)
            await app.add_job_async(name)

    async def requests() -> None:
        await asyncio.gather(request("one"), request("two"))
        await app.aclose()

    asyncio.run(requests())
    found = {span.name: span for span in spans.get_finished_spans()}
    for name in ("one", "two"):
        parent = found[f"create {name}"].parent
        assert parent is not None
        assert parent.span_id == found[name].get_span_context().span_id  # type: ignore[union-attr]


def test_a_carrier_among_the_flags_is_replaced(app: App, spans: InMemorySpanExporter) -> None:
    first = app.add_job("send")
    second = app.add_job("send", flags=[*first.flags, "@order=1"])
    assert second.flags == ("@order=1", carried(spans.get_finished_spans()[1]))


def test_a_job_that_another_plugin_refuses_has_no_span(database: str, spans: InMemorySpanExporter) -> None:
    class Refuse:
        @hookimpl
        def before_defer(self) -> None:
            raise ValueError("no jobs today")

    app = App(registry=Registry(), database_url=database, plugins=[Refuse(), OpenTelemetry()])
    with pytest.raises(ValueError, match="no jobs today"):
        app.add_job("send")
    app.close()
    assert spans.get_finished_spans() == ()


@pytest.mark.usefixtures("spans")
def test_baggage_is_kept_only_if_it_is_to_be(app: App, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = context.attach(baggage.set_baggage("who", "ada"))
    try:
        assert not any("ada" in flag for flag in app.add_job("send").flags)
        monkeypatch.setenv("PGTASKS_PLUGIN_OPENTELEMETRY__CARRY", '["traceparent", "baggage"]')
        other = App(registry=Registry(), database_url=database, plugins=[OpenTelemetry()])
        assert "@baggage=who=ada" in other.add_job("send").flags
        other.close()
    finally:
        context.detach(token)


def test_without_an_sdk_nothing_is_changed(app: App) -> None:
    assert app.add_job("send", flags=["smtp"]).flags == ("smtp",)
    assert app.add_job("send").flags == ()


def test_adds_are_counted(database: str, figures: Callable[[], dict[str, Any]]) -> None:
    app = App(registry=Registry(), database_url=database, plugins=[OpenTelemetry()])
    app.add_jobs([JobSpec(task="send"), JobSpec(task="print"), JobSpec(task="send")], returning=False)
    app.close()
    points = figures()["messaging.client.sent.messages"]
    assert {point.attributes["messaging.destination.name"]: point.value for point in points} == {"send": 2, "print": 1}
