"""What the SQL functions do, as a small specification in Python: a state, and a function for each of theirs.

Every function takes the state, its arguments and `now`, the time of the transaction; it changes the state and returns
the rows and the notifications that the call is to give. Jobs are immutable, so a row that was returned stays as it was.

It is written from the contract. Where that says nothing, "Silent:" marks what the functions do, so that a change shows.
Left out: a second session, and queues whose row is gone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

Value = TypeVar("Value")

STALE = timedelta(hours=4)
SMALLINT = range(-(2**15), 2**15)
MODES = ("replace", "preserve_run_at", "unsafe_dedupe")


class Lock(NamedTuple):
    """Who holds a job or a queue. Of one claim, both have the same lock."""

    at: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written: no precision is lost by looking at it."""

    text: str


@dataclass(frozen=True, slots=True)
class Spec:
    """What is asked for when a job is added; None where nothing is said."""

    identifier: str
    payload: str | None = None
    queue_name: str | None = None
    run_at: datetime | None = None
    max_attempts: int | None = None
    job_key: str | None = None
    priority: int | None = None
    flags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `_private_jobs`, with names in place of the ids of its task and queue."""

    id: int
    task: str
    queue: str | None
    payload: object
    priority: int
    run_at: datetime
    max_attempts: int
    flags: frozenset[str]
    key: str | None
    created_at: datetime
    updated_at: datetime | None  # None: at some time during the call that changed it last
    attempts: int = 0
    last_error: str | None = None
    lock: Lock | None = None
    revision: int = 0
    lost_key: bool = False  # to a successor or to remove_job, since it was claimed
    administered: bool = False  # changed by one of the functions for administrators since it was claimed

    @property
    def available(self) -> bool:
        return self.lock is None and self.attempts < self.max_attempts

    @property
    def order(self) -> tuple[int, datetime, int]:
        return (self.priority, self.run_at, self.id)


@dataclass(slots=True)
class State:
    """What is in the database."""

    jobs: dict[int, Job] = field(default_factory=dict)
    queues: dict[str, Lock | None] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)

    def copy(self) -> State:
        return State(dict(self.jobs), dict(self.queues), set(self.tasks), set(self.retired))

    def with_key(self, key: str | None) -> Job | None:
        return next((job for job in self.jobs.values() if key is not None and job.key == key), None)


class Answer(NamedTuple):
    """The rows that a call returns, and the counts of the notifications that it sends."""

    rows: list[Job]
    counts: list[int]


class Ended(NamedTuple):
    """What became of the jobs that were finished, by id, and the counts of the notifications."""

    states: dict[int, str]
    counts: list[int]


class End(NamedTuple):
    """How a claim ended."""

    id: int
    locked_at: datetime
    outcome: str
    last_error: str | None
    delay: float | None
    payload: str | None
    had_key: bool | None


class RefusedError(Exception):
    """The call fails with this SQLSTATE and changes nothing."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def parse(text: str) -> object:
    """Return a JSON text as a value that is equal only if the text says exactly the same: pairs, digits, escapes."""
    return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=tuple)


# Adding


def add_job(state: State, spec: Spec, mode: str | None, now: datetime, new_ids: Iterator[int]) -> Answer:
    if spec.job_key is not None and mode is not None and mode not in MODES:
        raise RefusedError("GWBKM")
    deduplicated = mode == "unsafe_dedupe" and state.with_key(spec.job_key) is not None
    job_id = _put(state, spec, mode or "replace", now, new_ids)
    return Answer([state.jobs[job_id]], [] if deduplicated else [1])


def add_jobs(
    state: State, specs: Sequence[Spec], preserve_run_at: bool, now: datetime, new_ids: Iterator[int]
) -> Answer:
    """As if they were added one after the other.

    Silent: a job that several specs name comes where the first of them names it; no specs, no notification.
    """
    mode = "preserve_run_at" if preserve_run_at else "replace"
    put = dict.fromkeys(_put(state, spec, mode, now, new_ids) for spec in specs)
    return Answer([state.jobs[job_id] for job_id in put], [len(put)] if put else [])


