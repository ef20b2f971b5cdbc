"""The life of the pool: growing, shrinking, replacing processes that have had their day, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgtasks.worker import zygotes
from pgtasks.worker.fleet import Fleet
from pgtasks.worker.protocol import FromWorker, Lines
from pgtasks.worker.slots import SlotTable
from pgtasks.worker.zygotes import ZygoteClient
from tests.worker.conftest import LONG, alive, parent_of

if TYPE_CHECKING:
    from tests.worker.conftest import Database, StartWorker


def test_ttin_adds_a_process_and_ttou_takes_one_away_under_load(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1", "--concurrency", "2")
    worker.wait_for("worker_ready", processes=1)
    db.connection.execute("select graphile_worker.add_job('work', '{\"seconds\": 0.01}') from generate_series(1, 300)")
    worker.signal(signal.SIGTTIN)
    worker.wait_for("worker_ready", processes=2)
    worker.signal(signal.SIGTTOU)
    worker.wait_for("process_exited", status="exit code 0")
    db.wait_until_empty()
    assert sorted(db.effects()) == sorted(set(db.effects()))
    assert len(db.effects()) == 300
    assert worker.stop() == 0
    assert [record["processes"] for record in worker.records("processes_wanted")] == [2, 1]


def test_the_last_process_stays(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    worker.signal(signal.SIGTTOU)
    assert worker.wait_for("processes_wanted")["message"] == "there has to be one"
    db.app.add_job("note")
    db.wait_for_effects(1)
    assert worker.stop() == 0
    assert len(worker.process_ids()) == 1


def test_growing_and_shrinking_in_haste_ends_with_as_many_processes_as_are_wanted(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    count = 0
    for _ in range(8):  # more dismissed before they were ready than would make a crash loop
        for number in (signal.SIGTTIN, signal.SIGTTOU):
            count += 1
            worker.signal(number)
            worker.wait_for("processes_wanted", count=count)
    said = len(worker.records("worker_ready", processes=2))  # in between, if the processes were quick
    worker.signal(signal.SIGTTIN)
    worker.wait_for("worker_ready", processes=2, count=said + 1)
    started, exited = (len(worker.records(event)) for event in ("process_started", "process_exited"))
    assert started - exited == 2
    assert worker.stop() == 0


def test_usr1_writes_the_stacks_of_supervisor_and_processes(db: Database, start_worker: StartWorker) -> None:
    db.app.add_job("wait_for_row", {"permit": "go"})
    db.app.add_job("come_on_async", {"permit": "go"})
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    db.wait(db.app.jobs.progress, "the other one to have begun")
    worker.signal(signal.SIGUSR1)
    assert worker.wait_for("stacks_dumped")["pids"] == worker.process_ids()
    db.wait(lambda: "in come_on_async" in worker.text, "the stacks of the process")
    db.wait(lambda: "in wait_for_row\n" in worker.text, "those of its threads")
    assert "pgtasks/worker/run.py" in worker.text  # the supervisor
    db.permit("go")
    db.wait_until_empty()
    assert worker.stop() == 0
    assert len(worker.records("job_succeeded")) == 2


def test_quit_kills_at_once_and_gives_the_jobs_back(db: Database, start_worker: StartWorker) -> None:
    job = db.app.add_job("hold")
    worker = start_worker("--processes", "1")
    db.wait_for_effects(1, "began")
    worker.signal(signal.SIGQUIT)
    assert worker.wait() == 9
    assert not any(alive(pid) for pid in worker.process_ids())
    assert (db.job(job.id).attempts, db.locked()) == (0, 0)


def test_a_process_is_replaced_after_so_many_jobs_and_none_is_lost_or_done_twice(
    db: Database, start_worker: StartWorker
) -> None:
    jobs = [db.app.add_job("work", {"seconds": 0.02}) for _ in range(300)]
    worker = start_worker("--processes", "2", "--concurrency", "2", "--max-jobs", "30")
    db.wait_until_empty()
    assert sorted(db.effects()) == [job.id for job in jobs]
    assert db.value("select count(distinct pid) from effects") > 2
    assert worker.stop() == 0
    first = worker.records("process_recycling")[0]
    assert "jobs" in first["reason"]
    assert {record["status"] for record in worker.records("process_exited")} == {"exit code 0"}
    # Its successor was ready before it ended.
    (replaced,) = worker.records("process_replaced", pid=worker.records("process_exited")[0]["pid"])
    assert replaced["timestamp"] <= worker.records("process_exited")[0]["timestamp"]


def test_a_process_is_replaced_that_takes_too_much_memory(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1", "--max-memory", "300", modules=("tests.worker.stubborn",))
    db.app.add_job("grow", {"megabytes": 300})
    assert "MB of memory" in worker.wait_for("process_recycling")["reason"]
    worker.wait_for("process_exited", status="exit code 0")
    job = db.app.add_job("grow", {"megabytes": 1})
    db.wait(lambda: job.id in db.effects("grew"), "a job in the new process")
    assert worker.stop() == 0
    assert len(worker.process_ids()) == 2


def test_a_process_is_replaced_after_so_long(db: Database, start_worker: StartWorker) -> None:
    worker = start_worker("--processes", "1", "--max-lifetime", "1")
    assert worker.wait_for("process_recycling")["reason"].startswith("it has lived for ")
    worker.wait_for("process_exited", status="exit code 0")
    assert worker.stop() == 0


def test_a_limit_below_what_the_application_needs_is_refused(start_worker: StartWorker) -> None:
    worker = start_worker("--max-memory", "3")
    assert worker.wait() == 2
    assert "max_memory is 3 MB, and the application alone takes" in worker.text


def test_a_successor_that_dies_is_tried_again_while_the_old_process_works(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "1", "--max-lifetime", "1")
    worker.wait_for("process_recycling")
    second = worker.wait_for("process_started", count=2)["pid"]
    os.kill(second, signal.SIGKILL)
    worker.wait_for("process_exited", status="exit code 0")
    db.app.add_job("note")
    db.wait_for_effects(1)
    assert worker.stop() == 0
    assert db.locked() == 0


def test_a_successor_leaves_too_if_its_predecessor_was_one_too_many(db: Database, start_worker: StartWorker) -> None:
    for permit in ("one", "two"):
        db.app.add_job("wait_for_row", {"permit": permit})
    worker = start_worker("--processes", "2", "--concurrency", "1", "--max-jobs", "1")
    worker.wait_for("worker_ready")
    db.wait_for_effects(2, "began")
    youngest = worker.process_ids()[1]
    (job_id,) = db.rows("select job_id from effects where pid = %s", youngest)[0]
    with psycopg.connect(db.connection.info.dsn, password=db.connection.info.password) as holder:
        holder.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        db.permit("one" if job_id == 1 else "two")
        worker.wait_for("process_started", count=3)  # the youngest's successor, which cannot claim
        worker.signal(signal.SIGTTOU)
        worker.wait_for("processes_wanted", processes=1)
    worker.wait_for("process_exited", count=2)
    assert {record["pid"] for record in worker.records("process_exited")} == set(worker.process_ids()[1:])
    db.permit("one")
    db.permit("two")
    db.wait_until_empty()
    assert worker.stop() == 0


def test_a_worker_stops_in_the_middle_of_a_succession(db: Database, start_worker: StartWorker) -> None:
    jobs = [db.app.add_job("work", {"seconds": 0.05}) for _ in range(100)]
    worker = start_worker("--processes", "2", "--concurrency", "1", "--max-jobs", "1")
    worker.wait_for("process_replaced", count=3)
    assert worker.stop() == 0
    assert not any(alive(pid) for pid in worker.process_ids())
    left = [row[0] for row in db.rows("select id from graphile_worker.jobs where attempts = 0")]
    assert sorted(db.effects() + left) == [job.id for job in jobs]
    assert db.locked() == 0


def test_processes_that_are_leaving_fill_the_table_and_replacing_goes_on_when_they_end(
    db: Database, start_worker: StartWorker
) -> None:
    # Each process ends one job and has another one that does not end: 34 rows, then no successor has room.
    worker = start_worker("--processes", "1", "--concurrency", "2", "--max-jobs", "1")
    worker.wait_for("worker_ready")
    for number in range(34):
        db.app.add_job("wait_for_row", {"permit": "go"})
        db.wait_for_effects(number + 1, "began")
        if number < 33:
            db.app.add_job("nothing")
            worker.wait_for("process_replaced", count=number + 1)
    db.app.add_job("nothing")
    worker.wait_for("process_recycling", count=34)
    assert len(worker.process_ids()) == 34
    db.app.add_job("note")  # the last one works on
    db.wait_for_effects(1)
    db.permit("go")
    worker.wait_for("process_replaced", count=34)
    db.wait_until_empty()
    assert worker.stop() == 0


def test_a_process_that_never_gets_ready_is_killed_and_replaced(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "hangs.py").write_text("""
import os, pathlib, time
from pgtasks import task

