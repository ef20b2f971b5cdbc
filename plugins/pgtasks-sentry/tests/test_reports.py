"""What is reported of jobs, by real workers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from sentry_worker import PATH

from pgtasks import App, Registry
from pgtasks_sentry import Sentry

if TYPE_CHECKING:
    import psycopg
    from sentry_worker import Endpoint, Reported

    from tests.worker.conftest import Database, StartWorker


def add(connection: psycopg.Connection, task: str, payload: str = "{}", **options: Any) -> int:
    names = "".join(f", {name} => %s" for name in options)
    [(job_id,)] = connection.execute(
        f"select id from graphile_worker.add_job(%s, %s{names})".encode(), (task, payload, *options.values())
    ).fetchall()
    return int(job_id)


def test_a_failed_job_is_reported_with_what_it_was_and_without_its_payload(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    job_id = add(
        connection, "broken", '{"secret": "hush"}', queue_name="line", job_key="one", flags=["smtp"], max_attempts=1
    )
    reported.run(environment="test", release="shop@1")
    [event] = endpoint.events
    about = event["contexts"]["pgtasks"]
    assert about.pop("worker")
    assert about.pop("created_at")
    assert about.pop("run_at")
    assert about == {
        "job_id": job_id,
        "task": "broken",
        "attempt": 1,
        "max_attempts": 1,
        "queue": "line",
        "key": "one",
        "flags": ["smtp"],
        "priority": 0,
    }
    [error] = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "broken after 4 characters")
    assert error["stacktrace"]["frames"][-1]["function"] == "broken"
    assert error["mechanism"] == {"type": "pgtasks", "handled": False}
    assert (event["level"], event["transaction"]) == ("error", "broken")
    assert (event["environment"], event["release"]) == ("test", "shop@1")
    assert event["tags"] == {"pgtasks.task": "broken", "pgtasks.queue": "line", "pgtasks.state": "failed"}
    assert not any(b"hush" in body for body in endpoint.bodies)


def test_the_payload_and_local_variables_are_sent_if_wanted(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "broken", '{"secret": "hush"}')
    reported.run(send_payload="true")
    [event] = endpoint.events
    assert event["contexts"]["pgtasks payload"]["payload"] == {"secret": "hush"}
    assert event["exception"]["values"][0]["stacktrace"]["frames"][-1]["vars"]["detail"] == "'hush'"


@pytest.mark.parametrize("dsn", ["", "http://public@127.0.0.1:9/1"])
def test_the_applications_own_client_is_used_and_gets_no_local_variables_either(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported, dsn: str
) -> None:
    add(connection, "broken", '{"secret": "hush"}')
    reported.run(dsn=dsn, env={"OWN_DSN": endpoint.dsn})
    [event] = endpoint.events
    assert event["environment"] == "of the application"
    assert event["contexts"]["pgtasks"]["task"] == "broken"
    assert not any(b"hush" in body for body in endpoint.bodies)


def test_a_coroutines_error_is_reported(connection: psycopg.Connection, endpoint: Endpoint, reported: Reported) -> None:
    add(connection, "broken_async")
    reported.run()
    [event] = endpoint.events
    assert event["exception"]["values"][0]["value"] == "broken in a coroutine"
    assert event["contexts"]["pgtasks"]["task"] == "broken_async"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("every", [(1, "warning"), (2, "warning"), (3, "error")]),
        ("first", [(1, "warning")]),
        ("last", [(3, "error")]),
    ],
)
def test_the_attempts_that_are_reported_can_be_chosen(
    db: Database, endpoint: Endpoint, reported: Reported, report: str, expected: list[tuple[int, str]]
) -> None:
    job_id = add(db.connection, "always", max_attempts=3)
    worker = reported.start(report=report)
    for number in (1, 2):
        worker.wait_for("job_retrying", number, job_id=job_id)
        db.connection.execute("select graphile_worker.reschedule_jobs(array[%s], now())", (job_id,))
    worker.wait_for("job_failed", job_id=job_id)
    assert worker.stop() == 0
    events = sorted(endpoint.events, key=lambda event: int(event["contexts"]["pgtasks"]["attempt"]))
    assert [(event["contexts"]["pgtasks"]["attempt"], event["level"]) for event in events] == expected


def test_an_error_after_which_a_job_is_cancelled_is_not_reported(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "unwanted")
    reported.run()
    assert endpoint.events == []


@pytest.mark.parametrize("task", ["crumbs", "crumbs_async"])
def test_what_jobs_leave_in_their_scopes_is_not_seen_by_others(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported, task: str
) -> None:
    for name in ("one", "two"):
        add(connection, task, f'{{"name": "{name}"}}')
    reported.run("--processes", "1", "--concurrency", "2")
    events = {event["exception"]["values"][0]["value"]: event for event in endpoint.events}
    for name in ("one", "two"):
        assert [crumb["message"] for crumb in events[name]["breadcrumbs"]["values"]] == [f"crumb {name}"]
        assert events[name]["tags"]["mine"] == name


def test_a_job_sees_nothing_of_the_one_before(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "leaves_a_crumb", queue_name="line")
    add(connection, "broken", '{"secret": ""}', queue_name="line")
    reported.run("--processes", "1", "--concurrency", "1")
    [event] = endpoint.events
    assert not event.get("breadcrumbs", {}).get("values")


def test_time_outs_of_a_task_are_one_issue(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "overdue")
    reported.run()
    [event] = endpoint.events
    assert event["fingerprint"] == ["pgtasks", "timed out", "overdue"]
    assert event["exception"]["values"][-1]["type"] == "JobTimeoutError"


def test_a_job_whose_payload_cannot_be_read_is_reported(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    job_id = add(connection, "reads_payload", '{"n": 1e99999999999999999999}')
    reported.run(send_payload="true")
    [event] = endpoint.events
    assert event["message"].startswith("PayloadError")
    assert event["contexts"]["pgtasks"]["job_id"] == job_id
    assert "PayloadError" not in event["contexts"]["pgtasks payload"]["payload"]


def test_the_supervisor_reports_a_process_that_was_killed_and_the_job_that_ran(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    job_id = add(connection, "dies", max_attempts=1)
    worker = reported.start("--processes", "1")
    [event] = endpoint.wait_for_events(1)
    assert event["level"] == "fatal"
    assert event["message"].startswith("A worker process was lost with 1 running job: ")
    assert "SIGKILL" in event["message"]
    assert event["contexts"]["pgtasks"]["jobs"] == [job_id]
    assert event["fingerprint"][:2] == ["pgtasks", "worker lost"]
    worker.stop()
    assert len(endpoint.events) == 1


def test_without_a_client_nothing_is_sent_and_jobs_run(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "broken", '{"secret": ""}')
    add(connection, "fine")
    worker = reported.run(dsn="")
    assert worker.records("job_succeeded")
    assert endpoint.bodies == []


def test_runs_are_transactions_of_the_trace_that_added_them(
    database: str, endpoint: Endpoint, reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTASKS_PLUGIN_SENTRY__TRACES", "true")
    app = App(registry=Registry(), database_url=database, plugins=[Sentry()])
    with sentry_sdk.isolation_scope(), sentry_sdk.new_scope() as scope:
        scope.set_client(sentry_sdk.Client(endpoint.dsn, traces_sample_rate=1.0, default_integrations=False))
        with sentry_sdk.start_transaction(name="request") as request:
            job = app.add_job("broken", {"secret": ""}, flags=["smtp"])
        scope.client.close()
    app.close()
    reported.run(traces="true")
    by_name = {transaction["transaction"]: transaction for transaction in endpoint.transactions}
    run, [publish] = by_name["broken"], by_name["request"]["spans"]
    trace = run["contexts"]["trace"]
    assert (trace["trace_id"], trace["parent_span_id"]) == (request.trace_id, publish["span_id"])
    assert (trace["op"], trace["status"], publish["op"]) == ("queue.process", "internal_error", "queue.publish")
    assert trace["data"]["messaging.message.id"] == str(job.id)
    assert "smtp" in job.flags
    [event] = endpoint.events
    assert event["contexts"]["trace"]["trace_id"] == request.trace_id


def test_a_job_added_by_sql_has_a_trace_of_its_own(
    connection: psycopg.Connection, endpoint: Endpoint, reported: Reported
) -> None:
    add(connection, "fine")
    reported.run(traces="true")
    [run] = endpoint.transactions
    assert (run["transaction"], run["contexts"]["trace"]["status"]) == ("fine", "ok")
    assert run["contexts"]["trace"].get("parent_span_id") is None


def test_the_dsn_is_no_part_of_the_log(connection: psycopg.Connection, endpoint: Endpoint, reported: Reported) -> None:
    add(connection, "broken", '{"secret": ""}')
    worker = reported.run("--log-level", "debug")
    assert "public@" not in worker.text


def test_importing_the_plugin_starts_no_thread() -> None:
    code = "import threading, pgtasks_sentry as p; assert threading.active_count() == 1; print(p.name)"
    shown = subprocess.check_output([sys.executable, "-c", code], text=True, env={"PYTHONPATH": PATH})
    assert shown == "sentry\n"


def test_a_setting_of_another_kind_is_refused(start_worker: StartWorker) -> None:
    env = {"PYTHONPATH": PATH, "PGTASKS_PLUGINS": "pgtasks_sentry", "PGTASKS_PLUGIN_SENTRY__REPORT": "some"}
    worker = start_worker(modules=("sentry_jobs",), env=env)
    assert worker.wait() != 0
    assert "PGTASKS_PLUGIN_SENTRY__REPORT" in worker.text