def _put(state: State, spec: Spec, mode: str, now: datetime, new_ids: Iterator[int]) -> int:
    """Add one job, or do to the one that has its key what the mode says, and return its id."""
    max_attempts, priority = _or(spec.max_attempts, 25), _or(spec.priority, 0)
    if max_attempts not in SMALLINT or priority not in SMALLINT:
        raise RefusedError("22003")
    if len(spec.identifier) > 128 or len(spec.queue_name or "") > 128:
        raise RefusedError("23514")
    state.tasks.add(spec.identifier)
    if spec.queue_name is not None:
        state.queues.setdefault(spec.queue_name, None)

    old = state.with_key(spec.job_key)
    if old and mode == "unsafe_dedupe":
        state.jobs[old.id] = replace(old, revision=old.revision + 1, updated_at=now)
        return old.id

    if max_attempts < 1 or (spec.job_key is not None and not 1 <= len(spec.job_key) <= 512):
        raise RefusedError("23514")
    if old and (old.lock or old.attempts >= old.max_attempts):
        _take_key(state, old)
        old = None

    new = Job(
        id=old.id if old else next(new_ids),
        task=spec.identifier,
        queue=spec.queue_name,
        payload=parse(_or(spec.payload, "{}")),
        priority=priority,
        run_at=_or(spec.run_at, now),
        max_attempts=max_attempts,
        flags=frozenset(spec.flags or ()),
        key=spec.job_key,
        created_at=old.created_at if old else now,
        updated_at=now,
        revision=old.revision + 1 if old else 0,
    )
    if old and isinstance(old.payload, list) and isinstance(new.payload, list):
        new = replace(new, payload=old.payload + new.payload)
    if old and mode == "preserve_run_at" and old.attempts == 0:
        new = replace(new, run_at=old.run_at)
    state.jobs[new.id] = new
    return new.id


def _take_key(state: State, job: Job) -> None:
    """It will not run again, and if a worker has it, what comes of it does not matter."""
    state.jobs[job.id] = replace(job, key=None, attempts=job.max_attempts, updated_at=None, lost_key=True)


# Removing, and the functions for administrators. Silent: a queue whose stale job they delete keeps its lock until the
# sweep, and a stale job that they change keeps its own, so that its worker can still finish it.


def remove_job(state: State, key: str | None, now: datetime) -> Answer:
    job = state.with_key(key)
    if job is None:
        return Answer([], [])
    if _is_idle(job, now):
        del state.jobs[job.id]
        return Answer([job], [-1])
    _take_key(state, job)
    return Answer([state.jobs[job.id]], [])


def complete_jobs(state: State, ids: Collection[int], now: datetime) -> Answer:
    return Answer([state.jobs.pop(job.id) for job in _idle(state, ids, now)], [])


def permanently_fail_jobs(state: State, ids: Collection[int], message: str | None, now: datetime) -> Answer:
    return _administer(
        state,
        {
            job.id: replace(job, attempts=job.max_attempts, last_error=_or(message, "Manually marked as failed"))
            for job in _idle(state, ids, now)
        },
        now,
    )


def reschedule_jobs(
    state: State,
    ids: Collection[int],
    run_at: datetime | None,
    priority: int | None,
    attempts: int | None,
    max_attempts: int | None,
    now: datetime,
) -> Answer:
    """Silent: no notification, also where a job becomes runnable."""
    return _administer(
        state,
        {
            job.id: replace(
                job,
                run_at=_or(run_at, job.run_at),
                priority=_or(priority, job.priority),
                attempts=_or(attempts, job.attempts),
                max_attempts=_or(max_attempts, job.max_attempts),
            )
            for job in _idle(state, ids, now)
        },
        now,
    )


def force_unlock_workers(state: State, workers: Collection[str]) -> None:
    """Silent: `updated_at` stays, attempts stay counted, and there is no notification."""
    state.jobs |= {job.id: replace(job, lock=None) for job in _held_by(state, workers)}
    state.queues |= {name: None for name, lock in state.queues.items() if lock and lock.worker in workers}


