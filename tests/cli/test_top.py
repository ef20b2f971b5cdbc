from __future__ import annotations

import json
import re
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.running import LONGEST, PGTASKS, Done, clean_environment, run, run_on_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg

    Command = Callable[..., Done]
    Connection = psycopg.Connection[tuple[Any, ...]]

BUSY = """
    select graphile_worker._pgtasks_register_worker('host-1', 'host', 'example', 7, '1.0');
    update graphile_worker._pgtasks_workers
    set started_at = now() - interval '10 s', heartbeat_at = now(), succeeded = 30, failed = 5, running = 2;
    select graphile_worker.add_job('import', '{"secret": 1}'), graphile_worker.add_job('export'),
        graphile_worker.add_job('mail', queue_name => 'mail'),
        graphile_worker.add_job('later', run_at => now() + interval '1 day');
    update graphile_worker._private_jobs
    set locked_by = 'host-1', locked_at = now() - make_interval(mins => 90, secs => 30 - id), attempts = 1
    where id <= 2;
    select graphile_worker._pgtasks_report_progress(
        'host-1', '{}', array[id], array[locked_at], array[attempts], array[3], array[4], array[e'half\\x1b[31m']
    ) from graphile_worker._private_jobs where id = 1
"""


@pytest.fixture
def busy(connection: Connection) -> None:
    connection.execute(BUSY)


@pytest.fixture
def top(database: str, tmp_path: Path) -> Command:
    """`pgtasks top` on the test's database."""
    return partial(run, "top", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})


@pytest.mark.usefixtures("busy")
def test_where_there_is_no_terminal_one_frame_is_printed(top: Command) -> None:
    done = top()
    assert (done.code, done.err) == (0, "")
    assert re.sub(r"\d+ s ago", "N s ago", done.out).splitlines() == [
        "1 host, 1 worker, 3.5 jobs/s; 1 ready, 1 scheduled, 2 running, 0 failed",
        "",
        "worker  host     pid  running  jobs/s  succeeded  failed  heartbeat",
        "host-1  example    7        2     3.5         30       5    N s ago",
        "",
        "task    running  ready  scheduled  failed",
        "export        1      0          0       0",
        "import        1      0          0       0",
        "mail          0      1          0       0",
        "later         0      0          1       0",
        "",
        "queue  running  ready  scheduled  failed",
        "mail         0      1          0       0",
        "",
        r"job  task    queue  attempt  worker         age  done        note",
        r"  1  import            1/25  host-1  1 h 30 min   3/4  75 %  half\x1b[31m",
        r"  2  export            1/25  host-1  1 h 30 min",
    ]


@pytest.mark.usefixtures("busy")
def test_a_frame_for_programs_is_one_object_without_payloads(top: Command) -> None:
    done = top("--json", "--once", "--limit", "1")
    assert done.code == 0
    assert "secret" not in done.out
    frame = json.loads(done.out)
    assert (frame["jobs"], frame["counted_up_to"]) == (
        {"ready": 1, "scheduled": 1, "running": 2, "failed": 0},
        10_000,
    )
    [worker] = frame["workers"]
    assert (worker["id"], worker["running"], worker["succeeded"], worker["rate"]) == ("host-1", 2, 30, 3.5)
    [job] = frame["running"]
    assert (job["id"], job["task"], job["attempt"], job["worker"]) == (1, "import", 1, "host-1")
    progress = job["progress"]
    assert (progress["done"], progress["total"], progress["fraction"]) == (3, 4, 0.75)
    assert [task["name"] for task in frame["tasks"]] == ["export", "import", "mail", "later"]
    assert frame["queues"] == [{"name": "mail", "ready": 1, "scheduled": 0, "running": 0, "failed": 0}]


def test_frames_for_programs_come_one_a_line_until_ctrl_c(database: str, tmp_path: Path) -> None:
    command = (*PGTASKS, "top", "--json", "--interval", "0.1")
    env = clean_environment({"PGTASKS_DATABASE_URL": database})
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert json.loads(process.stdout.readline())["workers"] == []
        process.send_signal(signal.SIGINT)
        assert process.wait(LONGEST) == 0


@pytest.mark.usefixtures("busy")
def test_on_a_terminal_it_goes_on_until_q_is_pressed(database: str, tmp_path: Path) -> None:
    env = {"PGTASKS_DATABASE_URL": database}
    done = run_on_terminal("top", cwd=tmp_path, env=env, answer="q", question="75 %", columns=100)
    assert done.code == 0
    assert done.out.startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in done.out
    assert "━━━━━━━━━───" in done.out
    assert r"half\x1b[31m" in done.out


def test_a_database_in_which_nothing_goes_on_is_told_of_as_such(top: Command) -> None:
    assert top().out == "no worker, 0.0 jobs/s; 0 ready, 0 scheduled, 0 running, 0 failed\n"


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ("0", "invalid value for '--interval': '0' is out of range: it must be from 0.1 to 3600 seconds"),
        ("soon", "invalid value for '--interval': 'soon' is not a time span"),
    ],
)
def test_an_interval_that_cannot_be_is_refused(top: Command, interval: str, message: str) -> None:
    done = top("--interval", interval)
    assert done.code == 2
    assert done.error.startswith(message)


def test_a_database_that_is_not_there_is_one_line(top: Command) -> None:
    done = top("--database-url", "postgresql://127.0.0.1:1/x")
    assert done.code == 3
    assert done.error.startswith("no server answers at host=127.0.0.1 port=1 dbname=x")


@pytest.mark.usefixtures("busy")
def test_a_job_is_shown_with_how_far_it_has_come(database: str, tmp_path: Path) -> None:
    jobs = partial(run, "jobs", "show", cwd=tmp_path, env={"PGTASKS_DATABASE_URL": database})
    assert re.search(r"^progress +3/4 \(75 %\), \d+ s ago: half\\x1b\[31m$", jobs("1").out, re.MULTILINE)
    first, second = map(json.loads, jobs("1", "3", "--json").out.splitlines())
    assert (first["progress"]["done"], first["progress"]["note"], second["progress"]) == (3, "half\x1b[31m", None)
