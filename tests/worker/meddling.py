"""An application that does things with signals while it is imported."""

import asyncio
import signal
from typing import Any

from pgtasks import JobContext, task
from tests.worker.jobs import record


async def watch() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, lambda: None)


asyncio.run(watch())  # which resets the wake-up descriptor
signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@task
def note_meddling(payload: Any, ctx: JobContext) -> None:
    record(ctx, "ran")
