"""An application whose tasks run for longer than they may, each in its own way."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import time
from typing import Any, TypedDict

import psycopg

from pgtasks import App, JobContext, current_app, task
from tests.worker.jobs import BOOK, record

app = App()

SOON = 0.3
"""Seconds after which those are asked to stop that do not."""
IN_TIME = 1.0
"""Seconds after which the others are: by then they have asked the server, for nothing interrupts what comes later."""
LONG = 600.0


class Limits(TypedDict):
    timeout: float
    grace: float


with_much_grace: Limits = {"timeout": IN_TIME, "grace": LONG}
with_little_grace: Limits = {"timeout": SOON, "grace": SOON}


# Those that stop when they are asked to


@task(**with_much_grace)
def watch(payload: Any, ctx: JobContext) -> None:
    ctx.abort.wait(LONG)
    ctx.abort.raise_if_set()


@task(**with_much_grace)
async def sleep_async(payload: Any) -> None:
    await asyncio.sleep(LONG)


@task(**with_much_grace)
def ask_server(payload: Any) -> None:
    with current_app().connection() as connection:
        connection.execute("select pg_sleep(600)")


@task(**with_much_grace)
async def ask_server_async(payload: Any) -> None:
    async with current_app().async_connection() as connection:
        await connection.execute("select pg_sleep(600)")


@task(**with_much_grace)
async def ask_server_in_thread(payload: Any) -> None:
    await asyncio.to_thread(ask_server.handler, payload)


@task(transactional=True, **with_much_grace)
def book_and_ask(payload: Any, ctx: JobContext) -> None:
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    ctx.transaction.execute("select pg_sleep(600)")


@task(transactional=True, **with_much_grace)
async def book_and_ask_async(payload: Any, ctx: JobContext) -> None:
    await ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    await asyncio.sleep(LONG)


@task(**with_much_grace)
def return_when_asked(payload: Any, ctx: JobContext) -> None:
    ctx.abort.wait(LONG)
    record(ctx, "ran")


# Those that do not. They say so in the log: a limit can interrupt what they write into the database.


@task(**with_little_grace)
def compute(payload: Any, ctx: JobContext) -> None:
    ctx.log.info("stuck")
    while True:
        pass


@task(timeout=IN_TIME, grace=SOON)
def compute_longer(payload: Any, ctx: JobContext) -> None:
    compute.handler(payload, ctx)


@task(**with_little_grace)
def sleep(payload: Any, ctx: JobContext) -> None:
    ctx.log.info("stuck")
    time.sleep(LONG)


@task(**with_little_grace)
def keep_interpreter(payload: Any, ctx: JobContext) -> None:
    """Calls a function of C that does not give the interpreter to other threads."""
    ctx.log.info("stuck")
    ctypes.PyDLL(None).sleep(int(LONG))


@task(**with_little_grace)
async def refuse(payload: Any, ctx: JobContext) -> None:
    ctx.log.info("stuck")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)


@task(**with_little_grace)
async def block_loop(payload: Any, ctx: JobContext) -> None:
    ctx.log.info("stuck")
    time.sleep(LONG)  # noqa: ASYNC251 - the very thing


@task(**with_little_grace)
def insist(payload: Any, ctx: JobContext) -> None:
    """Asks the server again when its statement is cancelled."""
    ctx.log.info("stuck")
    while True:
        with contextlib.suppress(Exception), current_app().connection() as connection:
            connection.execute("select pg_sleep(600)")


@task(transactional=True, **with_little_grace)
def book_and_compute(payload: Any, ctx: JobContext) -> None:
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    ctx.log.info("stuck")
    while True:
        pass


# Others


@task(timeout=LONG)
def wait_for_permit(payload: dict[str, str], ctx: JobContext) -> None:
    """Has a limit too, that is still far away."""
    record(ctx, "began")
    with current_app().connection() as connection:
        while connection.execute("select from public.permits where name = %s", (payload["permit"],)).fetchone() is None:
            time.sleep(0.01)
    record(ctx, "ran")


def tell(ctx: JobContext) -> None:
    left = None if ctx.deadline is None else ctx.deadline - time.monotonic()
    record(ctx, "without a limit" if left is None else "within its limit" if 0 < left <= LONG else f"{left} s left")


tell_default = task(name="tell_default")(tell)
tell_limited = task(name="tell_limited", timeout=LONG)(tell)
tell_unlimited = task(name="tell_unlimited", timeout=math.inf)(tell)


@task
def watch_by_default(payload: Any, ctx: JobContext) -> None:
    """Has whatever limit the worker gives it; cleans up when it is asked to stop."""
    with contextlib.suppress(psycopg.errors.QueryCanceled):  # as soon as that
        record(ctx, "began")
    ctx.abort.wait(LONG)
    record(ctx, str(ctx.abort.error))
    ctx.abort.raise_if_set()
