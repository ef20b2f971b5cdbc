"""Importing the application anew while the worker goes on: by HUP, and by `--reload`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pty
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import run_script
from tests.worker.conftest import alive, parent_of, prepared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker, Worker


APP = """
import os, sys, time
from pgtasks import current_app, task

VERSION = {version!r}
BLOCK = {block!r}

@task
def stamp(payload, ctx):
    if payload.get("seconds"):
        time.sleep(payload["seconds"])
    with current_app().connection() as connection:
        connection.execute(
            "insert into public.effects (job_id, attempt, what, pid) values (%s, %s, %s, %s)",
            (ctx.job.id, ctx.attempt, VERSION, os.getpid()),
        )
        while payload.get("permit") and connection.execute(
            "select from public.permits where name = %s", (payload["permit"],)
        ).fetchone() is None:
            time.sleep(0.01)
{more}
"""


ENDS_ITS_ZYGOTE = """
import asyncio

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        os.kill(os.getppid(), 9)
        time.sleep(60)

asyncio.set_event_loop_policy(Policy())
"""


class Project:
    """A directory with an application, which can be changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writes = 0

    def write(self, version: str, more: str = "") -> None:
        # Of another length each time: Python takes a source of the same size and second for unchanged.
        self._writes += 1
        text = APP.format(version=version, block="x" * self._writes, more=more)
        (self.directory / "shop.py").write_text(text)

    def configure(self, **settings: object) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.directory / "pgtasks.toml").write_text("\n".join(lines))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    directory = tmp_path / "project"
    directory.mkdir()
    project = Project(directory)
    project.write("one")
    return project


def hang_up(worker: Worker) -> None:
    worker.signal(signal.SIGHUP)


def versions(db: Database) -> dict[int, list[str]]:
    """What each job has left."""
    found: dict[int, list[str]] = {}
    for job_id, what in db.rows("select job_id, what from effects order by position"):
        found.setdefault(job_id, []).append(what)
    return found


