"""Handlers that kill their own process at a chosen instant of their job's transaction.

Nothing of the worker is replaced for it. psycopg runs each statement as a generator that it gives to the `wait` of the
connection, and a connection can have one of its own: it sees the statement that ends the job, and then the COMMIT.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncConnection

from tests.faults.ledger import PLACE, append

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import GeneratorType

INSTANTS: Final = (
    "written",  # the handler has written, and has not returned
    "ended",  # the job's end is written too, and not committed
    "committing",  # COMMIT is sent, and not answered
    "committed",  # COMMIT is answered, and nobody has been told
    "any",  # within a few milliseconds of the write
)
_SOON = 0.003
"""Seconds after the write in which the transaction usually ends."""


def time_to_die(seed: int, attempt: int) -> str | None:
    """Return when the process is to die in this attempt, the same each time that it is asked; None: it is to live."""
    chance = random.Random(f"{seed} {attempt}")
    return chance.choice(INSTANTS) if chance.random() < 0.5 else None


def die(job: int, when: str, connection: Any) -> None:
    """Have the process die at this instant of the job's transaction, on this connection."""
    end = functools.partial(_end, job, when)
    if when == "written":
        end()
    elif when == "any":
        threading.Timer(random.uniform(0, _SOON), end).start()
    elif isinstance(connection, AsyncConnection):
        connection.wait = _watched_async(connection.wait, when, end)  # type: ignore[method-assign]
    else:
        connection.wait = _watched(connection.wait, when, end)


def _watched(wait: Callable[..., Any], when: str, end: Callable[[], None]) -> Callable[..., Any]:
    def watched(statement: GeneratorType[Any, Any, Any], *args: Any, **options: Any) -> Any:
        if _is_sent(statement, when):
            end()
        answer = wait(statement, *args, **options)
        if _is_answered(statement, when):
            end()
        return answer

    return watched


def _watched_async(wait: Callable[..., Any], when: str, end: Callable[[], None]) -> Callable[..., Any]:
    async def watched(statement: GeneratorType[Any, Any, Any], *args: Any, **options: Any) -> Any:
        if _is_sent(statement, when):
            end()
        answer = await wait(statement, *args, **options)
        if _is_answered(statement, when):
            end()
        return answer

    return watched


def _is_sent(statement: GeneratorType[Any, Any, Any], when: str) -> bool:
    if when == "committing" and _is_commit(statement):
        next(statement)  # sends it, and stops where the answer has to be waited for
        return True
    return False


def _is_answered(statement: GeneratorType[Any, Any, Any], when: str) -> bool:
    return when == ("committed" if _is_commit(statement) else "ended")


def _is_commit(statement: GeneratorType[Any, Any, Any]) -> bool:
    return statement.gi_code.co_name == "_exit_gen"  # of `connection.transaction()`


def _end(job: int, when: str) -> None:
    append(os.environ[PLACE], what="kill", pids=[os.getpid()], of=job, when=when)
    os.kill(os.getpid(), signal.SIGKILL)
