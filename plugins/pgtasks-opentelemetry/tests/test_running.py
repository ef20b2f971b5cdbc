"""Spans of runs, in real workers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from otel_worker import PATH

from pgtasks import App, Registry
from pgtasks_opentelemetry import OpenTelemetry
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from otel_worker import Traced

    from tests.worker.conftest import Database, StartWorker


@pytest.fixture
def app(database: str, spans: InMemorySpanExporter) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, plugins=[OpenTelemetry()])
    yield app
    app.close()


def context_of(span: Any) -> tuple[str, str]:
    found = span.get_span_context()
    return f"0x{found.trace_id:032x}", f"0x{found.span_id:016x}"


def parent_within(spans: dict[str, dict[str, Any]], child: str) -> str:
    """The name of a span's parent, which is in the same trace."""
    [parent] = [span for span in spans.values() if span["context"]["span_id"] == spans[child]["parent_id"]]
    assert parent["context"]["trace_id"] == spans[child]["context"]["trace_id"]
    return str(parent["name"])


@pytest.mark.parametrize("task", ["plain", "coroutine"])
def test_a_run_links_to_its_add_and_the_handlers_spans_are_its_children(
    app: App, spans: InMemorySpanExporter, traced: Traced, task: str
) -> None:
    job = app.add_job(task, {"secret": "payload"}, queue="line", job_key="one", max_attempts=3)
    [add] = spans.get_finished_spans()
    traced.run()
    found = traced.spans()
    run = found[f"process {task}"]
    [link] = run["links"]
    assert (link["context"]["trace_id"], link["context"]["span_id"]) == context_of(add)
    assert run["parent_id"] is None
    assert run["context"]["trace_id"] != context_of(add)[0]
    assert run["kind"] == "SpanKind.CONSUMER"
    assert run["attributes"].pop("messaging.client.id")
    assert run["attributes"] == {
        "messaging.system": "pgtasks",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": task,
        "messaging.destination.partition.id": "line",
        "messaging.message.id": str(job.id),
        "messaging.message.body.size": len('{"secret":"payload"}'),
        "pgtasks.job.attempt": 1,
        "pgtasks.job.max_attempts": 3,
        "pgtasks.job.key": "one",
        "pgtasks.job.outcome": "success",
        "pgtasks.job.state": "deleted",
    }
    assert parent_within(found, f"inside {task}") == f"process {task}"
    assert "secret" not in str(found)


@pytest.mark.parametrize("task", ["plain", "coroutine"])
def test_a_run_can_be_a_child_of_its_add(app: App, spans: InMemorySpanExporter, traced: Traced, task: str) -> None:
    app.add_job(task, {})
    [add] = spans.get_finished_spans()
    traced.run(relation="parent")
    run = traced.spans()[f"process {task}"]
    assert (run["context"]["trace_id"], run["parent_id"]) == context_of(add)
    assert run["links"] == []


@pytest.mark.parametrize("relation", ["link", "parent"])
def test_a_job_added_by_sql_has_a_trace_of_its_own(
    connection: psycopg.Connection, traced: Traced, relation: str
) -> None:
    connection.execute("select graphile_worker.add_job('plain')")
    traced.run(relation=relation)
    run = traced.spans()["process plain"]
    assert (run["parent_id"], run["links"]) == (None, [])


def test_a_job_added_by_sql_can_carry_a_trace(connection: psycopg.Connection, traced: Traced) -> None:
    flag = f"@traceparent=00-{'ab' * 16}-{'cd' * 8}-01"
    connection.execute("select graphile_worker.add_job('plain', flags => array[%s])", (flag,))
    traced.run(relation="parent")
    run = traced.spans()["process plain"]
    assert (run["context"]["trace_id"], run["parent_id"]) == (f"0x{'ab' * 16}", f"0x{'cd' * 8}")


@pytest.mark.parametrize("flag", ["@traceparent=", "@traceparent=nonsense", "@traceparent", "@", "@=", "traceparent=1"])
def test_a_flag_that_carries_nonsense_does_no_harm(connection: psycopg.Connection, traced: Traced, flag: str) -> None:
    connection.execute("select graphile_worker.add_job('plain', flags => array[%s])", (flag,))
    worker = traced.run()
    assert traced.spans()["process plain"]["links"] == []
    assert worker.records("hook_failed") == []


