"""A worker as process 1, as in a container: it is stopped by signals, and reaps what loses its parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.worker.conftest import Database, StartWorker, Worker

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def _why_not() -> str | None:
    if shutil.which("unshare") is None:
        return "there is no unshare (util-linux) to make a namespace of processes with"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"no namespace of processes can be made here: {tried.stderr.strip()}" if tried.returncode else None


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def states(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        try:
            yield Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue


def process_1(worker: Worker) -> int:
    """Process 1 of the namespace, by the number that it has outside."""
    (pid,) = children(worker.process.pid)
    return pid


def start(start_worker: StartWorker, *options: str) -> Worker:
    worker = start_worker(
        "--processes", "1", *options, modules=("tests.worker.jobs", "tests.worker.stubborn:app"), before=UNSHARE
    )
    worker.wait_for("worker_ready")
    return worker


@pytest.mark.parametrize(("number", "event"), [(signal.SIGTERM, "worker_draining"), (signal.SIGQUIT, "worker_killing")])
def test_process_1_is_stopped_by_signals_and_ends_with_the_workers_code(
    db: Database, start_worker: StartWorker, number: signal.Signals, event: str
) -> None:
    worker = start(start_worker)
    os.kill(process_1(worker), number)
    worker.wait_for(event)
    assert worker.wait() == 0


def test_process_1_reloads_on_hup(db: Database, start_worker: StartWorker) -> None:
    worker = start(start_worker)
    os.kill(process_1(worker), signal.SIGHUP)
    worker.wait_for("application_reloaded")
    os.kill(process_1(worker), signal.SIGTERM)
    assert worker.wait() == 0


def test_process_1_reaps_what_loses_its_parent(db: Database, start_worker: StartWorker) -> None:
    worker = start(start_worker)
    for _ in range(5):
        db.app.add_job("leave_orphan")
    db.wait_until_empty()
    one = process_1(worker)
    assert db.value("select count(*) from effects where what like 'orphan %%'") == 5
    db.wait(lambda: len(children(one)) == 1, "the end of the orphans")
    assert "Z" not in set(states(children(one)))
    os.kill(one, signal.SIGTERM)
    assert worker.wait() == 0


def test_jobs_are_given_back_even_if_the_command_is_killed_that_process_1_runs(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start(start_worker)
    job = db.app.add_job("hold")
    db.wait_for_effects(1, "began")
    (supervisor,) = children(process_1(worker))
    os.kill(supervisor, signal.SIGKILL)
    assert worker.wait() == 128 + signal.SIGKILL
    assert (db.job(job.id).attempts, db.locked()) == (0, 0)


def test_process_1_ends_with_the_code_of_a_worker_that_cannot_start(start_worker: StartWorker) -> None:
    worker = start_worker(modules=("no_such_module",), before=UNSHARE)
    assert worker.wait() == 6
    assert "there is no module 'no_such_module'" in worker.text


def test_other_commands_can_be_stopped_as_process_1_too(tmp_path: Path) -> None:
    # Signals that have no handler do not reach a process 1 that does not see to it.
    leave = "from pgtasks.cli.reaper import leave_process_1 as leave; leave()"
    script = f"{leave}; print('there', flush=True); import time; time.sleep(60)"
    command = subprocess.Popen([*UNSHARE, sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == b"there\n"
        (one,) = children(command.pid)
        os.kill(one, signal.SIGTERM)
        assert command.wait(60) == 128 + signal.SIGTERM
    finally:
        command.kill()
        command.wait()
        assert command.stdout is not None
        command.stdout.close()
