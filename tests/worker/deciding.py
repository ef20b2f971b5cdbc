"""Tasks that say what becomes of their jobs, by what they raise and return, and by rules."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from decimal import Decimal  # noqa: TC003 - annotations are read
from typing import Any

from pgtasks import App, Backoff, BatchResult, Cancel, Fail, JobContext, Registry, Retry, Snooze, current_job
from tests.worker.jobs import BOOK, RECORD

app = App(registry=Registry())
LATER = dt.datetime(2126, 1, 1, tzinfo=dt.UTC)
DECISIONS = {
    "retry": Retry(3600, reason="busy"),
    "retry at": Retry(run_at=LATER),
    "retry by rule": Retry(),
    "snooze": Snooze(dt.timedelta(hours=1)),
    "snooze to": Snooze(run_at=LATER),
    "cancel": Cancel("enough"),
    "fail": Fail("gone"),
}


def record(what: str) -> None:
    ctx = current_job()
    with ctx.app.connection() as connection:
        connection.execute(RECORD, (ctx.job.id, ctx.attempt, what, 0))


# Decisions, in all kinds of handlers


def decide(decision: str, raises: bool) -> Any:
    if raises:
        raise DECISIONS[decision]
    return DECISIONS[decision]


@app.task(retry=[7200])
def plain(decision: str, raises: bool) -> Any:
    return decide(decision, raises)


@app.task(retry=[7200])
async def on_loop(decision: str, raises: bool) -> Any:
    return decide(decision, raises)


@app.task(retry=[7200], transactional=True)
def paying(decision: str, raises: bool, ctx: JobContext) -> Any:
    ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    return decide(decision, raises)


@app.task(retry=[7200], transactional=True)
async def paying_on_loop(decision: str, raises: bool, ctx: JobContext) -> Any:
    await ctx.transaction.execute(BOOK, (ctx.job.id, ctx.attempt))
    return decide(decision, raises)


# Rules


def fail(*, error: str) -> None:
    raise {"KeyError": KeyError, "ValueError": ValueError}[error]("as told")


def rule(attempt: int, error: BaseException) -> dt.timedelta | Fail:
    return dt.timedelta(hours=attempt) if isinstance(error, KeyError) else Fail("by rule")


by_list = app.task(name="by_list", retry=[3600])(fail)
by_backoff = app.task(name="by_backoff", retry=Backoff(first=3600, jitter=0))(fail)
by_function = app.task(name="by_function", retry=rule)(fail)
only = app.task(name="only", retry=[3600], retry_on=KeyError)(fail)
never = app.task(name="never", retry=[3600], no_retry_on=[KeyError])(fail)
expected = app.task(name="expected", retry=[3600], expected=ValueError)(fail)


# Payloads


@dataclass
class Item:
    name: str
    price: Decimal


@app.task
def buy(item: Item) -> None:
    record(f"{item.name} for {item.price}")


@app.task(invalid_payload="retry", retry=[3600])
def buy_sometime(item: Item) -> None:
    record("never")


@app.task
def greet(name: str, times: int = 1, *, ctx: JobContext) -> None:
    record(f"{name} {times} {ctx.attempt}")


@app.task(upgrade=lambda payload: {"item": payload["name"]} if "name" in payload else payload)
def sell(*, item: str) -> None:
    record(item)


# Batches


@app.task
def batch(items: list[Item]) -> list[BaseException | None]:
    return [ValueError(f"no {item.name}") if item.price < 0 else None for item in items]


@app.task
def batch_by_result(items: list[Any]) -> BatchResult:
    failures = {place: ValueError("odd") for place, item in enumerate(items) if item % 2}
    items.clear()
    return BatchResult(failures)


@app.task
async def batch_on_loop(items: list[int]) -> list[Any]:
    async def handle(item: int) -> None:
        await asyncio.sleep(0)
        if item % 2:
            raise ValueError("odd")

    return [handle(item) for item in items]


# What a handler can do


@app.task
def tell(payload: dict[str, Any]) -> None:
    record("known in a thread")


@app.task
async def tell_on_loop(payload: dict[str, Any]) -> None:
    async def deeper() -> None:
        await asyncio.to_thread(record, f"known on the loop as {current_job().job.task}")

    await asyncio.create_task(deeper())


@app.task
def following(*, after: str) -> None:
    record(f"after {after}")


@app.task
def order(*, fails: bool, ctx: JobContext) -> None:
    with ctx.connection() as connection:
        connection.execute(BOOK, (ctx.job.id, ctx.attempt))
    ctx.defer(following, {"after": f"order {fails}"})
    if fails:
        raise Fail("after all")


@app.task(transactional=True)
def order_paid(*, fails: bool, ctx: JobContext) -> None:
    with ctx.connection() as connection:
        connection.execute(BOOK, (ctx.job.id, ctx.attempt))
    ctx.defer(following, following.args(after=f"order_paid {fails}"))
    if fails:
        raise Fail("after all")


@app.task(transactional=True)
async def order_paid_on_loop(*, fails: bool, ctx: JobContext) -> None:
    async with ctx.async_connection() as connection:
        await connection.execute(BOOK, (ctx.job.id, ctx.attempt))
    await ctx.defer_async(following, {"after": f"order_paid_on_loop {fails}"})
    if fails:
        raise Fail("after all")
