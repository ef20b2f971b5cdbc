"""Whether a worker says truly that it lives and that it is ready: by HTTP, to `pgtasks health`, to systemd."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.cli.running import run
from tests.worker.conftest import prepared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.running import Done
    from tests.worker.conftest import Database, StartWorker, Worker


SERVED = ("--processes", "2", "--health-port", "0", "--stalled-after", "3")


def port_of(worker: Worker) -> int:
    return int(worker.wait_for("health_served")["port"])


def ask(worker: Worker, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(worker), timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if body else None


def problems(worker: Worker, path: str) -> str:
    return "; ".join(ask(worker, path)[1]["problems"])


def health(worker: Worker, cwd: Path, *options: str) -> Done:
    return run("health", "--health-port", str(port_of(worker)), *options, cwd=cwd)


def test_a_worker_is_live_and_ready_and_says_so(db: Database, start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(*SERVED)
    worker.wait_for("worker_ready")
    assert ask(worker, "/live") == (200, {"ok": True, "problems": []})
    assert ask(worker, "/ready?verbose") == (200, {"ok": True, "problems": []})
    assert ask(worker, "/ready", "HEAD") == (200, None)
    assert ask(worker, "/ready", "POST")[0] == 405
    assert ask(worker, "/")[0] == 404
    asked = health(worker, tmp_path)
    assert (asked.code, asked.out, asked.err) == (0, "ready\n", "")
    assert health(worker, tmp_path, "--live").out == "live\n"
    assert worker.stop() == 0


def test_a_stopped_process_is_there_and_yet_not_alive(db: Database, start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker(*SERVED)
    worker.wait_for("worker_ready")
    pid = worker.process_ids()[1]
    os.kill(pid, signal.SIGSTOP)
    db.wait(lambda: ask(worker, "/live")[0] == 503, "an answer that it is not live")
    expected = rf"worker process \d \(pid {pid}\) has not moved for \d+ s"
    assert re.fullmatch(expected, problems(worker, "/live"))
    asked = health(worker, tmp_path, "--live")
    assert asked.code == 1
    assert re.fullmatch(expected, asked.error)
    assert health(worker, tmp_path).code == 1
    os.kill(pid, signal.SIGCONT)
    db.wait(lambda: ask(worker, "/live")[0] == 200, "an answer that it is live again")
    assert worker.stop() == 0


def test_a_job_that_keeps_the_event_loop_keeps_its_process_from_being_alive(
    db: Database, start_worker: StartWorker
) -> None:
    db.app.add_job("keep_loop", {"permit": "go"})
    worker = start_worker(*SERVED, modules=("tests.worker.stubborn",))
    db.wait_for_effects(1, "began")
    db.wait(lambda: ask(worker, "/live")[0] == 503, "an answer that it is not live")
    db.permit("go")
    db.wait(lambda: ask(worker, "/live")[0] == 200, "an answer that it is live again")
    assert worker.stop() == 0


def test_a_worker_that_drains_lives_and_is_not_ready(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("wait_for_row", {"permit": "go"})
    worker = start_worker(*SERVED)
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    assert ask(worker, "/live")[0] == 200
    assert "the worker is stopping" in problems(worker, "/ready")
    db.permit("go")
    assert worker.wait() == 0


def test_a_worker_without_its_database_lives_and_is_not_ready(
    db: Database, database: str, start_worker: StartWorker
) -> None:
    soon = prepared(
        "import pgtasks.database.pools as p; p._WAIT_TIMEOUT = 1.0"
    )  # as long as a connection is waited for
    worker = start_worker(*SERVED, before=soon)
    worker.wait_for("worker_ready")
    name = db.connection.info.dbname
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as connection:

        def allow(yes: bool) -> None:
            text = sql.SQL("alter database {} allow_connections {}")
            connection.execute(text.format(sql.Identifier(name), sql.Literal(yes)))

        allow(False)
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        db.wait(lambda: ask(worker, "/ready")[0] == 503, "an answer that it is not ready")
        assert problems(worker, "/ready") == "the database does not answer"
        assert ask(worker, "/live")[0] == 200
        allow(True)
    db.wait(lambda: ask(worker, "/ready")[0] == 200, "an answer that it is ready again")
    assert worker.stop() == 0


def test_a_worker_is_not_ready_before_its_processes_are(db: Database, start_worker: StartWorker) -> None:
    # A claim needs the table, and whoever has it locked keeps the processes from being ready.
    with psycopg.connect(db.connection.info.dsn, password=db.connection.info.password, autocommit=False) as holder:
        holder.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        worker = start_worker(*SERVED, "--no-migrate", "--stalled-after", "60")
        worker.wait_for("process_started", count=2)
        assert "0 of 2 worker processes are ready" in problems(worker, "/ready")
        assert ask(worker, "/live")[0] == 200
    worker.wait_for("worker_ready")
    assert ask(worker, "/ready")[0] == 200
    assert worker.stop() == 0


def test_health_says_when_nobody_answers_or_no_worker_of_ours(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        silent = run("health", "--health-port", str(port), "--timeout", "0.1", cwd=tmp_path)
        assert (silent.code, silent.error) == (1, f"no worker answers at 127.0.0.1, port {port}: timed out")
    gone = run("health", cwd=tmp_path, env={"PGTASKS_HEALTH_PORT": str(port)})
    assert gone.code == 1
    assert "no worker answers" in gone.error
    unset = run("health", cwd=tmp_path)
    assert unset.code == 2
    assert unset.error.startswith("no health port is set")


def test_a_health_port_that_is_taken_is_an_error_of_one_line(db: Database, start_worker: StartWorker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        worker = start_worker("--health-port", str(port))
        assert worker.wait() == 1
    assert f"health cannot be served at 127.0.0.1, port {port}: " in worker.text
    assert "Traceback" not in worker.text
    assert worker.process_ids() == []


class Manager:
    """What systemd is to a service: a socket that hears its words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[dict[str, str]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def has_heard(self, key: str, value: str = "1", *, after: int = 0) -> bool:
        while True:
            try:
                text = self._sock.recv(65536).decode()
            except BlockingIOError:
                break
            self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))
        return any(message.get(key) == value for message in self.heard[after:])

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


