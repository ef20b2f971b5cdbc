"""An application in whose worker no thread can be had, until a job changes that."""

from __future__ import annotations

import threading
from typing import Any

from pgtasks import JobContext, task
from tests.worker.jobs import app, record_async

__all__ = ["app"]

threading.stack_size(1 << 47)  # more than there are addresses


@task
async def give_threads(payload: Any, ctx: JobContext) -> None:
    threading.stack_size(0)
    await record_async(ctx, "ran")
