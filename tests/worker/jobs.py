"""The application that the worker tests run: its tasks leave what they did in the table `effects`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import logging
import multiprocessing
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import structlog

from pgtasks import App, BatchResult, JobAbortedError, JobContext, JobOptionError, current_app, current_job, task

app = App()
plain_log = logging.getLogger("jobs.plain")
struct_log = structlog.get_logger("jobs.struct")

BOOK = "insert into public.ledger (job_id, attempt) values (%s, %s)"
RECORD = "insert into public.effects (job_id, attempt, what, pid) values (%s, %s, %s, %s)"


def record(ctx: JobContext, what: str) -> None:
    with current_app().connection() as connection:
        connection.execute(RECORD, (ctx.job.id, ctx.attempt, what, os.getpid()))


async def record_async(ctx: JobContext, what: str) -> None:
    async with current_app().async_connection() as connection:
        await connection.execute(RECORD, (ctx.job.id, ctx.attempt, what, os.getpid()))


@task
def note(payload: Any, ctx: JobContext) -> None:
    record(ctx, "ran")


@task
async def note_async(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "ran")


@task
def nothing() -> None:
    """Takes no payload and does nothing."""


@task
def work(payload: dict[str, float], ctx: JobContext) -> None:
    """The job's own work takes some time, and its effect is there at the end of it."""
    time.sleep(payload["seconds"])
    record(ctx, "ran")


@task
async def work_async(payload: dict[str, float], ctx: JobContext) -> None:
    await asyncio.sleep(payload["seconds"])
    await record_async(ctx, "ran")


@task
def hold(payload: dict[str, float], ctx: JobContext) -> None:
    """Says when it begins, then works for long."""
    record(ctx, "began")
    time.sleep(payload.get("seconds", 60.0))
    record(ctx, "ran")


@task
async def hold_async(payload: dict[str, float], ctx: JobContext) -> None:
    await record_async(ctx, "began")
    await asyncio.sleep(payload.get("seconds", 60.0))
    await record_async(ctx, "ran")


@task
def wait_for_row(payload: dict[str, str], ctx: JobContext) -> None:
    """Says when it begins, ends when the test lets it."""
    record(ctx, "began")
    with current_app().connection() as connection:
        while connection.execute("select from public.permits where name = %s", (payload["permit"],)).fetchone() is None:
            time.sleep(0.01)
    if payload.get("then") == "fail":
        raise RuntimeError("as told")
    record(ctx, "ran")


def _permitted(name: str) -> bool:
    with current_app().connection() as connection:
        return connection.execute("select from public.permits where name = %s", (name,)).fetchone() is not None


@task
def come_on(payload: dict[str, str], ctx: JobContext) -> None:
    """Says how far it has come, and ends when the test lets it."""
    ctx.progress(1, 3, "warming up")
    with contextlib.suppress(JobOptionError):
        ctx.progress(-1)
    while not _permitted(payload["permit"]):
        time.sleep(0.02)


@task
async def come_on_async(payload: dict[str, str], ctx: JobContext) -> None:
    ctx.progress(0.5, note="under way")
    while not await asyncio.to_thread(_permitted, payload["permit"]):  # noqa: ASYNC110 - the test tells nobody
        await asyncio.sleep(0.02)


@task
def fail(payload: dict[str, str], ctx: JobContext) -> None:
    record(ctx, "tried")
    secret = "a local variable"  # noqa: F841 - must not be in the log
    raise ValueError(payload.get("message", "no luck"))


@task
async def fail_async(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "tried")
    raise ValueError("no luck")


@task
def leave(payload: Any) -> None:
    sys.exit(3)


@task
async def leave_together(payload: Any) -> Any:
    """Exits in a task of the event loop's that is not its own: in a group, or where a list is awaited."""

    async def exits() -> None:
        raise SystemExit(3)

    if payload[0] == "listed":
        return [asyncio.sleep(0), exits()]
    async with asyncio.TaskGroup() as group:
        group.create_task(exits())
    return None


@task
def each(payload: list[int], ctx: JobContext) -> BatchResult:
    """Does the first item, and the others when it is asked to stop."""
    record(ctx, "began")
    failures: dict[int, BaseException] = {}
    for place, _ in enumerate(payload):
        try:
            if place:
                ctx.abort.wait()
            ctx.abort.raise_if_set()
        except JobAbortedError as error:
            failures[place] = error
    return BatchResult(failures)


@task(name="not_awaited")
def returns_coroutine(payload: Any) -> Any:
    return asyncio.sleep(0)


@task
def die(payload: dict[str, Any], ctx: JobContext) -> None:
    """Takes its process down, as the payload says."""
    record(ctx, "tried")
    how = payload["how"]
    if how == "exit":
        os._exit(payload.get("code", 0))
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(0 if how == "signal its group" else os.getpid(), payload["signal"])


