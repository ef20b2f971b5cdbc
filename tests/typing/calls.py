# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers say of tasks and of the jobs that are added for them. Nothing here is ever run.

A line that is wrong says so by `# type: ignore[…]`. Both checkers also complain of such a remark where nothing is
wrong. So each of these lines is an error for mypy and for pyright, and no other line is one for either.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, assert_type

import psycopg
from pydantic import BaseModel

from pgtasks import App, Backoff, BatchResult, Job, JobContext, JobSpec, Registry, Retry, task

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]


@dataclass
class Email:
    to: str
    subject: str = "hello"


class Order(BaseModel):
    number: int
    placed: dt.datetime


class Note(TypedDict):
    text: str
    tags: NotRequired[list[str]]


later = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
email, order = Email("ada@example.com"), Order(number=1, placed=later)


# One parameter beside the context gets the whole payload.


@task
def send(payload: Email) -> None: ...


@task
def send_and_tell(payload: Email, ctx: JobContext) -> str:
    return payload.to


@task(queue="mail", max_attempts=5, flags=["smtp"], retry=Backoff(first=2), expected=OSError)
def send_in_order(payload: Email, ctx: JobContext) -> str:
    return payload.to


@task
def context_first(ctx: JobContext, payload: Email) -> int:
    return ctx.attempt


@task
def context_by_name(payload: Email, *, ctx: JobContext) -> int:
    return ctx.attempt


@task
def context_perhaps(payload: Email, ctx: JobContext | None = None) -> None: ...


@task
async def fetch(payload: Order) -> int:
    return payload.number


@task(timeout=10)
async def fetch_with_context(payload: Order, ctx: JobContext) -> int:
    return payload.number


@task
def remember(payload: Note) -> None: ...


@task
def import_rows(payload: dict[str, int]) -> None: ...


@task
def import_objects(payload: dict[str, object], ctx: JobContext) -> int:
    return ctx.attempt


@task
def notify(payload: list[Email]) -> BatchResult:
    return BatchResult()


@task
def count(payload: int) -> int:
    return payload


@task
def perhaps(payload: Email | None) -> None: ...


def whole_payloads() -> None:
    assert_type(send.defer(email), Job[None])
    assert_type(send_and_tell.defer(email), Job[str])
    assert_type(send_in_order.defer(email), Job[str])
    assert_type(context_first.defer(email), Job[int])
    assert_type(context_by_name.defer(email), Job[int])
    assert_type(context_perhaps.defer(email), Job[None])
    assert_type(fetch.defer(order), Job[int])
    assert_type(fetch_with_context.defer(order), Job[int])
    assert_type(remember.defer({"text": "a", "tags": ["b"]}), Job[None])
    assert_type(import_rows.defer({"a": 1}), Job[None])
    assert_type(import_objects.defer({"a": order, "b": [1]}), Job[int])
    assert_type(notify.defer([email, email]), Job[BatchResult])
    assert_type(count.defer(5), Job[int])
    assert_type(perhaps.defer(None), Job[None])
    send.defer(5)  # type: ignore[arg-type]
    send.defer()  # type: ignore[call-arg]
    send.defer(None)  # type: ignore[arg-type]
    send.defer({"to": "ada@example.com"})  # type: ignore[arg-type]
    send.defer(payload=email)  # type: ignore[call-arg]
    send.defer([email])  # type: ignore[arg-type]
    send_and_tell.defer(order)  # type: ignore[arg-type]
    send_in_order.defer(order)  # type: ignore[arg-type]
    context_first.defer(order)  # type: ignore[arg-type]
    context_by_name.defer(order)  # type: ignore[arg-type]
    context_perhaps.defer(order)  # type: ignore[arg-type]
    fetch.defer(email)  # type: ignore[call-overload]
    remember.defer({"txt": "a"})  # type: ignore[typeddict-item,typeddict-unknown-key]
    remember.defer({"text": "a", "tags": "b"})  # type: ignore[typeddict-item]
    import_rows.defer({"a": "b"})  # type: ignore[dict-item]
    import_objects.defer(email)  # type: ignore[arg-type]
    notify.defer(email)  # type: ignore[arg-type]
    notify.defer([order])  # type: ignore[list-item]
    count.defer("5")  # type: ignore[arg-type]
    count.defer(5, 6)  # type: ignore[call-arg,arg-type]
    send.args(email)  # type: ignore[misc]


