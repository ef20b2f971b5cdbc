"""What the workers of these tests run. Starts and ends are noted in files, in the order in which they happen."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pgtasks import App, JobContext

app = App()
NOTES = Path(os.environ.get("NOTES", os.devnull))


def note(what: str, job_id: int) -> None:
    """Append a line; one that is so short is written as a whole."""
    descriptor = os.open(NOTES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{what} {job_id} {time.monotonic():.6f} {os.getpid()}\n".encode())
    os.close(descriptor)


@app.task
def work(payload: Any, ctx: JobContext) -> None:
    """Run for no time."""
    note("start", ctx.job.id)


@app.task
def hold(payload: dict[str, Any], ctx: JobContext) -> None:
    """Run until there is the file that the payload names."""
    note("start", ctx.job.id)
    until = time.monotonic() + 100
    while not Path(payload["file"]).exists() and time.monotonic() < until:
        time.sleep(0.01)
    note("end", ctx.job.id)
