"""The application that the tests' workers run."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pgtasks import App, JobContext, current_app, task

app = App()

LONG = 600.0


@task
def succeeds(payload: Any) -> None:
    pass


@task
async def succeeds_async(payload: Any) -> None:
    pass


@task(max_attempts=1)
def fails(payload: Any) -> None:
    raise ValueError("it always does")


@task(retry=[LONG])
def fails_once(payload: Any, ctx: JobContext) -> None:
    if ctx.attempt == 1:
        raise ValueError("the first time it does")


@task(max_attempts=1, timeout=0.1, grace=LONG)
def too_slow(payload: Any, ctx: JobContext) -> None:
    ctx.abort.wait(LONG)
    ctx.abort.raise_if_set()


@task
def never_runs(payload: Any) -> None:
    pass


@task
def waits(payload: dict[str, str]) -> None:
    """Ends when the test lets it."""
    with current_app().connection() as connection:
        while connection.execute("select from public.permits where name = %s", (payload["permit"],)).fetchone() is None:
            time.sleep(0.01)


@task(max_attempts=1)
def kills_its_process(payload: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