@task(transactional=True)
def pay(payload: dict[str, Any], ctx: JobContext) -> None:
    """Writes in its transaction, then does as the payload says, on its first attempt only."""
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    then = payload.get("then") if ctx.attempt == 1 else None
    if then == "die":
        os.kill(os.getpid(), 9)
    if then == "fail":
        raise RuntimeError("after the write")
    if then == "wait":
        record(ctx, "began")
        with current_app().connection() as connection:
            while connection.execute("select from public.permits").fetchone() is None:
                time.sleep(0.01)


@task(transactional=True)
async def pay_async(payload: dict[str, Any], ctx: JobContext) -> None:
    await ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    if payload.get("then") == "fail" and ctx.attempt == 1:
        raise RuntimeError("after the write")
    if payload.get("then") == "die" and ctx.attempt == 1:
        os.kill(os.getpid(), 9)


def add_later(ctx: JobContext) -> None:
    """What a transactional handler leaves running: it adds a job when it is permitted."""
    with current_app().connection() as connection:
        while connection.execute("select from public.permits").fetchone() is None:
            time.sleep(0.01)
    for late in (ctx, current_job()):
        try:
            late.defer(nothing)
        except JobOptionError as error:
            record(ctx, str(error))


@task(transactional=True)
def leave_behind(payload: Any, ctx: JobContext) -> None:
    threading.Thread(target=contextvars.copy_context().run, args=(add_later, ctx), daemon=True).start()


left_behind: set[asyncio.Task[None]] = set()


@task(transactional=True)
async def leave_behind_async(payload: Any, ctx: JobContext) -> None:
    left_behind.add(asyncio.create_task(asyncio.to_thread(add_later, ctx)))


@task(transactional=True, name="pay_not_awaited")
def pay_returns_coroutine(payload: Any, ctx: JobContext) -> Any:
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    return asyncio.sleep(0)


@task
def no_transaction(payload: Any, ctx: JobContext) -> None:
    ctx.transaction.execute("select 1")


@task
def talk(payload: Any, ctx: JobContext) -> None:
    plain_log.info("from the standard library")
    struct_log.info("from structlog", answer=42)
    ctx.log.info("from the context")


@task
async def talk_async(payload: Any) -> None:
    plain_log.info("from a task")
    await asyncio.to_thread(plain_log.info, "from an executor")


@task
def follow_up(payload: dict[str, int], ctx: JobContext) -> None:
    """Adds the next of a chain of jobs."""
    record(ctx, f"link {payload['left']}")
    if payload["left"]:
        follow_up.defer({"left": payload["left"] - 1}, queue=ctx.job.queue)


@task
def typed(payload: Any, ctx: JobContext) -> None:
    record(ctx, repr(payload))


tenant: contextvars.ContextVar[str | None] = contextvars.ContextVar("tenant", default=None)


@task
def remember(payload: dict[str, str], ctx: JobContext) -> None:
    """Says what an earlier job has left in the context, and leaves something itself."""
    record(ctx, f"saw {tenant.get()}")
    tenant.set(payload["tenant"])


@task
async def remember_async(payload: dict[str, str], ctx: JobContext) -> None:
    await record_async(ctx, f"saw {tenant.get()}")
    tenant.set(payload["tenant"])


@task
def list_inheritable(payload: Any, ctx: JobContext) -> None:
    """Says how many sockets a program would inherit that the job starts."""
    found = []
    for number in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - numbers, not paths
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode) and os.get_inheritable(number):
                found.append(number)
    record(ctx, f"inheritable: {found}")


@task
def ask_terminal(payload: Any, ctx: JobContext) -> None:
    """Reads from the terminal, as a library does that asks for a password."""
    try:
        with Path("/dev/tty").open() as terminal:
            terminal.readline()
    except OSError:
        record(ctx, "nobody to ask")


@task
async def stop_loop(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "tried")
    asyncio.get_running_loop().stop()


@task
async def cancel_everything(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "tried")
    for other in asyncio.all_tasks():
        other.cancel()
    await asyncio.sleep(60)


@task
async def refuse_to_end(payload: Any, ctx: JobContext) -> None:
    await record_async(ctx, "began")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit


@task
def fail_unspeakably(payload: Any) -> None:
    raise UnspeakableError


@task
def fork_and_terminate(payload: Any, ctx: JobContext) -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    record(ctx, f"child ended by {-(child.exitcode or 0)}")


@task(transactional=True)
def fork_and_return(payload: Any, ctx: JobContext) -> None:
    """Forks in its transaction, and then both processes come back."""
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    if child := os.fork():
        record(ctx, f"child {child}")


@task(transactional=True)
async def fork_and_raise_async(payload: Any, ctx: JobContext) -> None:
    await ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    if not (child := os.fork()):
        raise RuntimeError("in the child")
    await record_async(ctx, f"child {child}")
