"""Tasks whose results are stored, and one whose is not."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal  # noqa: TC003 - annotations are read
from typing import Any

from pgtasks import App, BatchResult, Cancel, Fail, JobContext, Registry, Retry

app = App(registry=Registry())


@dataclass
class Report:
    day: dt.date
    total: Decimal


@app.task(store_result=True)
def report(total: Decimal, *, day: dt.date = dt.date(2026, 1, 2)) -> Report:
    return Report(day, total)


@app.task(store_result=dt.timedelta(hours=1))
async def double(n: int) -> int | Retry:
    return 2 * n


@app.task(store_result=True, queue="in order")
def loose(payload: Any) -> Any:
    return {"got": payload}


@app.task(store_result=True)
def refuse(payload: Any) -> Any:
    return {1, 2}


@app.task(store_result=True, transactional=True)
def lie(payload: Any, ctx: JobContext) -> int:
    with ctx.connection() as connection:
        connection.execute("insert into ledger values (%s, 1)", (ctx.job.id,))
    return "many"  # type: ignore[return-value]


@app.task(store_result=True, transactional=True)
async def pay(payload: Any, ctx: JobContext) -> str:
    async with ctx.async_connection() as connection:
        await connection.execute("insert into ledger values (%s, 1)", (ctx.job.id,))
    return "paid"


@app.task(store_result=True)
def items(payload: list[int]) -> BatchResult:
    return BatchResult()


@app.task(store_result=True, queue="in order")
def forget(payload: list[int]) -> list[int]:
    return [1, Cancel("there is no such item")]  # type: ignore[list-item]


@app.task(store_result=True, transactional=True)
def forget_and_pay(payload: list[int], ctx: JobContext) -> Any:
    ctx.transaction.execute("insert into ledger values (%s, 2)", (ctx.job.id,))
    return forget(payload)


@app.task(store_result=True)
def second_time(payload: Any, ctx: JobContext) -> int:
    if ctx.attempt == 1:
        raise Retry(delay=0)
    return ctx.attempt


@app.task(store_result=True)
def fail(payload: Any) -> None:
    raise Fail("no such luck") from ValueError("not at all")


@app.task
def give_up(payload: Any) -> None:
    raise Cancel("not needed")


@app.task
def plain(payload: Any) -> int:
    return 5
