"""The application of the fault tests. Its tasks enter what they do into the ledger, and some bring trouble."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from pgtasks import App, JobContext, task
from tests.faults.dying import die, time_to_die
from tests.faults.ledger import PLACE, append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

app = App()


class ToldToFailError(Exception):
    """What the job's payload asked for."""


@contextlib.contextmanager
def entered(ctx: JobContext) -> Iterator[None]:
    """Enter a run, and how it ended."""
    run = {"job": ctx.job.id, "attempt": ctx.attempt, "pid": os.getpid()}
    append(os.environ[PLACE], **run, worker=ctx.job.locked_by, queue=ctx.job.queue)
    end = "broken"
    try:
        yield
        end = "succeeded"
    except ToldToFailError:
        end = "failed"
        raise
    finally:
        if os.getpid() == run["pid"]:  # and not a child that the job has forked
            append(os.environ[PLACE], **run, end=end)


def end(payload: dict[str, Any], ctx: JobContext) -> None:
    if payload["fail"] and ctx.attempt == 1:
        raise ToldToFailError


@task
def plain(payload: dict[str, Any], ctx: JobContext) -> None:
    """Works for some time in a thread; fails on its first attempt if told to."""
    with entered(ctx):
        time.sleep(payload["seconds"])
        end(payload, ctx)


@task(name="async")
async def asynchronous(payload: dict[str, Any], ctx: JobContext) -> None:
    """Does the same on the event loop."""
    with entered(ctx):
        await asyncio.sleep(payload["seconds"])
        end(payload, ctx)


@task(transactional=True)
def book(payload: dict[str, Any], ctx: JobContext) -> None:
    """Writes into the queue's own database, in the transaction that ends the job."""
    ctx.transaction.execute("insert into public.booked (job_id) values (%s)", (ctx.job.id,))
    time.sleep(payload["seconds"])


@task(transactional=True)
async def book_async(payload: dict[str, Any], ctx: JobContext) -> None:
    """Does the same on the event loop."""
    await ctx.transaction.execute("insert into public.booked (job_id) values (%s)", (ctx.job.id,))
    await asyncio.sleep(payload["seconds"])


@task
def trouble(payload: dict[str, Any], ctx: JobContext) -> None:
    """Does to its process what the payload says."""
    with entered(ctx):
        TROUBLES[payload["how"]]()


def _takes_process(how: Callable[[], Any]) -> Callable[[], None]:
    def act() -> None:
        append(os.environ[PLACE], what="kill", pids=[os.getpid()])
        how()
        time.sleep(60)  # until the process has ended, which it may take a moment to notice

    return act


def _exhaust_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def _fork_and_return() -> None:
    """Go on in both processes, as a job does that forgets to end its child."""
    os.fork()


def _fork_and_raise() -> None:
    if os.fork() == 0:
        raise ToldToFailError


def _fork_and_exit() -> None:
    if (child := os.fork()) == 0:
        sys.exit(0)
    os.waitpid(child, 0)


TROUBLES: dict[str, Callable[[], None]] = {
    "segfault": _takes_process(lambda: ctypes.string_at(0)),
    "exit": _takes_process(lambda: os._exit(0)),
    "kill": _takes_process(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "close files": _takes_process(lambda: os.closerange(0, 4096)),
    "exhaust memory": _exhaust_memory,
    "fork and return": _fork_and_return,
    "fork and raise": _fork_and_raise,
    "fork and exit": _fork_and_exit,
}


@task(transactional=True)
def fork_and_book(payload: dict[str, Any], ctx: JobContext) -> None:
    """Forks in the middle of its transaction and goes on in both processes."""
    ctx.transaction.execute("insert into public.booked (job_id) values (%s)", (ctx.job.id,))
    os.fork()


@task(transactional=True, max_attempts=1000)
def pay(payload: dict[str, Any], ctx: JobContext) -> None:
    """Writes, and then its process may die, at an instant that the payload and the attempt decide on."""
    ctx.transaction.execute("insert into public.booked (job_id) values (%s)", (ctx.job.id,))
    if (when := time_to_die(payload["seed"], ctx.attempt)) is not None:
        die(ctx.job.id, when, ctx.transaction)


@task(transactional=True, max_attempts=1000)
async def pay_async(payload: dict[str, Any], ctx: JobContext) -> None:
    """Does the same on the event loop."""
    await ctx.transaction.execute("insert into public.booked (job_id) values (%s)", (ctx.job.id,))
    if (when := time_to_die(payload["seed"], ctx.attempt)) is not None:
        die(ctx.job.id, when, ctx.transaction)
