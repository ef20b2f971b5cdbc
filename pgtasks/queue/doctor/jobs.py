"""Jobs that nobody runs, and workers that are gone. Each look is at a bounded number of jobs, along indexes."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pgtasks.database import Operation
from pgtasks.queue.admin import COUNT_LIMIT, LOOK_AT
from pgtasks.queue.arguments import MAX_LIMIT
from pgtasks.queue.doctor.finding import Finding, Thresholds, many, more_of, shell, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgtasks.database import Row
    from pgtasks.sql import Statements

KINDS: Final = 1_000
"""How many pairs of a task and a priority are looked at for jobs that are due."""
HELD: Final = 100_000
"""How many locked jobs are looked at for tasks that somebody runs: more than a large fleet holds."""
GRACE: Final = 2.0
"""How many times `stale_after` a worker may be silent: others need some time to notice and to take its jobs over."""


class _Waiting(NamedTuple):
    """A row of the statement about jobs that are due."""

    task: str
    seconds: float
    """For how long the oldest has been due."""
    jobs: int
    """Counted up to `COUNT_LIMIT`."""
    tasks: int
    """How many tasks have jobs that are due."""
    running: bool
    """Whether another job of the task is held by a worker."""
    alive: bool
    """Whether a worker of pgtasks is alive."""
    others: bool
    """Whether a worker that nobody knows, such as Graphile Worker's, holds jobs."""