# Several get a key each; so do those that can be given by name alone.


@task
def greet(name: str, times: int = 1) -> str:
    return name * times


@task(priority=1)
def greet_by_name(*, name: str, times: int = 1) -> str:
    return name * times


@task
def greet_alone(*, name: str) -> None: ...


@task
def greet_all(name: str, **further: int) -> None: ...


@task
async def greet_with_context(ctx: JobContext, name: str, times: int = 1) -> str:
    return name * times


@task
def greet_by_name_with_context(ctx: JobContext, *, name: str) -> str:
    return name


@task
def anything_first(thing: Any, *, times: int) -> None: ...


@task
def anything_of_two(thing: Any, times: int) -> None: ...


@task
def greet_before_context(name: str, times: int, ctx: JobContext) -> None: ...


@task
def greet_around_context(name: str, ctx: JobContext, times: int = 1) -> None: ...


@task
def nothing() -> None: ...


@task
def context_alone(ctx: JobContext) -> int:
    return ctx.attempt


def keys() -> None:
    assert_type(greet.defer({"name": "Ada"}), Job[str])
    assert_type(greet.args("Ada"), dict[str, Any])
    assert_type(greet.defer(greet.args("Ada", times=2)), Job[str])
    assert_type(greet_by_name.defer(greet_by_name.args(name="Ada")), Job[str])
    assert_type(greet_alone.defer(greet_alone.args(name="Ada")), Job[None])
    assert_type(greet_all.defer(greet_all.args("Ada", Grace=2)), Job[None])
    assert_type(greet_with_context.defer(greet_with_context.args("Ada")), Job[str])
    assert_type(greet_by_name_with_context.defer(greet_by_name_with_context.args(name="Ada")), Job[str])
    anything_first.defer(anything_first.args(b"", times=2))
    anything_of_two.defer(anything_of_two.args(b"", times=2))
    assert_type(greet_before_context.defer(greet_before_context.args("Ada", times=2)), Job[None])
    assert_type(greet_around_context.defer(greet_around_context.args("Ada", times=2)), Job[None])
    assert_type(nothing.defer(), Job[None])
    assert_type(context_alone.defer(), Job[int])
    greet.defer(5)  # type: ignore[call-overload]
    greet.defer("Ada", times=2)  # type: ignore[call-overload]
    greet.defer(["Ada"])  # type: ignore[call-overload]
    greet_by_name.defer(name="Ada")  # type: ignore[call-overload]
    greet_with_context.defer("Ada")  # type: ignore[call-overload]
    greet_before_context.defer("Ada")  # type: ignore[call-overload]
    greet_around_context.defer("Ada")  # type: ignore[call-overload]
    greet.args(5)  # type: ignore[arg-type]
    greet.args()  # type: ignore[call-arg]
    greet.args("Ada", title="Countess")  # type: ignore[call-arg]
    greet_by_name.args("Ada")  # type: ignore[call-arg]
    greet_alone.args(name=5)  # type: ignore[arg-type]
    greet_all.args("Ada", Grace="2")  # type: ignore[arg-type]
    greet_with_context.args("Ada", "2")  # type: ignore[arg-type]
    greet_by_name_with_context.args(name=5)  # type: ignore[arg-type]
    nothing.defer(5)  # type: ignore[call-overload]


# Anything goes where nothing is said; mypy then also lets pass what a handler with `dict[str, Any]` cannot take.


@task
def import_anything(payload: dict[str, Any]) -> None: ...


@task
def anything(payload: Any, ctx: JobContext) -> None: ...


