"""What `exactness.py` has workers run: handlers that write down when they were started."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from pgtasks import JobContext, task

ENTRY = struct.Struct("=dq")
"""When, by the monotonic clock that all processes of a machine share, and which job."""
_FREE_SECONDS = float(os.environ.get("EXACTNESS_FREE_SECONDS", "0"))
_files: dict[str, tuple[int, int]] = {}


def note(name: str, job_id: int) -> None:
    """Append to a file; what is so short is written as a whole."""
    pid, descriptor = _files.get(name, (0, -1))
    if pid != os.getpid():
        path = Path(os.environ["EXACTNESS_DIRECTORY"]) / name
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        _files[name] = (os.getpid(), descriptor)
    os.write(descriptor, ENTRY.pack(time.monotonic(), job_id))


@task
def limited(ctx: JobContext) -> None:
    """Run under a limit."""
    note("limited", ctx.job.id)


@task
def free(ctx: JobContext) -> None:
    """Run without one."""
    if _FREE_SECONDS:
        time.sleep(_FREE_SECONDS)
    note("free", ctx.job.id)


def entries(path: Path) -> list[tuple[float, int]]:
    """Return what was written down."""
    data = path.read_bytes() if path.exists() else b""
    return list(ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]))
