"""An application whose jobs keep to themselves what their process needs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

from pgtasks import App, JobContext, task
from tests.worker.jobs import record, wait_for_row

app = App()


@task
def keep_interpreter(payload: Any, ctx: JobContext) -> None:
    """Keeps the interpreter's lock for minutes, in C."""
    record(ctx, "began")
    re.match(r"(a|aa)+$", "a" * 60 + "b")


@task
async def keep_loop(payload: dict[str, str], ctx: JobContext) -> None:
    """Keeps the event loop until the test lets it go."""
    wait_for_row.handler(payload, ctx)


@task
def grow(payload: dict[str, int], ctx: JobContext) -> None:
    """Takes memory, and keeps it."""
    hoard.append(bytearray(payload["megabytes"] * 1024 * 1024))
    record(ctx, "grew")


hoard: list[bytearray] = []


@task
def leave_orphan(payload: Any, ctx: JobContext) -> None:
    """Starts a program that starts another one and ends at once, so that the other one loses its parent."""
    program = (
        "import os, sys; pid = os.fork(); print(pid) if pid else os.execlp('sleep', 'sleep', '0.1'); sys.stdout.flush()"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    record(ctx, f"orphan {done.stdout.strip()}")