def _idle(state: State, ids: Collection[int], now: datetime) -> list[Job]:
    return [job for job in state.jobs.values() if job.id in ids and _is_idle(job, now)]


def _is_idle(job: Job, now: datetime) -> bool:
    return job.lock is None or job.lock.at < now - STALE


def _administer(state: State, changed: dict[int, Job], now: datetime) -> Answer:
    state.jobs |= {job.id: replace(job, updated_at=now, administered=True) for job in changed.values()}
    return Answer([state.jobs[job_id] for job_id in changed], [])


# Workers


def eligible(
    state: State,
    tasks: Collection[str],
    forbidden: Collection[str],
    now: datetime,
    forbidden_queues: Collection[str] = (),
) -> list[Job]:
    """Return what could be claimed, in claim order: of each queue that is free and allowed, its first job only."""
    ready = [
        job
        for job in sorted(state.jobs.values(), key=lambda job: job.order)
        if job.available
        and job.run_at <= now
        and job.task in tasks
        and job.flags.isdisjoint(forbidden)
        and (job.queue is None or (state.queues[job.queue] is None and job.queue not in forbidden_queues))
    ]
    heads = {job.queue: job.id for job in reversed(ready)}
    return [job for job in ready if job.queue is None or heads[job.queue] == job.id]


def claim_jobs(
    state: State,
    worker: str,
    tasks: Collection[str],
    forbidden: Collection[str],
    max_jobs: int,
    free_slots: int,
    now: datetime,
    forbidden_queues: Collection[str] = (),
) -> Answer:
    """Silent: what is on its last attempt is passed over behind `free_slots`; a retired worker is refused."""
    if worker in state.retired and max_jobs > 0:
        raise RefusedError("GWEVI")
    lock = Lock(now, worker)
    claimed = [
        replace(job, attempts=job.attempts + 1, lock=lock, updated_at=now, lost_key=False, administered=False)
        for position, job in enumerate(eligible(state, tasks, forbidden, now, forbidden_queues)[: max(max_jobs, 0)])
        if position < free_slots or job.attempts + 1 < job.max_attempts
    ]
    state.jobs |= {job.id: job for job in claimed}
    state.queues |= {job.queue: lock for job in claimed if job.queue is not None}
    return Answer(claimed, [])


def finish_jobs(state: State, worker: str, ends: Sequence[End], now: datetime) -> Ended:
    """Silent: jobs that were given back are notified of, once for all."""
    states = {}
    for end in ends:
        job, lock = state.jobs.get(end.id), Lock(end.locked_at, worker)
        if job is None or job.lock != lock:
            continue
        if end.outcome == "success":
            states[job.id] = "deleted"
            del state.jobs[job.id]
        else:
            states[job.id], state.jobs[job.id] = _unfinished(job, end, now)
        if job.queue is not None and state.queues[job.queue] == lock:
            state.queues[job.queue] = None
    returned = sum(ended == "returned" for ended in states.values())
    return Ended(states, [returned] if returned else [])


def advance_queues(
    state: State,
    worker: str,
    tasks: Collection[str],
    forbidden: Collection[str],
    ends: Sequence[tuple[int, datetime]],
    now: datetime,
) -> tuple[list[int], Answer]:
    """Returns the ids of the jobs that were deleted, and the jobs that were taken, in any order.

    Silent: the next job stays if it is on its last attempt.
    """
    if worker in state.retired:
        raise RefusedError("GWEVI")
    ended, queues = [], []
    for job_id, locked_at in ends:
        job, lock = state.jobs.get(job_id), Lock(locked_at, worker)
        if job is None or job.lock != lock:
            continue
        del state.jobs[job_id]
        ended.append(job_id)
        if job.queue is not None and state.queues[job.queue] == lock:
            state.queues[job.queue] = None
            queues.append(job.queue)
    first = {job.queue: job for job in eligible(state, tasks, forbidden, now)}
    taken = [
        first[queue] for queue in queues if queue in first and first[queue].attempts + 1 < first[queue].max_attempts
    ]
    lock = Lock(now, worker)
    taken = [
        replace(job, attempts=job.attempts + 1, lock=lock, updated_at=now, lost_key=False, administered=False)
        for job in taken
    ]
    state.jobs |= {job.id: job for job in taken}
    state.queues |= {job.queue: lock for job in taken if job.queue is not None}
    return ended, Answer(taken, [])


