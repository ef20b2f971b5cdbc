"""Tasks that are executables and Python files in a directory."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgtasks import App, JobContext, Registry
from pgtasks.errors import JobTimeoutError
from pgtasks.testing import make_job
from pgtasks.worker.executables import executable_handler
from pgtasks.worker.limits import Run
from pgtasks.worker.watching import watch_files
from tests.waiting import wait_until
from tests.worker.conftest import LONG, alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.worker.conftest import Database, StartWorker

FILES = {
    "env.sh": """\
        #!/bin/sh
        cat > "$OUT/stdin"
        env | grep ^GRAPHILE_WORKER_ > "$OUT/env"
        echo "$PWD $#" > "$OUT/cwd"
        exit 0
    """,
    "plain/no-shebang": 'cat > /dev/null; echo "ran by a shell" > "$OUT/no-shebang"\n',
    "users/emails/verify.py": f"""\
        #!{sys.executable}
        import json, os, signal, sys
        payload = json.load(sys.stdin)["payload"]
        payload["descriptors"] = len(os.listdir("/dev/fd"))
        payload["blocked"] = len(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        payload["ignored"] = [
            number for number in (1, 2, 3, 10, 12, 15, 17) if signal.getsignal(number) is signal.SIG_IGN
        ]
        open(os.path.join(os.environ["OUT"], "verify"), "w").write(json.dumps(payload))
    """,
    "users/fails.sh": """\
        #!/bin/sh
        echo "all is well"
        printf 'caf\\303\\251 \\000\\377 \\033[31mred\\r\\nno end' >&2
        exit 3
    """,
    "killed.sh": "#!/bin/sh\nkill -SEGV $$\n",
    "floods.sh": "#!/bin/sh\nyes 'a lot of it' | head -n 200000\nyes x | head -n 20000 | tr -d '\\n' >&2\nexit 4\n",
    "deaf.sh": "#!/bin/sh\nexec <&-\nexit 0\n",
    "leaves.sh": '#!/bin/sh\nsleep 600 >/dev/null 2>&1 &\necho $! > "$OUT/left"\n',
    "missing.sh": "#!/no/such/interpreter\n",
    "greet.py": """\
        from pgtasks import task, JobContext
        from ._names import PRAISE

        @task(max_attempts=1)
        def run(payload, ctx: JobContext):
            ctx.log.info(f"{PRAISE} {payload['name']} by {ctx.job.task} in {__name__}")
    """,
    "greet/async-one.py": "async def run(payload):\n    raise ValueError('not today')\n",
    "_names.py": "PRAISE = 'hail'\n",
    ".hidden.sh": "#!/bin/sh\n",
    ".git/hook.sh": "#!/bin/sh\n",
    "old.sh~": "#!/bin/sh\n",
    "forgotten.sh": "#!/bin/sh\n",
    "README.md": "these are tasks\n",
    "a.b.sh": "#!/bin/sh\n",
}
NOT_EXECUTABLE = {"forgotten.sh", "README.md", "greet.py", "greet/async-one.py", "_names.py"}


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        if name not in NOT_EXECUTABLE:
            path.chmod(0o755)
    return directory


def test_files_run_as_they_do_in_graphile_worker(db: Database, start_worker: StartWorker, tmp_path: Path) -> None:
    directory = write(tmp_path / "tasks", FILES)
    out = tmp_path / "out"
    out.mkdir()
    payload = '{"to":  "ada@example.com", "n": 12345678901234567890.10, "m": 1e99999999999999999999,\n "é": "\\ud800"}'

    def add(task: str, payload: str = "{}", **options: Any) -> int:
        names = "".join(f", {name} := %({name})s" for name in options)
        query = f"select id from graphile_worker.add_job(%(task)s, %(payload)s::json{names})".encode()
        row = db.connection.execute(query, {"task": task, "payload": payload, **options}).fetchone()
        assert row is not None
        return int(row[0])

    env = add("env", payload, job_key="k é", priority=3, max_attempts=7, run_at="2024-05-06 07:08:09.123456+02")
    add("plain/no-shebang")
    add("users/emails/verify", '{"to": "ada@example.com"}')
    fails = add("users/fails")
    killed = add("killed")
    floods = add("floods")
    add("deaf", json.dumps("x" * 3_000_000))
    add("leaves")
    missing = add("missing")
    greet = add("greet", '{"name": "ada"}')
    other = add("greet/async-one")

    worker = start_worker(
        "--once",
        "--processes",
        "1",
        "--tasks-dir",
        str(directory),
        modules=(),
        env={"OUT": str(out), "GRAPHILE_WORKER_JOB_KEY": "x"},
    )
    assert worker.wait() == 0

    assert (out / "stdin").read_bytes() == f'{{"payload":{payload}}}'.encode()
    told = dict(line.removeprefix("GRAPHILE_WORKER_").split("=", 1) for line in (out / "env").read_text().splitlines())
    assert told == {
        "PAYLOAD_FORMAT": "json",
        "TASK_IDENTIFIER": "env",
        "JOB_ID": str(env),
        "JOB_KEY": "k é",
        "JOB_ATTEMPTS": "1",
        "JOB_MAX_ATTEMPTS": "7",
        "JOB_PRIORITY": "3",
        "JOB_RUN_AT": "2024-05-06T05:08:09.123Z",
    }
    assert (out / "cwd").read_text() == f"{Path.cwd()} 0\n"
    assert (out / "no-shebang").read_text() == "ran by a shell\n"
    # Those of input and output, and the one by which it lists them.
    assert json.loads((out / "verify").read_text()) == {
        "to": "ada@example.com",
        "descriptors": 4,
        "blocked": 0,
        "ignored": [],
    }
    wait_until(lambda: not alive(int((out / "left").read_text())), LONG, "the end of what was left")

    assert db.job(fails).last_error == "ExecutableError: exit code 3\n\ncafé \\x00\\xff \\x1b[31mred\nno end"
    assert db.job(killed).last_error == "ExecutableError: killed by SIGSEGV"
    assert db.job(missing).last_error.startswith("ExecutableError: cannot be started: [Errno 2] No such file")
    assert db.job(missing).last_error.endswith("; the file is there, and what its first line names is not")
    assert db.job(other).last_error.startswith("ValueError: not today\n")
    assert db.rows("select id from graphile_worker.jobs order by 1") == [
        (fails,),
        (killed,),
        (floods,),
        (missing,),
        (other,),
    ]
    lines = [
        (record["level"], record["stream"], record["line"]) for record in worker.records("program_output", job_id=fails)
    ]
    assert ("info", "stdout", "all is well") in lines
    assert ("warning", "stderr", "café \\x00\\xff \\x1b[31mred") in lines
    assert worker.records("hail ada by greet in pgtasks-files.greet", job_id=greet)
    logged = worker.records("program_output", job_id=floods, stream="stdout")
    dropped = worker.records("program_output_dropped", job_id=floods, stream="stdout")
    assert len(logged) + sum(record["lines"] for record in dropped) == 200_000
    assert len(logged) < 10_000
    (long,) = worker.records("program_output", job_id=floods, stream="stderr")
    assert long["line"] == "x" * 8000 + "… 12000 bytes left out"

    ignored = {Path(record["path"]).name: record["message"] for record in worker.records("task_file_ignored")}
    assert ignored.keys() == {"forgotten.sh", "a.b.sh"}
    assert ignored["forgotten.sh"] == f"it is not executable: chmod +x {directory / 'forgotten.sh'}"
    assert [row[0] for row in db.rows("select identifier from graphile_worker._private_tasks order by 1")] == sorted(
        ["deaf", "env", "floods", "greet", "greet/async-one", "killed", "leaves", "missing", "plain/no-shebang",
         "users/emails/verify", "users/fails"]
    )  # fmt: skip


HANGS = """\
    #!/bin/sh
    trap '' TERM
    sleep 600 &
    echo $$ $!
    wait
    wait
"""


def test_no_program_outlives_its_worker_process_and_a_reload_finds_new_files(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    directory = write(tmp_path / "tasks", {"first.sh": HANGS})

    worker = start_worker("--processes", "1", modules=(), env={"PGTASKS_TASKS_DIR": str(directory)})

    def start(task: str) -> tuple[int, list[int]]:
        job = db.app.add_job(task, max_attempts=2)
        started = worker.wait_for("program_output", job_id=job.id)
        return job.id, [int(pid) for pid in started["line"].split()]

    first, programs = start("first")
    os.kill(worker.process_ids()[0], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, programs)), LONG, f"the end of {programs}")
    worker.wait_for("jobs_recovered")
    assert "killed by SIGKILL" in db.job(first).last_error

    (directory / "first.sh").rename(directory / "second.sh")
    worker.signal(signal.SIGHUP)
    worker.wait_for("application_reloaded")
    second, programs = start("second")
    worker.signal(signal.SIGTERM)
    worker.wait_for("worker_draining")
    worker.signal(signal.SIGTERM)
    worker.wait()
    wait_until(lambda: not any(map(alive, programs)), LONG, f"the end of {programs}")
    assert (db.job(second).attempts, db.job(second).last_error) == (0, None)
    assert db.locked() == 0


TRAPS = """\
    #!/bin/sh
    trap 'echo ends >&2; exit 0' TERM
    echo ready
    while :; do sleep 0.01; done
"""
IGNORES = """\
    #!/bin/sh
    trap '' TERM
    echo ready
    while :; do sleep 0.01; done
"""


@pytest.mark.parametrize(("text", "grace"), [(TRAPS, LONG), (IGNORES, 0.5)], ids=["it listens to TERM", "it does not"])
def test_a_program_whose_job_is_asked_to_stop_has_not_succeeded(
    text: str, grace: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = write(tmp_path, {"stop.sh": text})
    app = App(registry=Registry(), job_grace=grace)
    job = make_job("stop")
    caplog.set_level("INFO", "pgtasks.task")

    async def run() -> None:
        runner = Run(contextvars.copy_context(), app, lambda *_: None)
        handler = executable_handler(directory / "stop.sh", "stop")
        running = asyncio.create_task(handler(JobContext(job, runner)))
        await asyncio.to_thread(wait_until, lambda: "ready" in caplog.text, LONG, "its start")
        runner.ask_to_stop(JobTimeoutError("ran too long"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())
    assert ("ends" in caplog.text) is (text is TRAPS)


FORKS = """
import asyncio, contextvars, os, sys, threading, time
from pathlib import Path
from pgtasks import App, JobContext, Registry
from pgtasks.testing import make_job
from pgtasks.worker.executables import executable_handler
from pgtasks.worker.limits import Run

async def main():
    stay, end = os.pipe()
    ended = threading.Event()

    def fork():
        while not ended.is_set():
            if os.fork() == 0:
                os.close(end)
                os.read(stay, 1)
                os._exit(0)
            time.sleep(0.005)

    run = Run(contextvars.copy_context(), App(registry=Registry()), print)
    handler = executable_handler(Path(sys.argv[1]), "reads")
    forking = threading.Thread(target=fork)
    forking.start()
    for _ in range(5):
        await asyncio.gather(*(handler(JobContext(make_job("reads", "x" * 200_000), run)) for _ in range(5)))
    ended.set()
    forking.join()

asyncio.run(main())
"""


def test_children_that_handlers_fork_meanwhile_hold_no_program_up(tmp_path: Path) -> None:
    directory = write(tmp_path, {"reads.sh": "#!/bin/sh\ncat > /dev/null\n"})
    command = [sys.executable, "-W", "ignore", "-c", FORKS, str(directory / "reads.sh")]
    subprocess.run(command, check=True, timeout=LONG)


def test_a_change_of_a_file_in_the_directory_of_tasks_is_noticed(tmp_path: Path) -> None:
    directory = write(tmp_path / "tasks", dict.fromkeys(("sub/b", "c", "d"), "#!/bin/sh\n"))
    (tmp_path / "here").mkdir()
    # Each sorts before the one before, and so is named even if what that led to comes late.
    steps: list[tuple[str, Callable[[], object]]] = [
        ("sub/e", lambda: (directory / "sub/e").write_text("#!/bin/sh\n")),
        ("sub/b", (directory / "sub" / "b").unlink),
        ("d", lambda: (directory / "d").chmod(0o644)),
        ("c", lambda: (directory / "c").write_text("#!/bin/sh\nexit 0\n")),
    ]

    async def watch() -> None:
        changes: asyncio.Queue[str] = asyncio.Queue()
        crontab = tmp_path / "here" / "crontab"
        watching = asyncio.create_task(watch_files(tmp_path / "here", directory, changes.put_nowait, crontab))
        probe = directory / "sub" / "probe"
        while changes.empty():  # it does not say when it has begun
            probe.write_text("")
            await asyncio.sleep(0.05)
        for name, step in steps:
            step()
            async with asyncio.timeout(LONG):
                while not (await changes.get()).startswith(f"../tasks/{name} "):
                    pass
        (tmp_path / "here" / "other").write_text("")
        crontab.write_text("@daily task\n")
        async with asyncio.timeout(LONG):
            while await changes.get() != "crontab changed":
                pass
        watching.cancel()

    asyncio.run(watch())
