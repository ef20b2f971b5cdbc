"""What has to hold after any fault, told from the ledger, the logs and what is left in the database.

Kinds of faults, and what is due to the jobs that were running then in the processes concerned:

    kill     the process alone is gone: each is charged with an attempt
    lose     its whole host is gone: none is charged, each counts as interrupted
    stop     stopped for so long that others took over: the same
    orphan   its supervisor is gone, so it gave them back: none is charged
    abort    the worker was told not to wait for them: none is charged
    cut      it could not reach the database for so long that others took over: none is charged
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.faults.arena import Arena
    from tests.faults.ledger import Fault, Run, Story

NEVER = (
    "job_unwritable",
    "jobs_left_locked",
    "jobs_not_charged",
    "no_thread",
    "process_stuck",
    "processes_not_reaped",
    "record_unprintable",
    "statement_refused",
    "supervisor_failed",
    "worker_failed",
)
"""Events that no fault may lead to."""

FAILED = ("failed", "broken")
"""Ends of runs that are charged, unless something was done to the process: then they may be its doing."""

LEFT = """
    select id, attempts, max_attempts, last_error from graphile_worker.jobs
"""
INTERRUPTIONS = "select job_id, count(*) from interrupted group by job_id"


class Left(NamedTuple):
    """A job that is still there at the end."""

    id: int
    attempts: int
    max_attempts: int
    last_error: str | None


@dataclass
class Outcome:
    """What came out, for tests that look at more."""

    story: Story
    left: dict[int, Left]
    interruptions: dict[int, int]
    repeated: int
    """How many runs had ended when their process met with a fault, and were run again: nobody had been told."""


@dataclass
class _Evidence:
    arena: Arena
    story: Story
    by_job: dict[int, list[Run]]
    left: dict[int, Left]
    faults: dict[int, Fault]
    """By process, the first that it met with."""
    charged: set[tuple[int, int]]
    """Job and process, where a job was charged with the end of a process."""
    confirmed: set[tuple[int, str, int]]
    """Job, worker and attempt, where the database has accepted a success."""


def verify(arena: Arena) -> Outcome:
    """Check everything; jobs have ended, and so have all hosts."""
    evidence = _gather(arena)
    logged = [record for host in arena.hosts for record in host.records() if record.get("event") in NEVER]
    assert not logged, f"what no fault may lead to: {logged}"
    assert not (locked := arena.locked()), f"still locked: {locked}"
    _every_job_has_ended(evidence)
    _queues_were_serial(evidence)
    repeated = _none_ran_twice_without_need(evidence)
    _attempts_are_as_designed(evidence)
    _bookings_are_exact(evidence)
    interruptions = _interruptions_are_counted(evidence)
    return Outcome(evidence.story, evidence.left, interruptions, repeated)


def _gather(arena: Arena) -> _Evidence:
    story = arena.ledger.story()
    records = [record for host in arena.hosts for record in host.records()]
    by_job: dict[int, list[Run]] = {}
    for run in story.runs:
        by_job.setdefault(run.job, []).append(run)
    faults: dict[int, Fault] = {}
    for fault in story.faults:
        for pid in fault.pids:
            faults.setdefault(pid, fault)
    return _Evidence(
        arena,
        story,
        by_job,
        {row[0]: Left(*row) for row in arena.rows(LEFT)},
        faults,
        {(record["job_id"], by) for record in records if (by := _charged_with(record))},
        {(r["job_id"], r["worker"], r["attempt"]) for r in records if r.get("event") == "job_succeeded"},
    )


def _charged_with(record: dict[str, Any]) -> int | None:
    """Return the process whose end a job is charged with, by a record of the log."""
    if record.get("event") not in ("job_retrying", "job_failed"):
        return None
    found = re.match(r"WorkerProcessDied: the process that ran this job \(pid (\d+)\)", record["error"])
    return int(found[1]) if found else None


def _every_job_has_ended(evidence: _Evidence) -> None:
    succeeded = {run.job for run in evidence.story.runs if run.end == "succeeded"}
    booked = {row[0] for row in evidence.arena.rows("select job_id from booked")}
    lost = evidence.arena.jobs - succeeded - booked - evidence.left.keys()
    # A job that was added again by its key before it began is another one's payload now, with the same id.
    assert not lost, f"neither done nor there any more: {_tell(evidence, lost)}"
    unfinished = {job for job, row in evidence.left.items() if row.attempts < row.max_attempts}
    assert not unfinished, _tell(evidence, unfinished)
    silent = {job for job, row in evidence.left.items() if row.last_error is None} - evidence.arena.touched
    assert not silent, f"failed without an error that says why: {_tell(evidence, silent)}"


def _queues_were_serial(evidence: _Evidence) -> None:
    overlapping = {run.job for pair in evidence.story.overlaps for run in pair}
    assert not overlapping, f"two of a queue ran at once: {_tell(evidence, overlapping)}"


def _none_ran_twice_without_need(evidence: _Evidence) -> int:
    """Check that a job runs again only if its run failed, or was cut short, or its end was not yet written."""
    repeated = 0
    for job, runs in evidence.by_job.items():
        for run, _ in pairwise(runs):
            if run.end in FAILED and run.pid not in evidence.faults:
                continue
            # A job that failed and was added again by its key has the same attempt once more.
            told = run.end not in FAILED and (job, run.worker, run.attempt) in evidence.confirmed
            assert not told, f"ran again although the database knew of its success: {_tell(evidence, {job})}"
            excused = run.end == "failed" or run.pid in evidence.faults
            assert excused, f"ran again for no reason: {_tell(evidence, {job})}"
            repeated += run.end == "succeeded"
    return repeated


def _attempts_are_as_designed(evidence: _Evidence) -> None:
    kills = [fault for fault in evidence.story.faults if fault.what == "kill"]
    killed = {pid for fault in kills for pid in fault.pids}
    wrongly = {job for job, pid in evidence.charged if pid not in killed}
    assert not wrongly, f"charged although no process of theirs was killed: {_tell(evidence, wrongly)}"
    for fault in kills:
        for run in fault.open:
            # The fault is entered just before it is done: a run that ended in between is no longer of interest.
            if run.end is None:
                assert (run.job, run.pid) in evidence.charged, f"not charged: {_tell(evidence, {run.job})}"
        for pid in fault.pids:
            of_process = [job for job, process in evidence.charged if process == pid]
            assert len(of_process) <= evidence.arena.concurrency, "more jobs were charged than could run"
    for job, runs in evidence.by_job.items():
        if job not in evidence.arena.touched:
            _check_attempts(evidence, job, runs)


def _check_attempts(evidence: _Evidence, job: int, runs: list[Run]) -> None:
    """Check that a job's attempts are the number of times that it failed or had its process killed."""
    row = evidence.left.get(job)
    earlier = list(runs)
    if row is not None:
        attempts = row.attempts
    else:
        last = [run for run in runs if run.end == "succeeded"][-1]
        attempts = last.attempt - 1
        earlier.remove(last)
    killed = {pid for charged, pid in evidence.charged if charged == job}
    charged_at = {run.pid: run.attempt for run in runs if run.pid in killed}
    failed = {(run.pid, run.attempt) for run in earlier if run.end in FAILED}
    # The last run in a process that was killed may be what the job was charged for. And a run that failed in a process
    # that was hurt may not have been written, and then goes back as it was.
    sure = {(pid, attempt) for pid, attempt in failed if attempt != charged_at.get(pid)}
    least = len(killed) + sum(pid not in evidence.faults for pid, _ in sure)
    most = len(killed) + len(failed)
    assert least <= attempts <= most, f"{attempts} attempts, expected {least} to {most}: {_tell(evidence, {job})}"


