"""The end of asyncio tasks, also of those to which a cancellation does not get through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_AGAIN_SECONDS = 1.0


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel `tasks` until all have ended, however they end.

    Once is not enough. Before Python 3.12 `asyncio.wait_for`, by which psycopg waits for the server, drops a
    cancellation that comes together with what it waits for, and its caller goes on as if nothing had been said. A
    task that is still cancelling a statement is not harmed: at the second cancellation psycopg closes the connection.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)
