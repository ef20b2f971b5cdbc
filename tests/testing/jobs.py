"""Tasks for the workers of these tests."""

from __future__ import annotations

import time

from pgtasks import task


@task
def greet(payload: dict[str, str]) -> None:
    print("hello", payload["name"])


@task(max_attempts=1)
def fail() -> None:
    raise ValueError("on purpose")


@task
def stay() -> None:
    time.sleep(600)