hung = pathlib.Path("hung")

def hang_once():
    if not hung.exists():
        hung.touch()
        time.sleep(600)

os.register_at_fork(after_in_child=hang_once)

@task
def idle():
    pass
""")
    impatient = (
        "import sys; from pgtasks.worker import fleet; fleet._READY_SECONDS = 1.0; "
        "from pgtasks.cli import main; sys.exit(main(sys.argv[4:]))"
    )
    worker = start_worker(
        "--processes", "1", modules=("hangs",), cwd=tmp_path, before=(sys.executable, "-c", impatient)
    )
    stuck = worker.wait_for("process_stuck")
    worker.wait_for("process_exited", pid=stuck["pid"], status="killed by SIGKILL")
    worker.wait_for("worker_ready")
    assert worker.stop() == 0


LEFTOVERS = {
    "thread": (
        """
import threading, time

def pump():
    time.sleep(60)

threading.Thread(target=pump, name="metrics", daemon=True).start()
""",
        "thread 'metrics' (runs left.pump, at ",
    ),
    "bare thread": (
        "import _thread, time\ndef pump():\n    time.sleep(60)\n_thread.start_new_thread(pump, ())",
        "a thread without a name (at ",
    ),
    "connection": (
        "import psycopg, os\nleft = psycopg.connect(os.environ['PGTASKS_DATABASE_URL'])",
        "a connection to ",
    ),
    "listener": (
        "import socket\nleft = socket.create_server(('127.0.0.1', 0))",
        "a socket that listens on 127.0.0.1:",
    ),
    "event loop": (
        "import asyncio\nleft = asyncio.new_event_loop()",
        "one end of a pair of sockets, such as an event loop has",
    ),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_what_the_import_leaves_behind_and_cannot_be_forked_is_named(
    start_worker: StartWorker, tmp_path: Path, what: str
) -> None:
    code, culprit = LEFTOVERS[what]
    (tmp_path / "left.py").write_text(f"from pgtasks import task\n@task\ndef idle():\n    pass\n{code}\n")
    worker = start_worker(modules=("left",), cwd=tmp_path)
    assert worker.wait() == 11
    assert f"importing the application has left behind what cannot be taken into worker processes: {culprit}" in (
        worker.text
    )
    if "thread" in what:
        assert "left.py:" in worker.text
    assert "Traceback" not in worker.text
    assert worker.process_ids() == []


def test_what_ends_soon_or_can_be_shared_is_let_pass(db: Database, start_worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "tidy.py").write_text("""
import socket, threading, time
from pgtasks import task

