"""`@task(transactional=True)`: the job's end commits with its effects, or neither does.

The handler gets a connection in an open transaction. When it returns, the job is deleted in that same transaction,
guarded by its claim, and the transaction commits: whoever sees the effects no longer sees the job. If the handler
raises, the process dies or the claim was lost, all of it is rolled back, and the job fails or runs again as any other.

Only what becomes of a commit whose answer is lost, or not waited for, cannot be known here. The job is then failed like
others, which changes nothing if the commit was done: the claim is gone with the job.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from pgtasks.database import run, run_async
from pgtasks.database.errors import is_connection_lost
from pgtasks.job import SUCCESS
from pgtasks.queue.finish import finish_in_transaction, keep_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgtasks.app import App
    from pgtasks.job import Job, Outcome


class LostClaimError(Exception):
    """A job was taken away from the worker that ran it, so its transaction was rolled back."""


@contextmanager
def job_transaction(app: App, job: Job) -> Iterator[psycopg.Connection[Any]]:
    """Lend a connection in a transaction that ends the job when the block ends well.

    Raises:
        LostClaimError: somebody else has the job, and nothing was done.
    """
    with app.connection() as connection, connection.transaction():
        with undone_by_us_alone():
            yield connection
        _expect_held(job, run(connection, finish_in_transaction(app.statements, job)))


@asynccontextmanager
async def async_job_transaction(app: App, job: Job) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Do what `job_transaction` does, for `async def` handlers."""
    async with app.async_connection() as connection, connection.transaction():
        with undone_by_us_alone():
            yield connection
        _expect_held(job, await run_async(connection, finish_in_transaction(app.statements, job)))


def keep_in_transaction(app: App, connection: psycopg.Connection[Any], job: Job, result: str, seconds: float) -> None:
    """Store a job's result, as JSON, in its own transaction."""
    run(connection, keep_result(app.statements, job, result, seconds))


async def keep_in_async_transaction(
    app: App, connection: psycopg.AsyncConnection[Any], job: Job, result: str, seconds: float
) -> None:
    """Do what `keep_in_transaction` does."""
    await run_async(connection, keep_result(app.statements, job, result, seconds))


def leaves_unanswered(error: BaseException) -> bool:
    """Whether an error that has come out of a job's transaction may be that of a commit which was done."""
    if issubclass(type(error), asyncio.CancelledError):  # which asks nothing of the error itself, whatever it is
        return True
    return issubclass(type(error), psycopg.Error) and is_connection_lost(error)


class _Undo(psycopg.Rollback):
    """What undoes a job's transaction for us, and goes no further."""


@contextmanager
def undone_by_us_alone() -> Iterator[None]:
    """Let no handler undo the transaction of its job in silence: the job would be taken for ended, and is not.

    Raises:
        RuntimeError: it has raised `psycopg.Rollback`.
    """
    try:
        yield
    except _Undo:
        raise
    except psycopg.Rollback as error:
        raise RuntimeError(
            "the handler has raised psycopg.Rollback, which does not say what becomes of the job; raise Retry, Snooze, "
            "Cancel or Fail, each of which undoes its transaction"
        ) from error


def undo_unless_success(outcome: Outcome) -> None:
    """Have the transaction of the block undone, without an error, unless the job has succeeded."""
    if outcome is not SUCCESS:
        raise _Undo


def _expect_held(job: Job, held: bool) -> None:
    if not held:
        raise LostClaimError(f"job {job.id} was taken away from this worker while it ran, so its transaction is undone")