@task
def any_object(payload: object) -> None: ...


@task
def wrapper(*args: Any, **kwargs: Any) -> None: ...


def anything_goes() -> None:
    import_anything.defer({"a": order, "b": [1]})
    anything.defer(5)
    anything.defer()
    any_object.defer([email])
    wrapper.defer(email)
    wrapper.defer()


# Options


def options(connection: Connection, async_connection: AsyncConnection) -> None:
    send.defer(email, job_key="k", job_key_mode="preserve_run_at", queue=None, priority=1, max_attempts=3)
    send.defer(email, delay=5, flags=["smtp"], notify=False, connection=connection)
    send.defer(email, delay=dt.timedelta(minutes=5))
    send.defer(email, run_at=later)
    greet.defer({"name": "Ada"}, run_at=later)
    send.defer(email, run_at="tomorrow")  # type: ignore[arg-type]
    send.defer(email, delay="5 minutes")  # type: ignore[arg-type]
    send.defer(email, job_key_mode="keep")  # type: ignore[arg-type]
    send.defer(email, prioritty=1)  # type: ignore[call-arg]
    send.defer(email, flags=[1])  # type: ignore[list-item]
    send.defer(email, connection=async_connection)  # type: ignore[arg-type]
    greet.defer({"name": "Ada"}, run_at="tomorrow")  # type: ignore[call-overload]


async def from_asyncio(connection: Connection, async_connection: AsyncConnection) -> None:
    assert_type(await send.defer_async(email), Job[None])
    assert_type(await fetch.defer_async(order, connection=async_connection), Job[int])
    assert_type(await greet.defer_async({"name": "Ada"}), Job[str])
    assert_type(await greet_with_context.defer_async({"name": "Ada"}), Job[str])
    await send.defer_async(order)  # type: ignore[arg-type]
    await fetch.defer_async(email)  # type: ignore[call-overload]
    await greet.defer_async(5)  # type: ignore[call-overload]
    await send.defer_async(email, connection=connection)  # type: ignore[arg-type]


# Specs, and many jobs at once


def orders() -> Iterator[Order]:
    yield order


async def orders_async() -> AsyncIterator[Order]:
    yield order


def many() -> None:
    assert_type(send.spec(email, job_key="k"), JobSpec)
    assert_type(greet.spec({"name": "Ada"}, delay=5), JobSpec)
    assert_type(greet.spec(), JobSpec)
    assert_type(fetch.defer_many(orders()), Sequence[Job])
    assert_type(fetch.defer_many([order, fetch.spec(order, job_key="k")]), Sequence[Job])
    assert_type(fetch.defer_many([order], returning=False), int)
    assert_type(greet.defer_many([{"name": "Ada"}, greet.args("Ada"), greet.spec()]), Sequence[Job])
    assert_type(greet.defer_many(({"name": "Ada"} for _ in range(5)), returning=False), int)
    remember.defer_many([{"text": "a"}, {"text": "b", "tags": []}])
    send.spec(5)  # type: ignore[arg-type]
    send.spec()  # type: ignore[call-arg]
    send.spec(email, notify=False)  # type: ignore[call-arg]
    greet.spec(5)  # type: ignore[call-overload]
    fetch.defer_many(order)  # type: ignore[arg-type]
    fetch.defer_many([email])  # type: ignore[list-item]
    fetch.defer_many(["a"], returning=False)  # type: ignore[call-overload]
    greet.defer_many(["Ada"])  # type: ignore[list-item]
    fetch.defer_many([order], job_key="k")  # type: ignore[call-overload]


async def many_async() -> None:
    assert_type(await fetch.defer_many_async(orders_async()), Sequence[Job])
    assert_type(await fetch.defer_many_async(orders(), returning=False), int)
    assert_type(await greet.defer_many_async([{"name": "Ada"}]), Sequence[Job])
    await send.defer_many_async(orders_async())  # type: ignore[arg-type]
    await send.defer_many_async([order], returning=False)  # type: ignore[call-overload]


