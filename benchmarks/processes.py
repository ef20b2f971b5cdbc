"""Starting workers, stopping them, and looking at what they take."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.counting import drained
from benchmarks.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.counting import Table

    Command = Sequence[str | Path]

STOPPING = 30.0  # seconds that a worker has for it before it is killed


@contextmanager
def started(
    commands: Sequence[Command], log: Path, environment: dict[str, str] | None = None, directory: Path = ROOT
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run programs until the block ends.

    Args:
        commands: What to run.
        log: Where their output is added.
        environment: What their environment holds beside this one's.
        directory: Where they run.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as output:
        try:
            processes += [
                subprocess.Popen(
                    command,
                    cwd=directory,
                    env={**os.environ, **(environment or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                for command in commands
            ]
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                _wait(process)


def all_run(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Whether none has ended."""
    return all(process.poll() is None for process in processes)


def throughput(table: Table, workers: AbstractContextManager[list[subprocess.Popen[bytes]]], processes: int) -> float:
    """Jobs a second that workers do, of those that are in the table.

    Args:
        table: Holds the jobs.
        workers: Starts the workers and stops them.
        processes: How many will wait at the gate.
    """
    counter, jobs = table.counter(), table.left()
    with ExitStack() as stack:
        with table.gate(processes):
            running = stack.enter_context(workers)
        return drained(counter, jobs, time.perf_counter(), lambda: all_run(running))


def tree(pid: int) -> list[int]:
    """A process and all that descend from it. Linux only."""
    found = [pid]
    for number in found:
        for children in Path(f"/proc/{number}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def memory(pid: int) -> float:
    """Megabytes that a process takes: its own, and its share of what it has in common with others (Pss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no Pss")


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime: proc_pid_stat(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