threading.Thread(target=time.sleep, args=(0.2,)).start()
metrics = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
socket.create_server(("127.0.0.1", 0)).close()

@task
def idle():
    pass
""")
    worker = start_worker("--processes", "1", modules=("tidy",), cwd=tmp_path)
    worker.wait_for("worker_ready")
    assert worker.stop() == 0


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_zygote_that_can_open_nothing_more_refuses_a_process_until_it_can(
    db: Database, start_worker: StartWorker
) -> None:
    worker = start_worker("--processes", "1")
    worker.wait_for("worker_ready")
    zygote = parent_of(worker.process_ids()[0])
    taken = {int(path.name) for path in Path(f"/proc/{zygote}/fd").iterdir()}
    limits = resource.prlimit(zygote, resource.RLIMIT_NOFILE)
    lowest_free = min({*range(max(taken) + 2)} - taken)
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    worker.signal(signal.SIGTTIN)
    assert "Too many open files" in worker.wait_for("process_refused")["error"]
    resource.prlimit(zygote, resource.RLIMIT_NOFILE, limits)
    worker.wait_for("worker_ready", processes=2)
    assert worker.stop() == 0


def test_a_zygote_that_does_not_answer_is_killed_and_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygotes, "_ANSWER_SECONDS", 0.01)
    zygote = ZygoteClient.fresh()
    table = SlotTable.create(1, 1)

    async def spawn() -> None:
        lost = asyncio.Event()
        zygote.attach(lambda *_: None, lambda *_: None, lost.set)
        os.kill(zygote._process.pid, signal.SIGSTOP)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            spawning = asyncio.create_task(
                zygote.spawn(index=0, worker_id="w", settings="", control=theirs, slots=table)
            )
            async with asyncio.timeout(LONG):
                await lost.wait()
        spawning.cancel()
        await asyncio.wait([spawning])
        zygote.detach()

    asyncio.run(spawn())
    zygote.close()
    table.close()


def test_what_a_process_says_is_heard_after_it_is_known_that_it_was_started() -> None:
    """However late the zygote's word of it is heard."""
    heard: list[object] = []
    kept: list[socket.socket] = []

    async def spawn(index: int, worker_id: str, control: socket.socket) -> int:
        kept.append(control.dup())
        kept[0].send(FromWorker.READY)
        for _ in range(5):
            await asyncio.sleep(0)
        return 2**30

    async def start() -> None:
        nothing: Any = lambda *_: None  # noqa: E731
        zygote: Any = SimpleNamespace(attach=nothing)
        generation: Any = SimpleNamespace(table=table, most_processes=1, zygote=zygote, spawn=spawn)
        hooks: Any = SimpleNamespace(spawned=lambda member: heard.append(member.pid))
        fleet = Fleet(
            generation,
            host_id="host",
            do=lambda work, _: tasks.append(asyncio.create_task(work)),
            on_message=lambda _, message: heard.append(message),
            on_death=nothing,
            on_change=nothing,
            on_failure=nothing,
            hooks=hooks,
        )
        fleet.start(1)
        async with asyncio.timeout(LONG):
            while len(heard) < 2:  # noqa: ASYNC110 - the test tells nobody
                await asyncio.sleep(0)
        for member in fleet.members:
            member.close()

    tasks: list[asyncio.Task[None]] = []
    table = SlotTable.create(1, 1)
    asyncio.run(start())
    table.close()
    kept[0].close()
    assert heard == [2**30, FromWorker.READY]