@contextlib.contextmanager
def always_ready(worker: Worker) -> Iterator[list[object]]:
    """Ask the worker without a pause whether it is ready; gives the answers that say that it is not."""
    port = worker.wait_for("health_served")["port"]
    refusals: list[object] = []
    asked, done = threading.Event(), threading.Event()

    def ask() -> None:
        while not done.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/ready")
            answer = connection.getresponse()
            if answer.status != 200:
                refusals.append(answer.read())
            connection.close()
            asked.set()
            done.wait(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield refusals
    finally:
        done.set()
        thread.join()
    assert asked.is_set()


def add_load(db: Database, jobs: int) -> None:
    db.connection.execute(
        "select graphile_worker.add_job('stamp', '{\"seconds\": 0.01}') from generate_series(1, %s)", (jobs,)
    )


def test_hup_rolls_to_changed_code_under_load_and_each_job_is_done_once_and_some_process_is_always_ready(
    db: Database, start_worker: StartWorker, project: Project
) -> None:
    worker = start_worker(
        "--processes", "2", "--concurrency", "2", "--health-port", "0", modules=("shop",), cwd=project.directory
    )
    worker.wait_for("worker_ready")
    add_load(db, 600)
    db.wait_for_effects(20, "one")
    with always_ready(worker) as refusals:
        project.write("two")
        hang_up(worker)
        worker.wait_for("application_reloaded")
        add_load(db, 100)
        db.wait_until_empty()
    assert refusals == []
    found = versions(db)
    assert len(found) == 700
    assert all(len(stamps) == 1 for stamps in found.values())
    assert {stamp for stamps in found.values() for stamp in stamps} == {"one", "two"}
    assert db.value("select max(attempt) from effects") == 1
    for exited in worker.records("process_exited"):
        replaced = worker.records("process_replaced", pid=exited["pid"])
        assert [record["timestamp"] <= exited["timestamp"] for record in replaced] == [True]
    assert worker.stop() == 0
    assert db.locked() == 0


def test_hup_with_broken_code_under_load_says_why_and_changes_nothing(
    db: Database, start_worker: StartWorker, project: Project
) -> None:
    worker = start_worker("--processes", "2", modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    add_load(db, 300)
    db.wait_for_effects(20, "one")
    project.write("two", "def broken(:")
    hang_up(worker)
    failed = worker.wait_for("reload_failed")
    assert "module 'shop' cannot be imported" in failed["error"]
    assert "SyntaxError" in failed["error"]
    db.wait_until_empty()
    assert [len(stamps) for stamps in versions(db).values()] == [1] * 300
    assert len(worker.process_ids()) == 2
    project.write("three")
    hang_up(worker)
    worker.wait_for("application_reloaded")
    job = db.app.add_job("stamp", {})
    db.wait_for_effects(1, "three")
    assert db.effects("three") == [job.id]
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True, name='t').start()",
            "'t'",
        ),
        ("os._exit(5)", "ended the process that did it (exit code 5)"),
        ("os.kill(os.getpid(), 9)", "ended the process that did it (killed by SIGKILL)"),
        ("os.register_at_fork(after_in_child=lambda: os._exit(3))", "ended before they were ready"),
        ("os.register_at_fork(before=lambda: os.kill(os.getpid(), 9))", "ended before they were ready"),
        (ENDS_ITS_ZYGOTE, "ended before they were ready"),
    ],
)
def test_code_that_no_process_can_be_made_of_leaves_the_old_one_at_work(
    db: Database, start_worker: StartWorker, project: Project, code: str, reason: str
) -> None:
    worker = start_worker("--processes", "2", modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    before = worker.process_ids()
    project.write("two", code)
    hang_up(worker)
    assert reason in worker.wait_for("reload_failed")["error"]
    assert all(alive(pid) for pid in before)
    db.app.add_job("stamp", {})
    db.wait_for_effects(1, "one")
    os.kill(before[0], signal.SIGKILL)
    worker.wait_for("process_exited", pid=before[0])
    worker.wait_for("worker_ready", count=2)  # its replacement too is of the old code
    db.app.add_job("stamp", {})
    db.wait_for_effects(2, "one")
    assert worker.stop() == 0


@pytest.mark.parametrize("python", ["/nowhere/python", shutil.which("false")])
def test_a_reload_for_which_no_process_can_be_started_leaves_the_old_ones_at_work(
    db: Database, start_worker: StartWorker, project: Project, python: str
) -> None:
    gone = f"import sys; sys.executable = {python!r}"
    worker = start_worker(modules=("shop",), cwd=project.directory, before=prepared(gone))
    worker.wait_for("worker_ready")
    hang_up(worker)
    failed = worker.wait_for("reload_failed")
    assert "import" in failed["error"]
    assert "exception" not in failed
    db.app.add_job("stamp", {})
    db.wait_for_effects(1, "one")
    assert worker.stop() == 0


def test_a_reload_without_the_working_directory_leaves_the_old_processes_at_work(
    db: Database, start_worker: StartWorker, project: Project
) -> None:
    worker = start_worker(modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    shutil.rmtree(project.directory)
    hang_up(worker)
    assert str(project.directory) in worker.wait_for("reload_failed")["error"]
    db.app.add_job("stamp", {})
    db.wait_for_effects(1, "one")
    assert worker.stop() == 0


def test_a_worker_can_be_stopped_while_a_reload_imports(
    db: Database, start_worker: StartWorker, project: Project, tmp_path: Path
) -> None:
    worker = start_worker(modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    started = tmp_path / "started"
    project.write("two", f"open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    hang_up(worker)
    db.wait(lambda: started.exists() and started.read_text(), "the import")
    assert worker.stop() == 0
    db.wait(lambda: not alive(int(started.read_text())), "the end of the process that imports")


def test_a_reload_brings_new_tasks_and_settings_and_the_old_zygote_ends(
    db: Database, start_worker: StartWorker, project: Project
) -> None:
    project.configure(concurrency=1, processes=1)
    worker = start_worker(modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    (first,) = worker.process_ids()
    zygote = parent_of(first)
    project.write("two", "@task\ndef extra(payload, ctx):\n    stamp(payload, ctx)\n")
    project.configure(concurrency=3, processes=2)
    hang_up(worker)
    worker.wait_for("application_reloaded", tasks=2)
    db.wait(lambda: not alive(zygote), "the end of the old zygote")
    assert not alive(first)
    worker.wait_for("process_started", count=3)
    for _ in range(6):
        db.app.add_job("extra", {"permit": "go"})
    db.wait_for_effects(6, "two")
    assert db.value("select count(distinct pid) from effects") == 2
    db.permit("go")
    db.wait_until_empty()
    assert worker.stop() == 0


def test_what_a_reload_cannot_change_is_refused(db: Database, start_worker: StartWorker, project: Project) -> None:
    worker = start_worker(modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    project.configure(schema="elsewhere")
    hang_up(worker)
    assert "'schema' has changed, which takes a restart" in worker.wait_for("reload_failed")["error"]
    project.configure(concurency=3)
    hang_up(worker)
    assert "did you mean 'concurrency'" in worker.wait_for("reload_failed", count=2)["error"]
    assert worker.stop() == 0


def test_jobs_that_run_for_long_end_in_the_old_process_while_the_new_ones_work(
    db: Database, start_worker: StartWorker, project: Project
) -> None:
    worker = start_worker("--processes", "1", "--concurrency", "1", modules=("shop",), cwd=project.directory)
    held = db.app.add_job("stamp", {"permit": "go"})
    db.wait_for_effects(1, "one")
    project.write("two")
    hang_up(worker)
    worker.wait_for("application_reloaded")
    later = db.app.add_job("stamp", {})
    db.wait_for_effects(1, "two")
    assert versions(db) == {held.id: ["one"], later.id: ["two"]}
    db.permit("go")
    db.wait_until_empty()
    worker.wait_for("process_exited", pid=worker.process_ids()[0], status="exit code 0")
    assert worker.stop() == 0


def test_hups_in_a_row_end_with_the_newest_code(db: Database, start_worker: StartWorker, project: Project) -> None:
    worker = start_worker("--processes", "2", modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    for number in range(5):
        project.write(f"version {number}")
        hang_up(worker)
    reloads = len(worker.records("application_reloading"))
    worker.wait_for("application_reloaded", count=max(1, reloads))
    project.write("last")
    hang_up(worker)

    def runs_the_last() -> bool:
        db.app.add_job("stamp", {})
        return bool(db.effects("last"))

    db.wait(runs_the_last, "a job that the last code has run")
    assert worker.stop() == 0
    assert db.locked() == 0


def test_a_changed_file_reloads_and_is_named(db: Database, start_worker: StartWorker, project: Project) -> None:
    pytest.importorskip("watchfiles")
    worker = start_worker("--reload", "--processes", "1", modules=("shop",), cwd=project.directory)
    worker.wait_for("worker_ready")
    project.write("two")

    def noticed() -> bool:
        # The watch begins at some moment that nobody is told of.
        project.write("two")
        return bool(worker.records("application_reloaded"))

    db.wait(noticed, "a reload")
    assert worker.records("application_reloading")[0]["reason"] == "shop.py changed"
    db.app.add_job("stamp", {})
    db.wait_for_effects(1, "two")
    assert worker.stop() == 0


def test_a_reload_looks_for_modules_where_the_start_did(
    db: Database, start_worker: StartWorker, project: Project, tmp_path: Path
) -> None:
    project.write("one", "import json, pathlib\npathlib.Path(f'path-{os.getpid()}').write_text(json.dumps(sys.path))")
    script = tmp_path / "bin" / "pgtasks"
    script.parent.mkdir()
    script.write_text("import sys\nfrom pgtasks.cli import main\nsys.exit(main(sys.argv[4:]))")
    before = (sys.executable, str(script))
    worker = start_worker("--processes", "1", modules=("shop",), cwd=project.directory, before=before)
    worker.wait_for("worker_ready")
    hang_up(worker)
    worker.wait_for("application_reloaded")
    first, second = (json.loads(file.read_text()) for file in project.directory.glob("path-*"))
    assert first == second
    assert first[0] == str(project.directory)
    assert str(script.parent) not in first
    assert worker.stop() == 0


def test_reload_without_its_extra_says_what_to_install(project: Project) -> None:
    done = run_script(
        "import sys; sys.modules['watchfiles'] = None", "worker", "--reload", "shop", cwd=project.directory
    )
    assert done.code == 2
    assert done.error == "--reload needs the package watchfiles: pip install 'pgtasks[reload]'"


def test_a_terminal_that_is_closed_stops_a_worker_instead_of_reloading_it(
    db: Database, start_worker: StartWorker
) -> None:
    ours, theirs = pty.openpty()
    # Its session's terminal is the one that the fixture's session gets by opening it first.
    name = os.ttyname(theirs)
    take = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # ignored if the tests run by nohup
        f"os.open({name!r}, os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"
    )
    worker = start_worker("--processes", "1", before=(sys.executable, "-c", take))
    os.close(theirs)
    worker.wait_for("worker_ready")
    hang_up(worker)
    worker.wait_for("application_reloaded")
    os.close(ours)
    worker.wait_for("worker_draining", signal="SIGHUP")
    assert worker.wait() == 0
