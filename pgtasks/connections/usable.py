"""Whether a psycopg connection can take a statement now. Nothing is sent to find out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from psycopg.pq import PipelineStatus, TransactionStatus

from pgtasks.connections.refusing import described
from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    import psycopg

_READY = (TransactionStatus.IDLE, TransactionStatus.INTRANS)
BUSY_SECONDS = 10.0
"""How long a statement that another thread or task runs on the connection may take. What this code itself has begun
there, a COPY or a `stream`, would keep it waiting for ever."""


def check_usable(raw: psycopg.Connection[Any], given: object) -> None:
    """Raise `JobOptionError` unless `raw`, the connection of what was given, can be used; wait while it is busy."""
    if raw.pgconn.transaction_status not in _READY and _is_busy(raw, given):
        if not raw.lock.acquire(timeout=BUSY_SECONDS):
            raise _busy(given)
        raw.lock.release()
        if raw.pgconn.transaction_status not in _READY:
            _is_busy(raw, given)


async def check_usable_async(raw: psycopg.AsyncConnection[Any], given: object) -> None:
    """Do what `check_usable` does."""
    if raw.pgconn.transaction_status not in _READY and _is_busy(raw, given):
        try:
            await asyncio.wait_for(raw.lock.acquire(), BUSY_SECONDS)
        except TimeoutError:
            raise _busy(given) from None
        raw.lock.release()
        if raw.pgconn.transaction_status not in _READY:
            _is_busy(raw, given)


def _is_busy(raw: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], given: object) -> bool:
    """Whether it is to be waited for; raise if that would be in vain."""
    status = raw.pgconn.transaction_status
    if raw.closed or status == TransactionStatus.UNKNOWN:
        raise JobOptionError(
            f"the connection of the given {described(given)} is closed: open another one, or take one from the pool"
        )
    if status == TransactionStatus.INERROR:
        raise JobOptionError(
            f"the transaction of the given {described(given)} has failed, and takes no jobs any more: roll it back "
            "first, or have each part that may fail in a savepoint"
        )
    if raw.pgconn.pipeline_status == PipelineStatus.ABORTED:
        raise JobOptionError(
            f"a statement in the pipeline of the given {described(given)} has failed: leave the pipeline, and roll back"
        )
    return raw.pgconn.pipeline_status == PipelineStatus.OFF


def _busy(given: object) -> JobOptionError:
    return JobOptionError(
        f"the connection of the given {described(given)} is in the middle of another statement: end the COPY or the "
        "stream that is open there first, or give another connection"
    )
