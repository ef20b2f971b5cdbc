"""The application that the tests' workers run."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import sentry_sdk

from pgtasks import App, JobContext, task
from pgtasks.plugins import Cancel, hookimpl


class Decisions:
    @hookimpl
    def retry_decision(self, exception: BaseException) -> Any:
        return Cancel("no longer wanted") if isinstance(exception, LookupError) else None


app = App(plugins=[Decisions()])

if "OWN_DSN" in os.environ:
    sentry_sdk.init(os.environ["OWN_DSN"], environment="of the application")
    assert threading.active_count() == 1


@task
def broken(payload: Any) -> None:
    detail = payload["secret"]
    raise ValueError(f"broken after {len(detail)} characters")


@task
async def broken_async(payload: Any) -> None:
    raise ValueError("broken in a coroutine")


@task
def always(payload: Any) -> None:
    raise ValueError("again")


@task
def unwanted(payload: Any) -> None:
    raise LookupError("this is expected")


_both = threading.Barrier(2)


@task
def crumbs(payload: Any) -> None:
    """Two of these run at the same time."""
    sentry_sdk.add_breadcrumb(message=f"crumb {payload['name']}")
    sentry_sdk.set_tag("mine", payload["name"])
    _both.wait(60)
    raise ValueError(payload["name"])


_arrived: list[asyncio.Event] = []


@task
async def crumbs_async(payload: Any) -> None:
    sentry_sdk.add_breadcrumb(message=f"crumb {payload['name']}")
    sentry_sdk.set_tag("mine", payload["name"])
    other = asyncio.Event()
    _arrived.append(other)
    if len(_arrived) == 2:
        for waiting in _arrived:
            waiting.set()
    await other.wait()
    raise ValueError(payload["name"])


@task
def leaves_a_crumb(payload: Any) -> None:
    sentry_sdk.add_breadcrumb(message="left behind")


@task(timeout=0.2)
def overdue(payload: Any, ctx: JobContext) -> None:
    ctx.abort.wait()
    ctx.abort.raise_if_set()


@task
def reads_payload(payload: Any) -> None:
    """Never called with what Python cannot read."""


@task
def dies(payload: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def fine(payload: Any) -> None:
    pass