def backlog(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look for jobs that are due and that nobody runs."""
    alive_within = max(thresholds.stale_after, 1.0)
    parameters = (alive_within, HELD, KINDS, thresholds.shown, COUNT_LIMIT)
    decode = partial(_backlog, thresholds)
    return Operation("doctor_backlog", sql.get("doctor_backlog"), parameters, decode)


def stale_workers(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look for workers that are gone and whose jobs nobody has taken over."""
    parameters = (GRACE * thresholds.stale_after, thresholds.shown, COUNT_LIMIT)
    decode = partial(_stale, thresholds, sql.schema)
    return Operation("doctor_stale_workers", sql.get("doctor_stale_workers"), parameters, decode)


def old_locks(sql: Statements, thresholds: Thresholds) -> Operation[list[Finding]]:
    """Look for jobs and queues that have been locked for more than four hours."""
    parameters = (MAX_LIMIT, LOOK_AT, thresholds.shown)
    decode = partial(_old_locks, thresholds, sql.schema)
    return Operation("doctor_old_locks", sql.get("doctor_old_locks"), parameters, decode)


def failed_jobs(sql: Statements) -> Operation[list[Finding]]:
    """Count the jobs that have failed permanently."""
    return Operation("doctor_failed_jobs", sql.get("doctor_failed_jobs"), (MAX_LIMIT,), partial(_failed, sql.schema))


def _backlog(thresholds: Thresholds, rows: list[Row]) -> list[Finding]:
    waiting = [_Waiting(*row) for row in rows]
    if not waiting:
        return []
    if not (waiting[0].alive or waiting[0].others):
        return [_no_worker(waiting)]
    return [*_late(thresholds, waiting)]


def _no_worker(waiting: list[_Waiting]) -> Finding:
    named = ", ".join(f"{many(task.jobs, 'job', COUNT_LIMIT)} of {task.task!r}" for task in waiting)
    return Finding(
        name="no_worker",
        level="problem",
        what=f"no worker is alive, and jobs are due: {named}{more_of(waiting[0].tasks, len(waiting), 'task')}; the "
        f"oldest has been for {span(waiting[0].seconds)}",
        why="nobody runs them; only workers of pgtasks, and others that hold a job, can be seen here",
        cure="start a worker with the modules that have these tasks, or see in its log why it does not stay alive",
        commands=("pgtasks worker MODULE",),
        facts={"seconds": waiting[0].seconds, "tasks": {task.task: task.jobs for task in waiting}},
    )


def _late(thresholds: Thresholds, waiting: list[_Waiting]) -> Iterator[Finding]:
    for task in waiting:
        if task.seconds < thresholds.older_than:
            break  # the others wait for even less
        due = f"{many(task.jobs, 'job', COUNT_LIMIT)} of task {task.task!r} {'is' if task.jobs == 1 else 'are'} due"
        facts: dict[str, Any] = {"task": task.task, "jobs": task.jobs, "seconds": task.seconds}
        if task.running:
            yield Finding(
                name="backlog",
                level="warning",
                what=f"{due}, the oldest for {span(task.seconds)}, while workers run others of it",
                why="jobs come faster than they are done, or wait for their turn in a queue",
                cure="more processes or hosts, more concurrency, or a lower priority number for what must not wait",
                facts=facts,
            )
        else:
            yield Finding(
                name="untaken_jobs",
                level="warning",
                what=f"{due}, the oldest for {span(task.seconds)}, and none of it runs though workers are alive",
                why="most likely no worker that is alive has this task; or a flag is forbidden, a queue is locked, or "
                "all are busy with what goes first",
                cure="look for task_unknown in the workers' logs, start a worker with the module that has the task, or "
                "correct a misspelt name",
                facts=facts,
            )


def _stale(thresholds: Thresholds, schema: str, rows: list[Row]) -> list[Finding]:
    found = []
    for position, (worker, host, pid, seconds, jobs, total, alive) in enumerate(rows, start=1):
        rest = more_of(total, thresholds.shown, "worker") if position == len(rows) else ""
        holds = f"holds {many(jobs, 'job', COUNT_LIMIT)}" if jobs else "holds no job"
        where = f" (process {pid} on {host!r})" if host else ""
        if alive:
            why = (
                "others are alive and do not take it over: their heartbeats fail, or their stale_after is a longer one"
            )
            cure = "see heartbeats_lost in their logs; if it is dead for sure, take what it holds from it"
        else:
            why = "no other worker is there to take it over" + (
                ", so these jobs wait" if jobs else "; nothing waits for it"
            )
            cure = "start a worker, which does that by itself" + ("" if jobs else ", or leave it")
        found.append(
            Finding(
                name="stale_worker",
                level="warning" if jobs or alive else "note",
                what=f"worker {worker!r}{where} was last heard of {span(seconds)} ago and {holds}{rest}",
                why=why,
                cure=cure,
                commands=(_unlock(worker, schema),) if jobs and alive else (),
                facts={"worker": worker, "host": host, "pid": pid, "seconds": seconds, "jobs": jobs, "alive": alive},
            )
        )
    return found


def _old_locks(thresholds: Thresholds, schema: str, rows: list[Row]) -> list[Finding]:
    found = []
    for position, (worker, jobs, queues, seconds, total) in enumerate(rows, start=1):
        rest = more_of(total, thresholds.shown, "worker") if position == len(rows) else ""
        held = " and ".join(many(number, noun) for number, noun in ((jobs, "job"), (queues, "queue")) if number)
        found.append(
            Finding(
                name="old_lock",
                level="warning",
                what=f"{held} {'has' if jobs + queues == 1 else 'have'} been locked for more than four hours by worker "
                f"{worker!r}, the oldest for {span(seconds)}{rest}",
                why="such a lock counts no more, but has to be cleared, as workers of pgtasks do within ten minutes",
                cure="start a worker, or wait for its next look; or take it away now, if that worker is dead",
                commands=(_unlock(worker, schema),) if worker else (),
                facts={"worker": worker, "jobs": jobs, "queues": queues, "seconds": seconds},
            )
        )
    return found


def _failed(schema: str, rows: list[Row]) -> list[Finding]:
    jobs = rows[0][0]
    if not jobs:
        return []
    return [
        Finding(
            name="failed_jobs",
            level="note",
            what=f"{many(jobs, 'job', MAX_LIMIT)} {'has' if jobs == 1 else 'have'} failed permanently",
            why="they stay until somebody acts on them",
            cure="see why, and retry or complete them",
            commands=(shell("jobs list --state failed", schema),),
            facts={"jobs": jobs, "limit": MAX_LIMIT},
        )
    ]


def _unlock(worker: str, schema: str) -> str:
    return shell(f"workers unlock {shlex.quote(worker)}", schema)
