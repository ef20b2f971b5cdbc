"""What asks the database several things in turn, written once for blocking and for asyncio code."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from pgtasks.app import App, current_app

if TYPE_CHECKING:
    from pgtasks.database import Operation

T = TypeVar("T")
Steps = Generator["Operation[Any]", Any, T]
"""Gives operations, gets their results, and returns its own."""


def take(steps: Steps[T], app: App | None, connection: Any) -> T:
    """Take all steps, on a connection or on those of the App, by default the one of `pgtasks.task`."""
    app = app or current_app()
    reply: Any = None
    try:
        while True:
            reply = app.run(steps.send(reply), connection)
    except StopIteration as end:
        result: T = end.value
        return result


async def take_async(steps: Steps[T], app: App | None, connection: Any) -> T:
    """Do what `take` does, from asyncio code."""
    app = app or current_app()
    reply: Any = None
    while True:
        try:
            operation = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        reply = await app.run_async(operation, connection)
