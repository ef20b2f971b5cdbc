"""An application with a task for each way in which a job can end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pgtasks import App, Fail, JobContext

app = App(listen=True)
CALLS = Path(os.environ.get("HOOK_CALLS", os.devnull))
LONG = 60.0


@app.task
def works(payload: object) -> None: ...


@app.task
async def works_async(payload: object) -> None: ...


@app.task
def raises(payload: object) -> None:
    raise ValueError("it does")


@app.task
def gives_up() -> None:
    raise Fail("it is of no use")


@app.task(timeout=0.2)
def overruns(payload: object, ctx: JobContext) -> None:
    ctx.abort.wait(LONG)
    ctx.abort.raise_if_set()


@app.task
def dies(payload: object, ctx: JobContext) -> None:
    # What plugins are told in a process that dies at once may be lost with it.
    until = time.monotonic() + LONG
    while '"hook": "job_started"' not in CALLS.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    os._exit(3)


@app.task
def waits(payload: object, ctx: JobContext) -> None:
    ctx.abort.wait(LONG)
    ctx.abort.raise_if_set()


@app.task
def cancelled(payload: object) -> None: ...