def test_the_end_of_a_process_is_heard_of_after_its_start() -> None:
    """Even if it ends so soon that the zygote's words come together."""
    heard: list[object] = []
    ours, theirs = socket.socketpair()
    zygote = ZygoteClient(lambda sock: SimpleNamespace(sock=sock.dup()))  # type: ignore[arg-type, return-value]
    answers = zygote._process.sock  # type: ignore[union-attr]
    table = SlotTable.create(1, 1)

    async def spawn() -> None:
        zygote.attach(lambda *end: heard.append(end), lambda *_: None, lambda: None)
        answers.sendall(Lines.encode(spawned=7) + Lines.encode(exited=["w", 7, 0]))
        heard.append(await zygote.spawn(index=0, worker_id="w", settings="", control=theirs, slots=table))
        async with asyncio.timeout(LONG):
            while len(heard) < 2:  # noqa: ASYNC110 - the test tells nobody
                await asyncio.sleep(0)
        zygote.detach()

    with ours, theirs, answers, zygote._sock:
        asyncio.run(spawn())
    table.close()
    assert heard == [7, ("w", 7, 0)]


def test_a_process_whose_interpreter_a_job_keeps_does_not_outlive_the_supervisor(
    db: Database, start_worker: StartWorker
) -> None:
    db.app.add_job("keep_interpreter", {}, priority=1)
    worker = start_worker("--processes", "2", "--concurrency", "1", modules=("tests.worker.stubborn",))
    db.wait_for_effects(1, "began")
    pids = worker.process_ids(2)
    zygote = parent_of(pids[0])
    worker.signal(signal.SIGKILL)
    worker.wait()
    db.wait(lambda: not any(alive(pid) for pid in [*pids, zygote]), "the end of all processes")