def test_systemd_is_told_of_readiness_reloads_and_the_end(
    db: Database, start_worker: StartWorker, systemd: Manager
) -> None:
    worker = start_worker("--processes", "1", env={"NOTIFY_SOCKET": str(systemd.path)})
    db.wait(lambda: systemd.has_heard("READY"), "READY")
    worker.wait_for("worker_ready")
    assert not systemd.has_heard("WATCHDOG")
    heard = len(systemd.heard)
    worker.signal(signal.SIGHUP)
    db.wait(lambda: systemd.has_heard("RELOADING"), "RELOADING")
    assert next(m for m in systemd.heard if "RELOADING" in m)["MONOTONIC_USEC"].isdecimal()
    db.wait(lambda: systemd.has_heard("READY", after=heard), "READY after a reload")
    assert worker.stop() == 0
    assert systemd.has_heard("STOPPING")


def test_the_watchdog_is_fed_while_all_processes_move_and_only_then(
    db: Database, start_worker: StartWorker, systemd: Manager
) -> None:
    env = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
    worker = start_worker(*SERVED, env=env)
    worker.wait_for("worker_ready")
    db.wait(lambda: systemd.has_heard("WATCHDOG"), "WATCHDOG")
    pid = worker.process_ids()[0]
    os.kill(pid, signal.SIGSTOP)

    def withheld() -> bool:
        systemd.has_heard("WATCHDOG")
        return "has not moved" in systemd.heard[-1].get("STATUS", "")

    db.wait(withheld, "the end of WATCHDOG")
    os.kill(pid, signal.SIGCONT)
    heard = len(systemd.heard)
    db.wait(lambda: systemd.has_heard("WATCHDOG", after=heard), "WATCHDOG again")
    assert worker.stop() == 0


def test_jobs_do_not_inherit_the_way_to_systemd(
    db: Database, start_worker: StartWorker, systemd: Manager, tmp_path: Path
) -> None:
    (tmp_path / "nosy.py").write_text("""
import os
from pgtasks import task
from tests.worker.jobs import app, record

@task
def look(payload, ctx):
    record(ctx, os.environ.get("NOTIFY_SOCKET", "nothing"))
""")
    env = {"NOTIFY_SOCKET": str(systemd.path), "PYTHONPATH": str(tmp_path)}
    db.app.add_job("look", {})
    worker = start_worker("--processes", "1", modules=("nosy",), env=env)
    db.wait_for_effects(1, "nothing")
    assert worker.stop() == 0
