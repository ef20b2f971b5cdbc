"""Starts per span of time, for two hosts of two processes each with a backlog, one of them killed half-way.

    python plugins/pgtasks-ratelimit/benchmarks/exactness.py 100/s --seconds 60
    python plugins/pgtasks-ratelimit/benchmarks/exactness.py 2000/s --free 200000

Prints how many handlers have started in the fullest span of each length beside what the limit allows, how much of the
allowance was used, and how many statements the plugin has sent. Starts are written down by the handlers themselves,
which is later than they are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import psycopg  # noqa: E402 - after the path
from exactness_tasks import entries  # noqa: E402

from pgtasks import App, JobSpec  # noqa: E402
from pgtasks_ratelimit import parse_limit  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

SPANS = (0.1, 1.0, 5.0, 10.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rule", help="such as '100/s burst 20'; 'none' runs without the plugin")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--flags", type=int, default=1, help="so many flags, each with a bucket of its own")
    parser.add_argument("--free", type=int, default=0, help="jobs without a limit to run beside")
    parser.add_argument("--free-seconds", type=float, default=0.0, help="how long each of them takes")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument("--no-limited", action="store_true", help="add no jobs with the limit")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="exactness-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs under another account where we are root
        run(arguments, Path(directory))


def run(arguments: argparse.Namespace, directory: Path) -> None:
    plugins = [] if arguments.rule == "none" else ["pgtasks_ratelimit"]
    rule = arguments.rule if plugins else "100/s"
    limit = parse_limit("stripe", rule)
    rate, burst = 1 / limit.seconds_per_token, limit.burst or 1
    database_url = os.environ.get("PGTASKS_DATABASE_URL")
    where: dict[str, Any] = {"database_url": database_url} if database_url else {"embedded_dir": str(directory / "pg")}
    app = App(autoload_plugins=False, plugins=plugins, **where)
    environment = {
        **os.environ,
        "PGTASKS_DATABASE_URL": app.database.conninfo,
        "PGTASKS_AUTOLOAD_PLUGINS": "false",
        "PGTASKS_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "EXACTNESS_DIRECTORY": str(directory),
        "EXACTNESS_FREE_SECONDS": str(arguments.free_seconds),
    }
    if plugins:
        environment |= {
            "PGTASKS_PLUGINS": plugins[0],
            "PGTASKS_PLUGIN_RATELIMIT__LIMITS": json.dumps({"stripe*": rule}),
        }
    command = [sys.executable, "-m", "pgtasks"]
    subprocess.run([*command, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
    if not arguments.no_limited:
        count = (int(rate * arguments.seconds * 1.3) + burst + 20) * arguments.flags
        specs = (JobSpec(task="limited", flags=(f"stripe {number % arguments.flags}",)) for number in range(count))
        app.add_jobs(specs, returning=False)
    if arguments.free:
        app.add_jobs((JobSpec(task="free") for _ in range(arguments.free)), returning=False)
    command += [
        *("worker", "exactness_tasks"),
        *(f"--processes={arguments.processes}", f"--concurrency={arguments.concurrency}"),
    ]
    with psycopg.connect(app.database.conninfo, autocommit=True) as conn:
        conn.execute("alter system set track_functions = 'pl'")
        conn.execute("select pg_reload_conf()")
        hosts = [subprocess.Popen(command, env=environment, cwd=directory) for _ in range(arguments.hosts)]
        try:
            began, made = watch(arguments, directory, conn, hosts)
            ended = time.monotonic()
        finally:
            for host in hosts:
                host.terminate()
            for host in hosts:
                host.wait()
    app.close()
    seconds = ended - began
    starts = sorted((at, job_id) for at, job_id in entries(directory / "limited") if at <= ended)
    if starts and arguments.flags == 1:
        report([at for at, _ in starts], rate, burst, seconds)
    elif starts:
        of_flag = [[at for at, job_id in starts if job_id % arguments.flags == one] for one in range(arguments.flags)]
        counts = sorted(len(some) for some in of_flag)
        most = rate * seconds + burst
        use = len(starts) / most / len(counts)
        print(f"starts of a flag: {counts[0]} to {counts[-1]} of at most {most:.1f}; {use:.1%}")
        print(
            f"worst excess of any flag over any span: {max(excess(some, rate, burst) for some in of_flag):.2f} starts"
        )
    number = arguments.hosts * arguments.processes
    print(f"exchanges: {made / seconds:.1f}/s, {made / seconds / number:.1f}/s a process")
    if free := [at for at, _ in entries(directory / "free") if at <= ended]:
        print(f"jobs without a limit: {len(free) / (max(free) - min(free)):,.0f}/s")


def watch(
    arguments: argparse.Namespace,
    directory: Path,
    conn: psycopg.Connection[Any],
    hosts: Sequence[subprocess.Popen[bytes]],
) -> tuple[float, int]:
    """Return when the first job has started, and how many exchanges there were since, when the time is up."""
    watched = directory / ("free" if arguments.no_limited else "limited")
    while not entries(watched):
        time.sleep(0.05)
    began = entries(watched)[0][0]
    before = exchanges(conn)
    if not arguments.no_kill:
        time.sleep(max(0.0, began + arguments.seconds / 2 - time.monotonic()))
        os.kill(processes_of(hosts[0].pid)[-1], signal.SIGKILL)
    time.sleep(max(0.0, began + arguments.seconds - time.monotonic()))
    return began, exchanges(conn) - before


def report(starts: Sequence[float], rate: float, burst: int, seconds: float) -> None:
    print(f"limit {rate:g}/s burst {burst}: {len(starts)} starts in {seconds:.1f} s")
    for span in SPANS:
        if span < seconds:
            print(f"  fullest {span:5.1f} s: {fullest(starts, span):6d} of at most {rate * span + burst:.0f}")
    print(f"  worst excess over any span: {excess(starts, rate, burst):.2f} starts (at most 0 is right)")
    print(f"  use of the allowance: {len(starts) / (rate * seconds + burst):.1%}")
    middle = [at for at in starts if at - starts[0] >= 1]
    print(f"  use of the rate after the first second: {len(middle) / (rate * (seconds - 1)):.1%}")


def fullest(starts: Sequence[float], span: float) -> int:
    most = first = 0
    for last, start in enumerate(starts):
        while starts[first] <= start - span:
            first += 1
        most = max(most, last - first + 1)
    return most


def excess(starts: Sequence[float], rate: float, burst: int) -> float:
    level, last, worst = float(burst), None, -float(burst)
    for start in starts:
        if last is not None:
            level = min(float(burst), level + (start - last) * rate)
        level -= 1
        last = start
        worst = max(worst, -level)
    return worst


def exchanges(conn: psycopg.Connection[Any]) -> int:
    query = "select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = '_pgtasks_ratelimit_exchange'"
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def processes_of(pid: int) -> list[int]:
    """Return the worker processes of a supervisor: the children of its children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    return sorted(grandchild for child in children.get(pid, ()) for grandchild in children.get(child, ()))


if __name__ == "__main__":
    main()
