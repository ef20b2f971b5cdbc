"""Which server process owns a data directory, read from its `postmaster.pid` and checked against the process itself.

PostgreSQL (and `pg_ctl status`) takes a server for alive when any process has the number in the file. After a crash,
and above all in containers, where numbers are small and repeat, that is often an unrelated process; the pid file then
keeps the server from starting. We ask who the process is.

The file's layout is that of https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A server process that is alive.

    Attributes:
        pid: Its process id.
        port: The port, which is also part of the socket's name; 0 while the file does not say it yet.
        socket_dir: The directory of its Unix socket; empty while the file does not say it yet.
        status: `starting`, `ready`, `standby` or `stopping`; empty while the file does not say it yet.
    """

    pid: int
    port: int
    socket_dir: str
    status: str


def find_postmaster(data_dir: Path) -> Postmaster | None:
    """Return the server that runs on `data_dir`, or `None` when there is none.

    Args:
        data_dir: The data directory, absolute and resolved.
    """
    try:
        lines = os.fsdecode((data_dir / "postmaster.pid").read_bytes()).splitlines()
    except FileNotFoundError:
        return None
    lines += [""] * (8 - len(lines))  # the server appends to the file step by step
    pid = _number(lines[0])
    if pid <= 1 or not _runs_on(pid, data_dir, Path(lines[1])):
        return None
    return Postmaster(pid=pid, port=_number(lines[3]), socket_dir=lines[4].strip(), status=lines[7].strip())


def has_ended(pid: int) -> bool:
    """Tell whether a process that is not our child has ended, even when nobody reaped it yet.

    The first process of a container often reaps nobody, so that a number alone stays taken for ever.
    """
    if _HAS_PROC:
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            return True
        return state in {b"Z", b"X"}
    state_now = _ps("state=", pid)
    return not state_now or state_now.startswith("Z")


def _runs_on(pid: int, data_dir: Path, written_dir: Path) -> bool:
    """Tell whether process `pid` is a server on `data_dir`; `written_dir` is what the pid file calls it."""
    command = _command_line(pid)
    if not command or Path(command[0]).name not in {"postgres", "postmaster"}:
        return False
    try:
        # A server lives in its data directory. That also holds when the directory was renamed under it, and tells a
        # copy of the directory (pid file included) from the original.
        return Path(f"/proc/{pid}/cwd").samefile(data_dir)
    except OSError:  # no /proc, or not ours to look at: root in a container may not look into another account's process
        return _same(written_dir, data_dir) and str(written_dir) in command


def _command_line(pid: int) -> list[str]:
    """Return the program and arguments of a process; nothing when it has ended, even when nobody reaped it yet."""
    if _HAS_PROC:
        try:
            return [os.fsdecode(part) for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        except OSError:
            return []
    # macOS gives the arguments joined by blanks; the directory comes first when it was we who started the server.
    program, found, rest = _ps("command=", pid).partition(" -D ")
    return [program, rest.split(" -c ")[0]] if found else []


def _ps(column: str, pid: int) -> str:
    command = ["/bin/ps", "-ww", "-o", column, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _number(line: str) -> int:
    return int(line) if line.strip().lstrip("-").isdigit() else 0
