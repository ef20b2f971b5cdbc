"""Why a psycopg connection takes no statement now. Nothing is sent to find out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from psycopg.pq import PipelineStatus, TransactionStatus

from pgtasks.connections.refusing import described
from pgtasks.errors import JobOptionError

if TYPE_CHECKING:
    import psycopg

BUSY_SECONDS = 10.0
"""How long a statement that another thread or task runs on the connection may take. What this code itself has begun
there, a COPY or a `stream`, would keep it waiting for ever."""


def wait_until_ready(raw: psycopg.Connection[Any], given: object) -> None:
    """Wait while `raw`, the connection of what was given, is busy.

    Raises:
        JobOptionError: it will not be ready.
    """
    if _is_busy(raw, given):
        if not raw.lock.acquire(timeout=BUSY_SECONDS):
            raise _busy(given)
        raw.lock.release()
        _is_busy(raw, given)


async def wait_until_ready_async(raw: psycopg.AsyncConnection[Any], given: object) -> None:
    """Do what `wait_until_ready` does."""
    if _is_busy(raw, given):
        try:
            await asyncio.wait_for(raw.lock.acquire(), BUSY_SECONDS)
        except TimeoutError:
            raise _busy(given) from None
        raw.lock.release()
        _is_busy(raw, given)


def _is_busy(raw: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], given: object) -> bool:
    """Whether a statement runs there now; raise if there can be none."""
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
    return status == TransactionStatus.ACTIVE and raw.pgconn.pipeline_status == PipelineStatus.OFF


def _busy(given: object) -> JobOptionError:
    return JobOptionError(
        f"the connection of the given {described(given)} is in the middle of another statement: end the COPY or the "
        "stream that is open there first, or give another connection"
    )