def _unfinished(job: Job, end: End, now: datetime) -> tuple[str, Job]:
    # Silent: an administrator may give a superseded job attempts again; then it is an ordinary job. Where the worker
    # does not know whether the job had a key, one that an administrator changed under it counts as superseded.
    superseded = job.key is None and job.attempts >= job.max_attempts
    superseded &= job.lost_key or (job.administered and end.had_key is None)
    after = replace(job, lock=None, updated_at=now)
    if end.outcome in ("snooze", "return") and not superseded:
        after = replace(after, attempts=max(job.attempts - 1, 0))
    if end.outcome == "fail":
        after = replace(after, attempts=job.max_attempts)
    if end.outcome in ("retry", "fail"):
        after = replace(after, last_error=end.last_error)
    if end.payload is not None:
        after = replace(after, payload=parse(end.payload))
    if end.outcome == "retry" and end.delay is None:
        after = replace(after, run_at=max(now, job.run_at) + _seconds(math.exp(min(job.attempts, 10))))
    elif end.outcome in ("retry", "snooze"):
        # Silent: no delay is none, and the longest is 317 years.
        after = replace(after, run_at=now + _seconds(min(max(_or(end.delay, 0.0), 0.0), 1e10)))
    if superseded:
        return "superseded", after
    if end.outcome in ("snooze", "return"):
        return f"{end.outcome}{'ed' if end.outcome == 'return' else 'd'}", after
    return "failed" if after.attempts >= after.max_attempts else "retrying", after


def release_worker(state: State, worker: str, keep: Collection[int], retire: bool, now: datetime) -> Ended:
    """Give back what the worker holds, except what it is to keep, and unlock queues of which it has no job any more."""
    if retire:
        state.retired.add(worker)
    held = [job for job in _held_by(state, [worker]) if job.id not in keep]
    ends = [End(job.id, job.lock.at, "return", None, None, None, None) for job in held if job.lock]
    ended = finish_jobs(state, worker, ends, now)
    busy = {job.queue for job in _held_by(state, [worker])}
    state.queues |= {
        name: None for name, lock in state.queues.items() if lock and lock.worker == worker and name not in busy
    }
    return ended


def sweep_stale_locks(state: State, now: datetime) -> tuple[int, int, list[int]]:
    """Return how many jobs and queues were unlocked. Silent: the jobs are notified of."""
    jobs = [job for job in state.jobs.values() if job.lock and job.lock.at < now - STALE]
    queues = [name for name, lock in state.queues.items() if lock and lock.at < now - STALE]
    state.jobs |= {job.id: replace(job, lock=None, run_at=max(job.run_at, now), updated_at=now) for job in jobs}
    state.queues |= dict.fromkeys(queues)
    return len(jobs), len(queues), [len(jobs)] if jobs else []


def _held_by(state: State, workers: Collection[str]) -> list[Job]:
    return [job for job in state.jobs.values() if job.lock and job.lock.worker in workers]


# Time


def pass_time(state: State, time: timedelta) -> None:
    """Move everything that there is into the past, which is the same."""
    for job in state.jobs.values():
        state.jobs[job.id] = replace(
            job,
            run_at=job.run_at - time,
            created_at=job.created_at - time,
            updated_at=job.updated_at and job.updated_at - time,
            lock=job.lock and job.lock._replace(at=job.lock.at - time),
        )
    state.queues = {name: lock and lock._replace(at=lock.at - time) for name, lock in state.queues.items()}


def _or(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _seconds(seconds: float) -> timedelta:
    """Return an interval as PostgreSQL makes it, rounded to the nearest microsecond."""
    return timedelta(microseconds=round(seconds * 1e6))
