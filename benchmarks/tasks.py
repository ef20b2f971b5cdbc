"""The tasks that the benchmarks run."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from functools import cache
from typing import Any

from pgtasks import task

MILLISECOND = 0.001


@task
def noop() -> None:
    """Do nothing, in a thread."""


@task
def welcome(payload: dict[str, Any]) -> None:
    """Do nothing, whatever one is told."""


@task
async def noop_async() -> None:
    """Do nothing, on the loop."""


@task
def sleep_1ms() -> None:
    """Wait for a millisecond, as for a fast service."""
    time.sleep(MILLISECOND)


@task
def sleep_10ms() -> None:
    """Wait for ten milliseconds, as for a service."""
    time.sleep(10 * MILLISECOND)


@task
async def sleep_10ms_async() -> None:
    """Wait for ten milliseconds, on the loop."""
    await asyncio.sleep(10 * MILLISECOND)


@task
def short(payload: dict[str, Any]) -> None:
    """Report how long the job waited, and take a millisecond."""
    _report_wait(payload)
    time.sleep(MILLISECOND)


@task
def long() -> None:
    """Take a second."""
    time.sleep(1)


@task
def compute_1ms() -> None:
    """Compute for a millisecond of this thread's own time."""
    end = time.thread_time() + MILLISECOND
    while time.thread_time() < end:
        pass


@task(max_attempts=1)
def fail() -> None:
    """Fail for good."""
    raise ValueError("as it is meant to")


@task
def timed(payload: dict[str, Any]) -> None:
    """Report how long the job waited from before its adding to this line."""
    _report_wait(payload)


def _report_wait(payload: dict[str, Any]) -> None:
    now = time.monotonic_ns()
    _socket().send(str(now - int(payload["added"])).encode())


@cache
def _socket() -> socket.socket:
    """Leads to who measures: a datagram costs a job less than a row would."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.connect(("127.0.0.1", int(os.environ["BENCH_PORT"])))
    return found