# The context


def follow_ups(ctx: JobContext, connection: Connection) -> None:
    assert_type(ctx.defer(send, email), Job[None])
    assert_type(ctx.defer(fetch, order, delay=5), Job[int])
    assert_type(ctx.defer(greet, {"name": "Ada"}), Job[str])
    assert_type(ctx.defer(nothing), Job[None])
    ctx.defer(anything, 5)
    ctx.defer(send, order)  # type: ignore[arg-type,misc]
    ctx.defer(send)  # type: ignore[arg-type]
    ctx.defer(greet, 5)  # type: ignore[arg-type,misc]
    ctx.defer(send, email, prioritty=1)  # type: ignore[call-overload]
    ctx.defer(print, email)  # type: ignore[call-overload]


async def follow_ups_async(ctx: JobContext) -> None:
    assert_type(await ctx.defer_async(fetch, order), Job[int])
    assert_type(await ctx.defer_async(greet_with_context, greet_with_context.args("Ada")), Job[str])
    await ctx.defer_async(fetch, email)  # type: ignore[misc]


# A task is its function, too.


async def calls(ctx: JobContext) -> None:
    assert_type(send_and_tell(email, ctx), str)
    assert_type(send_and_tell(payload=email, ctx=ctx), str)
    assert_type(await fetch(order), int)
    assert_type(greet("Ada", times=2), str)
    assert_type(await greet_with_context(ctx, "Ada"), str)
    assert_type(greet_before_context("Ada", 2, ctx=ctx), None)
    send_and_tell(email)  # type: ignore[call-arg]
    send(order)  # type: ignore[arg-type]
    greet(5)  # type: ignore[arg-type]
    await greet_with_context("Ada")  # type: ignore[arg-type,call-arg]


# What the decorator takes


def delays(attempt: int, error: BaseException) -> Retry | None:
    return Retry(delay=attempt)


app = App(registry=Registry())


@app.task(name="of_app", retry=[1, dt.timedelta(seconds=5)], retry_on=(OSError, ValueError), invalid_payload="retry")
def of_app(payload: Email) -> None: ...


@app.task(retry=delays, no_retry_on=[TypeError], upgrade=lambda payload: payload)
def ruled(payload: Email) -> None: ...


assert_type(of_app.defer(email), Job[None])
of_app.defer(order)  # type: ignore[arg-type]
app.task(5)  # type: ignore[call-overload]
app.task(retry="never")  # type: ignore[arg-type]
app.task(max_attempt=5)  # type: ignore[call-overload]
app.task(invalid_payload="drop")  # type: ignore[call-overload]
app.task(retry_on=5)  # type: ignore[call-overload]


# Cron


@app.task.cron("@hourly", id="hourly", payload={"name": "Ada"}, backfill="2d", timezone="Europe/Berlin")
@app.task.cron("@daily", payload={"name": "Bo"}, backfill=dt.timedelta(days=1))
@app.task(queue="greetings")
def stacked(*, name: str) -> int:
    return len(name)


@app.task.cron("@daily", payload=email, max_attempts=3, job_key="k", job_key_mode="preserve_run_at")
def bare(payload: Email, ctx: JobContext) -> str:
    return payload.to


assert_type(stacked.defer({"name": "Ada"}), Job[int])
assert_type(stacked.args(name="Ada"), dict[str, Any])
stacked.args(nam="Ada")  # type: ignore[call-arg]
assert_type(bare.defer(email), Job[str])
assert_type(bare.cron("@weekly", id="weekly", payload=email).defer(email), Job[str])
bare.defer(order)  # type: ignore[arg-type]
app.cron("@daily", bare, id="of_app", payload=email)
app.cron("@daily", "elsewhere", flags=["slow"])
app.cron("@daily")  # type: ignore[call-arg]
app.task.cron("@daily", backfil="2d")  # type: ignore[call-arg]
app.task.cron("@daily", job_key="k", job_key_mode="unsafe_dedupe")  # type: ignore[arg-type]
