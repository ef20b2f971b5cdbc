"""Telling the database how claims ended. Each end is guarded by its claim: job, worker and time of locking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pgtasks.database import Operation
from pgtasks.database.adapt import UNREAD_TIMES
from pgtasks.job import OutcomeKind
from pgtasks.queue.rows import job_from_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgtasks.database import Row
    from pgtasks.job import Claim, Completion, Job, Outcome
    from pgtasks.sql import Statements


_CANCELS_KEPT = 3600.0
"""Seconds for which it is kept that a job was cancelled for whose end somebody waits."""
NOTHING_KEPT: Mapping[str, float] = {}
"""For applications none of whose tasks stores results."""


def finish_batch(
    sql: Statements, worker_id: str, completions: Sequence[Completion], keep: Mapping[str, float] = NOTHING_KEPT
) -> Operation[dict[int, str]]:
    """Write how jobs ended that `worker_id` ran: the quick way, which deletes at once what has succeeded.

    `keep` has the seconds for which results are kept, of the tasks that store them.

    Returns:
        What `finish_jobs` does, and `left` for successes that could not be dealt with so; that function tells why.
    """
    if keep and any(completion.job.task in keep for completion in completions):
        return finish_and_keep(sql, worker_id, completions, keep)
    done = [completion.job for completion in completions if completion.outcome.kind is OutcomeKind.SUCCESS]
    successes = _array(job.id for job in done), _array(job.locked_micros for job in done)
    deleted = dict.fromkeys([job.id for job in done], "deleted")

    def decode(rows: list[Row]) -> dict[int, str]:
        return deleted | dict(rows) if rows else deleted

    if len(done) == len(completions):
        return Operation("finish_successes", sql.get("finish_successes"), (worker_id, *successes), decode)
    others = [completion for completion in completions if completion.outcome.kind is not OutcomeKind.SUCCESS]
    if any(completion.outcome.kind is OutcomeKind.CANCEL for completion in others):
        return finish_and_keep(sql, worker_id, completions, keep)
    ends = _ends([(completion.job.claim, completion.outcome) for completion in others])
    return Operation("finish_jobs", sql.get("finish_jobs"), (worker_id, *successes, *ends), decode)


def finish_and_keep(
    sql: Statements,
    worker_id: str,
    completions: Sequence[Completion],
    keep: Mapping[str, float],
    *,
    quickly: bool = True,
) -> Operation[dict[int, str]]:
    """Do what `finish_batch` does, or `finish_jobs` unless `quickly`, and keep how some jobs have ended.

    These are the jobs of the tasks in `keep`; those that somebody has cancelled; and those that cancel themselves while
    somebody waits for them, who could not tell them from such that have succeeded.
    """
    done: list[Completion] = []
    others: list[Completion] = []
    for completion in completions:
        simple = completion.outcome.kind is OutcomeKind.SUCCESS and completion.job.task not in keep
        (done if quickly and simple else others).append(completion)
    parameters = (
        worker_id,
        _array(completion.job.id for completion in done),
        _array(completion.job.locked_micros for completion in done),
        *_ends([(completion.job.claim, completion.outcome) for completion in others]),
        [completion.job.task for completion in others],
        [completion.result_json for completion in others],
        [_kept_for(completion, keep) for completion in others],
        [completion.job.task not in keep for completion in others],
    )
    deleted = dict.fromkeys([completion.job.id for completion in done], "deleted")
    return Operation("finish_and_keep", sql.get("finish_and_keep"), parameters, lambda rows: deleted | dict(rows))


class Advanced(NamedTuple):
    """What a call of `advance_queues` did."""

    ended: set[int]
    """Ids of the jobs that were deleted. Of the others `finish_jobs` tells what is the matter."""
    jobs: list[Job]
    """The jobs that the worker holds in their place."""


def advance_queues(
    sql: Statements,
    worker_id: str,
    tasks: Sequence[str],
    forbidden_flags: Sequence[str],
    completions: Sequence[Completion],
) -> Operation[Advanced]:
    """Write that jobs of named queues have succeeded, and lock the next runnable job of each queue for the same worker.

    No job is taken on its last attempt, since it might have to wait for a slot. Not to be repeated if its answer was
    lost: `release_worker` gives back what it has locked then.
    """
    jobs = [completion.job for completion in completions]
    ended = _array(job.id for job in jobs), _array(job.locked_micros for job in jobs)
    parameters = (worker_id, list(tasks), list(forbidden_flags), *ended)
    return Operation("advance_queues", sql.get("advance_queues"), parameters, _advanced, UNREAD_TIMES)


def finish_jobs(sql: Statements, worker_id: str, ends: Sequence[tuple[Claim, Outcome]]) -> Operation[dict[int, str]]:
    """Write how claims by `worker_id` ended; that one is cancelled is kept for whoever waits for its job.

    Returns:
        By id, what became of each job whose claim was still held: `deleted`, `retrying`, `failed`, `snoozed`,
        `returned`, or `superseded` where a keyed add or a removal had ended it meanwhile; `busy` where somebody's open
        transaction has locked the job's row, so that nothing was done and the end is to be written again later. A job
        that is not in the result was lost to somebody else, and nothing was changed.
    """
    parameters = (worker_id, _array(()), _array(()), *_ends(ends))
    cancels = [outcome.kind is OutcomeKind.CANCEL for _, outcome in ends]
    if not any(cancels):
        return Operation("finish_jobs", sql.get("finish_jobs"), parameters, dict)
    nothing = [None] * len(ends)
    kept = nothing, nothing, [_CANCELS_KEPT if cancel else None for cancel in cancels], [True] * len(ends)
    return Operation("finish_and_keep", sql.get("finish_and_keep"), (*parameters, *kept), dict)


def finish_in_transaction(sql: Statements, job: Job) -> Operation[bool]:
    """Write a job's success in the caller's transaction; returns whether its claim was still held."""
    claim = job.claim
    parameters = (job.locked_by, claim.job_id, claim.locked_at, claim.keyed)
    return Operation("finish_in_transaction", sql.get("finish_in_transaction"), parameters, bool)


def keep_result(sql: Statements, job: Job, result_json: str, seconds: float) -> Operation[None]:
    """Keep for so many seconds what the handler of a job has returned, in the transaction that ends the job."""
    parameters = (job.id, job.task, result_json, seconds)
    return Operation("keep_result", sql.get("keep_result"), parameters, _none)


def sweep_results(sql: Statements, limit: int) -> Operation[int]:
    """Delete what has expired: `limit` results at most, whose number is returned, and what nobody waits for."""
    return Operation("sweep_results", sql.get("sweep_results"), (limit,), _count)


@dataclass(frozen=True, slots=True)
class Released:
    """What a call of `release_worker` or `recover_worker` did."""

    returned: int
    """How many jobs it gave back."""
    failed: int
    """How many had been interrupted too often, and have failed for good."""
    busy: tuple[int, ...]
    """Ids of jobs that it could not, since somebody's open transaction has locked their rows; 0 stands for a queue."""
    claiming: bool
    """Whether it did nothing, since a claim of the worker is still being executed."""

    @property
    def complete(self) -> bool:
        """Whether the call need not be repeated."""
        return not (self.busy or self.claiming)


