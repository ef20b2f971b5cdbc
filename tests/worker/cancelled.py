"""An application whose tasks run until somebody cancels them, each in its own way; none has a time limit."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pgtasks import App, JobContext, current_app, task
from tests.worker.jobs import BOOK, record, record_async

app = App()

LONG = 600.0


@task(grace=LONG)  # however slow the machine is
def watch(payload: Any, ctx: JobContext) -> None:
    record(ctx, "began")
    ctx.abort.wait(LONG)
    record(ctx, repr(ctx.abort.error))
    ctx.abort.raise_if_set()


@task
async def sleep_async(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "began")
    await asyncio.sleep(LONG)


@task
def ask_server(payload: Any, ctx: JobContext) -> None:
    record(ctx, "began")
    with current_app().connection() as connection:
        connection.execute("select pg_sleep(600)")


@task(transactional=True)
def book_and_ask(payload: Any, ctx: JobContext) -> None:
    record(ctx, "began")
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    ctx.transaction.execute("select pg_sleep(600)")


@task(timeout=LONG)
def limited(payload: Any, ctx: JobContext) -> None:
    watch.handler(payload, ctx)


@task
def return_when_asked(payload: Any, ctx: JobContext) -> None:
    record(ctx, "began")
    ctx.abort.wait(LONG)
    record(ctx, "ran")


# Those that do not stop


@task(grace=0)
def sleep(payload: Any, ctx: JobContext) -> None:
    record(ctx, "began")
    time.sleep(LONG)


@task
async def block_loop(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "began")
    time.sleep(LONG)  # noqa: ASYNC251 - the very thing
