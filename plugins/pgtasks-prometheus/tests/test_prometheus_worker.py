"""What a real worker answers, compared with what it ran."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_scraping import measured, scrape, wait_for_value

from pgtasks import JobSpec
from pgtasks_prometheus.directory import default_place
from pgtasks_prometheus.layout import OUTCOMES

if TYPE_CHECKING:
    from prometheus_scraping import Scrape, StartMeasured

    from tests.worker.conftest import Database, Worker

TASKS = ("fails", "fails_once", "kills_its_process", "never_runs", "succeeds", "succeeds_async", "too_slow", "waits")


def outcomes(answer: Scrape) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in answer["pgtasks_jobs_total"].items() if value}


def by_task(answer: Scrape, name: str) -> dict[str, float]:
    return {task: value for (task,), value in answer[name].items() if value}


def leftovers(worker: Worker) -> list[str]:
    host = worker.wait_for("worker_starting")["host"]
    return [path.name for path in default_place().iterdir() if path.name.startswith(host)]


def retry_now(db: Database, failed: int) -> None:
    """Let jobs that have failed once run again without the usual pause."""
    waiting = "select id from graphile_worker.jobs where attempts = 1 and locked_at is null and last_error is not null"
    db.wait(lambda: len(db.rows(waiting)) == failed, f"{failed} jobs that have failed once")
    db.app.jobs.reschedule([row[0] for row in db.rows(waiting)], delay=0)


def test_what_two_processes_count_is_exactly_what_they_ran(db: Database, start_measured: StartMeasured) -> None:
    worker = start_measured("--processes", "2", "--concurrency", "4")
    worker.wait_for("worker_ready")
    db.app.add_jobs([JobSpec(task="fails_once") for _ in range(5)])
    retry_now(db, 5)
    db.app.add_jobs([JobSpec(task=name) for name in ("succeeds", "succeeds_async") for _ in range(150)])
    db.app.add_jobs([JobSpec(task="fails", max_attempts=1) for _ in range(4)])
    db.app.add_jobs([JobSpec(task="too_slow", max_attempts=1) for _ in range(2)])
    expected = {
        ("success", "succeeds"): 150,
        ("success", "succeeds_async"): 150,
        ("retrying", "fails_once"): 5,
        ("success", "fails_once"): 5,
        ("failed", "fails"): 4,
        ("failed", "too_slow"): 2,
    }
    db.wait(lambda: sum(outcomes(scrape(worker)).values()) == 316, f"316 ends\n{worker.text}")
    answer = scrape(worker)
    assert outcomes(answer) == expected
    assert set(answer["pgtasks_jobs_total"]) == {(outcome, task) for outcome in OUTCOMES for task in TASKS}
    ran = {"succeeds": 150, "succeeds_async": 150, "fails_once": 10, "fails": 4, "too_slow": 2}
    assert by_task(answer, "pgtasks_jobs_claimed_total") == ran
    assert by_task(answer, "pgtasks_job_retries_total") == {"fails_once": 5}
    assert by_task(answer, "pgtasks_job_timeouts_total") == {"too_slow": 2}
    for name in ("wait", "lag", "run"):
        assert by_task(answer, f"pgtasks_job_{name}_seconds_count") == ran
    assert answer["pgtasks_job_run_seconds_sum"]["too_slow",] > 0
    assert answer["pgtasks_job_run_seconds_bucket"]["+Inf", "too_slow"] == 2
    assert answer["pgtasks_claims_total"][()] >= 3
    wait_for_value(worker, "pgtasks_queue_jobs", ("failed", "fails"), 4)
    assert worker.stop() == 0
    assert leftovers(worker) == []


def test_what_a_killed_process_has_counted_stays(db: Database, start_measured: StartMeasured) -> None:
    worker = start_measured("--processes", "2", "--concurrency", "2")
    worker.wait_for("worker_ready")
    for _ in range(3):
        db.app.add_jobs([JobSpec(task="succeeds") for _ in range(20)])
    wait_for_value(worker, "pgtasks_jobs_total", ("success", "succeeds"), 60)
    for pid in worker.process_ids():
        os.kill(pid, signal.SIGKILL)
    answer = wait_for_value(worker, "pgtasks_processes_exited_total", ("-9",), 2)
    assert answer["pgtasks_jobs_total"]["success", "succeeds"] == 60
    wait_for_value(worker, "pgtasks_processes_started_total", (), 4)
    db.app.add_jobs([JobSpec(task="succeeds") for _ in range(5)])
    answer = wait_for_value(worker, "pgtasks_jobs_total", ("success", "succeeds"), 65)
    assert answer["pgtasks_jobs_claimed_total"]["succeeds",] == 65
    assert answer["pgtasks_processes"][()] == answer["pgtasks_processes_wanted"][()] == 2


def test_a_job_that_kills_its_process_is_counted_as_lost(db: Database, start_measured: StartMeasured) -> None:
    worker = start_measured("--processes", "1", "--concurrency", "1")
    worker.wait_for("worker_ready")
    db.app.add_job("kills_its_process", max_attempts=1)
    answer = wait_for_value(worker, "pgtasks_jobs_recovered_total", ("charged",), 1)
    assert answer["pgtasks_processes_lost_total"][()] == 1
    assert answer["pgtasks_jobs_lost_total"][()] == 1
    assert outcomes(answer) == {}
    wait_for_value(worker, "pgtasks_queue_jobs", ("failed", "kills_its_process"), 1)


def test_slots_and_the_queue_are_shown_as_they_are(db: Database, start_measured: StartMeasured) -> None:
    worker = start_measured("--processes", "2", "--concurrency", "1")
    worker.wait_for("worker_ready")
    for _ in range(3):
        db.app.add_job("waits", {"permit": "go"}, queue=None)
    db.app.add_job("succeeds", delay=1000)
    db.app.add_job("unknown_here", queue="a queue")
    wait_for_value(worker, "pgtasks_listening", (), 1)
    wait_for_value(worker, "pgtasks_slots_running", ("0",), 1)
    wait_for_value(worker, "pgtasks_slots_running", ("1",), 1)
    answer = wait_for_value(worker, "pgtasks_queue_jobs", ("running", "waits"), 2)
    assert answer["pgtasks_slots_free"] == {("0",): 0, ("1",): 0}
    assert answer["pgtasks_queue_up"][()] == 1
    jobs = answer["pgtasks_queue_jobs"]
    assert jobs["ready", "waits"] == 1
    assert (jobs["scheduled", "succeeds"], jobs["ready", "succeeds"]) == (1, 0)
    assert jobs["ready", "unknown_here"] == 1
    assert answer["pgtasks_queue_oldest_seconds"]["unknown_here",] > 0
    assert answer["pgtasks_queue_oldest_seconds"]["succeeds",] == 0
    db.permit("go")
    wait_for_value(worker, "pgtasks_jobs_total", ("success", "waits"), 3)
    wait_for_value(worker, "pgtasks_slots_free", ("0",), 1)
    wait_for_value(worker, "pgtasks_slots_running", ("1",), 0)


def test_a_port_that_is_taken_keeps_the_worker_from_starting(start_measured: StartMeasured) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = start_measured(env={"PGTASKS_PLUGIN_PROMETHEUS__PORT": str(port)})
        assert worker.wait() != 0
    assert f"metrics cannot be served at 127.0.0.1, port {port}: Address already in use; choose another" in worker.text
    assert "process_started" not in worker.text


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("PORT", "http", "PGTASKS_PLUGIN_PROMETHEUS__PORT"),
        ("PORT", "65536", "PGTASKS_PLUGIN_PROMETHEUS__PORT"),
        ("QUEUE_INTERVAL", "0", "PGTASKS_PLUGIN_PROMETHEUS__QUEUE_INTERVAL"),
        ("PROT", "1", "is not a setting of plugin 'prometheus'; did you mean 'port'?"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    start_measured: StartMeasured, setting: str, value: str, message: str
) -> None:
    worker = start_measured(env={f"PGTASKS_PLUGIN_PROMETHEUS__{setting}": value})
    assert worker.wait() != 0
    assert message in worker.text


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens where")
@pytest.mark.parametrize("port", ["0", None])
def test_a_worker_listens_only_where_the_port_is_set(
    db: Database, start_measured: StartMeasured, port: str | None
) -> None:
    worker = start_measured("--processes", "1", env={"PGTASKS_PLUGIN_PROMETHEUS__PORT": port})
    worker.wait_for("worker_ready")
    db.app.add_job("succeeds")
    db.wait_until_empty()
    supervisor, processes = listening_sockets(worker.process.pid), worker.process_ids()
    assert len(supervisor) == (0 if port is None else 1)
    assert not any(listening_sockets(pid) for pid in processes)
    if port is None:
        assert leftovers(worker) == []
    assert worker.stop() == 0
    assert leftovers(worker) == []


def test_importing_the_plugin_starts_nothing_and_leaves_the_http_server_alone() -> None:
    code = """
        import sys, threading
        import pgtasks_prometheus
        assert threading.active_count() == 1
        assert not {"prometheus_client", "http.server"} & set(sys.modules)
    """
    environment = {**os.environ, **measured()}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, check=True)


def listening_sockets(pid: int) -> set[str]:
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {f"socket:[{words[9]}]" for words in lines if words[3] == "0A"}
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(str(entry.readlink()))
    return held & listening