def release_worker(
    sql: Statements, worker_id: str, keep: Sequence[int] = (), *, retire: bool = False
) -> Operation[Released]:
    """Give back all jobs that `worker_id` holds but those whose ids are in `keep`.

    With `retire`, for a worker that has ended, it can claim nothing any more: its last statement may still be on its
    way.
    """
    return Operation("release_worker", sql.get("release_worker"), (worker_id, list(keep), retire), _released)


def recover_worker(sql: Statements, worker_id: str, max_interruptions: int, stale_after: float) -> Operation[Released]:
    """Retire a worker whose heartbeats have not come for `stale_after` seconds, and give back all that it holds.

    Nobody knows which of the jobs were running, so none is charged with an attempt; but one that this has happened to
    more than `max_interruptions` times has failed for good. Nothing is done if the heartbeats are back.
    """
    parameters = (worker_id, max_interruptions, stale_after)
    return Operation("recover_worker", sql.get("recover_worker"), parameters, _released)


def sweep_stale_locks(sql: Statements) -> Operation[dict[str, int]]:
    """Clear locks that are older than four hours; returns how many jobs and queues were unlocked or put back."""
    return Operation("sweep_stale_locks", sql.get("sweep_stale_locks"), (), _sweep_counts)


def _released(rows: list[Row]) -> Released:
    busy = tuple(job_id or 0 for job_id, state in rows if state == "busy")
    states = [state for _, state in rows]
    failed, claiming = states.count("failed"), states.count("claiming")
    return Released(len(rows) - len(busy) - failed - claiming, failed, busy, claiming > 0)


def _sweep_counts(rows: list[Row]) -> dict[str, int]:
    return dict(zip(("jobs", "queues", "restored_queues"), rows[0], strict=True))


def _none(_rows: list[Row]) -> None:
    return None


def _count(rows: list[Row]) -> int:
    return int(rows[0][0])


def _advanced(rows: list[Row]) -> Advanced:
    ended = {row[16] for row in rows if row[17]}
    return Advanced(ended, [job_from_row(row, row[14], row[15]) for row in rows if row[0] is not None])


def _kept_for(completion: Completion, keep: Mapping[str, float]) -> float | None:
    return keep.get(completion.job.task, _CANCELS_KEPT if completion.outcome.kind is OutcomeKind.CANCEL else None)


def _ends(ends: Sequence[tuple[Claim, Outcome]]) -> tuple[object, ...]:
    return (
        [claim.job_id for claim, _ in ends],
        [claim.locked_at for claim, _ in ends],
        [outcome.kind.value for _, outcome in ends],
        [outcome.error for _, outcome in ends],
        [outcome.delay for _, outcome in ends],
        [outcome.payload_json for _, outcome in ends],
        [claim.keyed for claim, _ in ends],
        [outcome.run_at for _, outcome in ends],
    )


def _array(numbers: Iterable[int]) -> str:
    """Return numbers as the text of an array, which is made much faster than the driver makes one of a list."""
    return f"{{{','.join(map(str, numbers))}}}"
