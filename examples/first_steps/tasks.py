"""Three tasks: a function, a coroutine, and one that fails at first."""

import asyncio
from typing import Any

from pgtasks import JobContext, task


@task
def greet(payload: dict[str, Any]) -> None:
    """Run in a thread of a worker process, as every plain function does."""
    print(f"hello, {payload['name']}")


@task
async def send_receipt(payload: dict[str, Any]) -> None:
    """Run in the event loop of a worker process, where many coroutines can wait at a time."""
    await asyncio.sleep(0.1)  # a mail server would be asked here
    print(f"a receipt for order {payload['order']} went to {payload['to']}")


@task(max_attempts=5)
def charge(payload: dict[str, Any], ctx: JobContext) -> None:
    """Fail once. A job whose handler raises is tried again after a pause, here up to five times in all.

    `ctx` knows the job; what is logged with `ctx.log` carries the job's id, task and attempt.
    """
    if ctx.attempt == 1:
        raise ConnectionError("the bank does not answer")
    ctx.log.info("order_paid", order=payload["order"])
