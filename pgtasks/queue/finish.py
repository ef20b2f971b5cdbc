"""Telling the database how claims ended. Each end is guarded by its claim: job, worker and time of locking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.database import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgtasks.database import Row
    from pgtasks.job import Claim, Job, Outcome
    from pgtasks.sql import Statements


def finish_jobs(sql: Statements, worker_id: str, ends: Sequence[tuple[Claim, Outcome]]) -> Operation[dict[int, str]]:
    """Write how claims by `worker_id` ended.

    Returns:
        By id, what became of each job whose claim was still held: `deleted`, `retrying`, `failed`, `snoozed`,
        `returned`, or `superseded` where a keyed add or a removal had ended it meanwhile; `busy` where somebody's open
        transaction has locked the job's row, so that nothing was done and the end is to be written again later. A job
        that is not in the result was lost to somebody else, and nothing was changed.
    """
    parameters = (
        worker_id,
        [claim.job_id for claim, _ in ends],
        [claim.locked_at for claim, _ in ends],
        [outcome.kind.value for _, outcome in ends],
        [outcome.error for _, outcome in ends],
        [outcome.delay for _, outcome in ends],
        [outcome.payload_json for _, outcome in ends],
        [claim.keyed for claim, _ in ends],
    )
    return Operation("finish_jobs", sql.get("finish_jobs"), parameters, dict)


def finish_in_transaction(sql: Statements, job: Job) -> Operation[bool]:
    """Write a job's success in the caller's transaction; returns whether its claim was still held."""
    claim = job.claim
    parameters = (job.locked_by, claim.job_id, claim.locked_at, claim.keyed)
    return Operation("finish_in_transaction", sql.get("finish_in_transaction"), parameters, bool)


def release_worker(sql: Statements, worker_id: str, keep: Sequence[int] = ()) -> Operation[int]:
    """Give back all jobs that `worker_id` holds but those whose ids are in `keep`; returns how many."""
    return Operation("release_worker", sql.get("release_worker"), (worker_id, list(keep)), _count)


def sweep_stale_locks(sql: Statements) -> Operation[dict[str, int]]:
    """Clear locks that are older than four hours; returns how many jobs and queues were unlocked or put back."""
    return Operation("sweep_stale_locks", sql.get("sweep_stale_locks"), (), _sweep_counts)


def _count(rows: list[Row]) -> int:
    return int(rows[0][0])


def _sweep_counts(rows: list[Row]) -> dict[str, int]:
    return dict(zip(("jobs", "queues", "restored_queues"), rows[0], strict=True))