def test_a_job_that_a_job_adds_belongs_to_its_run(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('chain')")
    traced.run(relation="parent")
    found = traced.spans()
    assert parent_within(found, "process plain") == "create plain"
    assert parent_within(found, "create plain") == "process chain"


def test_baggage_arrives(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('says_baggage', flags => array['@baggage=who=ada'])")
    traced.run(carry='["traceparent", "baggage"]')
    assert traced.spans()["process says_baggage"]["attributes"]["seen"] == "ada"


def test_a_failed_run_has_its_error_and_what_became_of_it(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('broken', '{\"secret\": 1}', max_attempts => 1)")
    traced.run()
    run = traced.spans()["process broken"]
    assert run["status"] == {"status_code": "ERROR", "description": "ValueError: it is broken"}
    assert run["attributes"]["error.type"] == "ValueError"
    assert (run["attributes"]["pgtasks.job.outcome"], run["attributes"]["pgtasks.job.state"]) == ("retry", "failed")
    [event] = run["events"]
    assert (event["name"], event["attributes"]["exception.message"]) == ("exception", "it is broken")
    assert "raise ValueError" in event["attributes"]["exception.stacktrace"]
    assert "secret" not in str(run)


def test_the_text_of_exceptions_can_be_left_out(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('broken')")
    traced.run(exception_text="false")
    run = traced.spans()["process broken"]
    assert run["status"] == {"status_code": "ERROR", "description": "ValueError"}
    [event] = run["events"]
    assert set(event["attributes"]) == {"exception.type", "exception.stacktrace"}
    assert "in broken" in event["attributes"]["exception.stacktrace"]


def test_each_attempt_has_a_span_that_links_to_the_add(
    app: App, spans: InMemorySpanExporter, db: Database, traced: Traced
) -> None:
    job = app.add_job("fails_once")
    [add] = spans.get_finished_spans()
    worker = traced.start()
    worker.wait_for("job_retrying", job_id=job.id)
    db.connection.execute("select graphile_worker.reschedule_jobs(array[%s], now())", (job.id,))
    worker.wait_for("job_succeeded", job_id=job.id)
    assert worker.stop() == 0
    first, second = sorted(traced.all_spans(), key=lambda span: int(span["attributes"]["pgtasks.job.attempt"]))
    assert [span["links"][0]["context"]["span_id"] for span in (first, second)] == [context_of(add)[1]] * 2
    assert [span["attributes"]["pgtasks.job.state"] for span in (first, second)] == ["retrying", "deleted"]
    assert [span["status"]["status_code"] for span in (first, second)] == ["ERROR", "UNSET"]


def test_a_job_that_is_cancelled_after_an_error_has_not_failed(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('cancels')")
    traced.run()
    run = traced.spans()["process cancels"]
    assert (run["attributes"]["pgtasks.job.outcome"], run["status"]["status_code"]) == ("cancel", "UNSET")
    assert "error.type" not in run["attributes"]


def test_a_run_that_takes_too_long_has_failed_by_a_time_out(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('overdue')")
    traced.run()
    run = traced.spans()["process overdue"]
    assert (run["attributes"]["error.type"], run["status"]["status_code"]) == ("timeout", "ERROR")


def test_runs_are_counted_and_timed(connection: psycopg.Connection, traced: Traced) -> None:
    for task in ("plain", "coroutine", "broken"):
        connection.execute("select graphile_worker.add_job(%s, queue_name := 'line')", (task,))
    traced.run("--processes", "1")
    found = traced.metrics()
    runs = {point["attributes"]["messaging.destination.name"]: point for point in found["messaging.process.duration"]}
    assert {name: point["count"] for name, point in runs.items()} == {"plain": 1, "coroutine": 1, "broken": 1}
    assert runs["broken"]["attributes"] == {
        "messaging.system": "pgtasks",
        "messaging.operation.name": "process",
        "messaging.destination.name": "broken",
        "pgtasks.job.outcome": "retry",
        "error.type": "ValueError",
    }
    assert sum(point["value"] for point in found["messaging.client.consumed.messages"]) == 3
    assert sum(point["count"] for point in found["pgtasks.job.wait.duration"]) == 3


def test_a_setup_that_cannot_be_found_keeps_the_worker_from_starting(traced: Traced) -> None:
    worker = traced.start(setup="otel_jobs:nothing_of_the_kind")
    assert worker.wait() != 0
    assert "plugin.opentelemetry.setup" in worker.text
    assert "nothing_of_the_kind" in worker.text


def test_a_worker_without_an_sdk_runs_jobs(
    connection: psycopg.Connection, start_worker: StartWorker, tmp_path: Path
) -> None:
    connection.execute("select graphile_worker.add_job('plain')")
    worker = start_worker(
        "--once", modules=("otel_jobs",), env={"PYTHONPATH": PATH, "PGTASKS_PLUGINS": "pgtasks_opentelemetry"}
    )
    assert worker.wait() == 0
    assert worker.records("job_succeeded")
    assert worker.records("hook_failed") == []


def test_the_spans_of_a_worker_that_is_stopped_are_exported(connection: psycopg.Connection, traced: Traced) -> None:
    connection.execute("select graphile_worker.add_job('waits')")
    worker = traced.start("--shutdown-timeout", "0")
    wait_until(lambda: "waiting" in worker.text, 60, "the job")
    worker.stop()
    run = traced.spans()["process waits"]
    assert run["attributes"]["pgtasks.job.outcome"] == "return"
    assert run["status"]["status_code"] == "UNSET"
    assert run["events"] == []


def test_importing_the_plugin_starts_no_thread() -> None:
    code = "import threading, pgtasks_opentelemetry as p; assert threading.active_count() == 1; print(p.name)"
    shown = subprocess.check_output([sys.executable, "-c", code], text=True, env={"PYTHONPATH": PATH})
    assert shown == "opentelemetry\n"