def _bookings_are_exact(evidence: _Evidence) -> None:
    twice = {row[0] for row in evidence.arena.rows("select job_id from booked group by job_id having count(*) > 1")}
    assert not twice, f"booked twice: {twice}"
    booked = {row[0] for row in evidence.arena.rows("select job_id from booked")}
    assert not booked & evidence.left.keys(), "booked, and still there"


def _interruptions_are_counted(evidence: _Evidence) -> dict[int, int]:
    counted = {row[0]: row[1] for row in evidence.arena.rows(INTERRUPTIONS)}
    lost = [record for host in evidence.arena.hosts for record in host.records("worker_lost")]
    told = sum(record["returned"] for record in lost)
    # A host that takes over may be lost itself before it writes its log.
    total, cut_short = sum(counted.values()), any(fault.what == "lose" for fault in evidence.story.faults)
    assert told == total or (cut_short and told < total), f"{total} interruptions, {told} in the logs"
    for fault in evidence.story.faults:
        if fault.what in ("lose", "stop"):
            for run in fault.open:
                if run.end is None:
                    assert counted.get(run.job), f"not counted as interrupted: {_tell(evidence, {run.job})}"
    return counted


def _tell(evidence: _Evidence, jobs: set[int]) -> str:
    """Return all that is known of some of these jobs."""
    told = []
    for job in sorted(jobs)[:5]:
        told.append(f"job {job}, left: {evidence.left.get(job)}, runs:")
        for run in evidence.by_job.get(job, []):
            fault = evidence.faults.get(run.pid)
            then = f"; {fault.what} {fault.at - run.at:+.3f} s after it began" if fault else ""
            told.append(f"    attempt {run.attempt} in {run.pid} ({run.worker}) at {run.at:.3f}: {run.end}{then}")
        told += [f"    {record}" for host in evidence.arena.hosts for record in host.records(job_id=job)]
    return f"{len(jobs)} jobs\n" + "\n".join(told)
