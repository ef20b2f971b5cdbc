"""What a claim costs, by what else is in the table.

Claims are made as a worker process makes them (see `pgtasks.worker.marks`): the first looks everywhere, and where that
takes long, those after it look near the marks that earlier ones have left, until it is time to look everywhere again.
Each commits, and its jobs are ended before the next one, so the table moves on.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from benchmarks.results import TROUBLE, MeasurementError, Result, Role, from_values
from benchmarks.workers import JOBS
from pgtasks.database import run
from pgtasks.job import SUCCESS
from pgtasks.queue.claim import claim_jobs
from pgtasks.queue.finish import finish_jobs
from pgtasks.sql import DEFAULT_SCHEMA, Statements
from pgtasks.worker.marks import Marks

if TYPE_CHECKING:
    from benchmarks.suite import Suite

BATCH = 24
CLAIMS = 100
WARM_UP = 10
"""Claims that are not counted, with marks of their own, so that the first that counts looks everywhere."""
READY = 10_000
"""Jobs that can run, behind those that cannot. Not less at a smaller scale: the claims need them."""
QUEUES = "graphile_worker._private_job_queues"
BUSY = "busy"
"""Name of the queue that another worker has taken, or what its name begins with where there are several."""
WORKER = "bench"
STATEMENTS = Statements(DEFAULT_SCHEMA)

GROUP = f"a claim of {BATCH} jobs"
MEAN = "mean of all"
"""The time of all claims, divided among as many as would have brought these jobs had each brought so many."""
MEDIAN = "median"
FULL = "mean of those that look everywhere"
FEW = "how many brought fewer"
CLEAN = "10k ready jobs, nothing else"


@dataclass(frozen=True, slots=True)
class Crowd:
    """Jobs that are alike: SQL expressions of `n`, which counts them from 1."""

    rows: int
    task: str = "noop"
    priority: str = "0"
    run_at: str = "now()"
    attempts: str = "0"
    queue: str = "null"
    """Name of the queue."""
    flags: str = "null"


@dataclass(frozen=True, slots=True)
class Scene:
    """A table, and who claims from it."""

    title: str
    crowds: tuple[Crowd, ...]
    forbidden: tuple[str, ...] = ()
    role: Role = Role.OURS


class Look(NamedTuple):
    """One claim."""

    milliseconds: float
    full: bool
    """Whether it looked everywhere."""
    jobs: int
    """How many it brought: one near the marks may bring fewer than were asked for, though there are more elsewhere."""


MILLION = 1_000_000
AHEAD = "-10"
FUTURE = "now() + interval '30 days'"
SCENES = (
    Scene(CLEAN, (Crowd(READY),), role=Role.BASELINE),
    Scene("1M ready jobs", (Crowd(MILLION),)),
    Scene("+ 1M future jobs of a better priority", (Crowd(MILLION, run_at=FUTURE, priority=AHEAD), Crowd(READY))),
    Scene("+ 1M that have failed for good", (Crowd(MILLION, attempts="25", priority=AHEAD), Crowd(READY))),
    Scene("+ 1M of a task that the worker lacks", (Crowd(MILLION, task="foreign", priority=AHEAD), Crowd(READY))),
    Scene("+ 100k of one busy queue, better priority", (Crowd(100_000, queue="'busy'", priority=AHEAD), Crowd(READY))),
    Scene(
        "+ 20k busy queues with a job each, better priority",
        (Crowd(20_000, queue="'busy ' || n", priority=AHEAD), Crowd(READY)),
    ),
    Scene("100k queues with a job each", (Crowd(100_000, queue="'queue ' || n"),)),
    Scene(
        "20k queues with a job each, behind 100k of a busy one",
        (Crowd(100_000, queue="'busy'", priority=AHEAD), Crowd(20_000, queue="'queue ' || n")),
    ),
    Scene(
        "+ 1M whose flag is forbidden",
        (Crowd(MILLION, flags="""'{"held": true}'"""), Crowd(READY, priority="10")),
        forbidden=("held",),
    ),
    Scene("1M ready jobs of 200 priorities", (Crowd(MILLION, priority="n % 200"),)),
    Scene(
        "+ 1M future jobs of 200 better priorities",
        (Crowd(MILLION, run_at=FUTURE, priority="n % 200 - 200"), Crowd(READY)),
    ),
    Scene(
        "+ 1M of 200 priorities, of a task that the worker lacks",
        (Crowd(MILLION, task="foreign", priority="n % 200 - 200"), Crowd(READY)),
    ),
)


def measure(suite: Suite) -> None:
    """Time claims in each scene."""
    for scene in SCENES:
        try:
            prepare(suite, scene)
            looks = claims(suite, scene)
        except TROUBLE as error:
            suite.fail(f"{GROUP} | {scene.title}", error)
            continue
        _report(suite, scene, looks)
    suite.queue.clear()


def prepare(suite: Suite, scene: Scene) -> None:
    """Fill the table, and let the server take note of what is in it."""
    queue = suite.queue
    queue.clear()
    for crowd in scene.crowds:
        _put(suite, crowd)
    queue.connection.execute(
        f"update {QUEUES} set locked_at = now(), locked_by = 'another' where starts_with(queue_name, %s)", (BUSY,)
    )
    queue.connection.execute(f"vacuum analyze {JOBS}")
    queue.connection.execute(f"vacuum analyze {QUEUES}")


def claims(suite: Suite, scene: Scene) -> list[Look]:
    """Make claims one after another, each in a transaction of its own, and return those after the warm-up."""
    with psycopg.connect(suite.queue.conninfo, prepare_threshold=0) as connection:
        _claims(connection, scene, WARM_UP)
        return _claims(connection, scene, CLAIMS)


def _claims(connection: psycopg.Connection[tuple[object, ...]], scene: Scene, number: int) -> list[Look]:
    looks = []
    marks = Marks()
    for _ in range(number):
        connection.execute("select")  # begins the transaction: neither that nor the commit depends on the table
        began = time.monotonic()
        near = marks.near(began)
        claimed = run(connection, claim_jobs(STATEMENTS, WORKER, ["noop"], scene.forbidden, BATCH, BATCH, near))
        ended = time.monotonic()
        connection.commit()
        marks.looked(claimed, ended, full=near is None)
        if near is None and len(claimed.jobs) != BATCH:
            raise MeasurementError(f"a claim that looked everywhere brought {len(claimed.jobs)} jobs, not {BATCH}")
        looks.append(Look((ended - began) * 1000, near is None, len(claimed.jobs)))
        if not claimed.jobs:
            time.sleep(max(0.0, marks.full_at - time.monotonic()))  # so does a worker
            continue
        run(connection, finish_jobs(STATEMENTS, WORKER, [(job.claim, SUCCESS) for job in claimed.jobs]))
        connection.commit()
    return looks


def _report(suite: Suite, scene: Scene, looks: list[Look]) -> None:
    everywhere = [look.milliseconds for look in looks if look.full]
    taken = [look.milliseconds for look in looks]
    title, role = scene.title, scene.role
    size = "" if suite.scale == 1.0 else f", tables at {suite.scale:g} of the size that is stated"
    mean = sum(taken) / sum(look.jobs for look in looks) * BATCH
    few = sum(look.jobs < BATCH for look in looks)
    at: dict[str, float | str] = {"full looks": len(everywhere), "claims": len(taken), "few": few}
    suite.report(Result(f"{GROUP}, {MEAN}{size}", title, mean, "ms", role, min(taken), max(taken), at=at))
    suite.report(from_values(taken, group=f"{GROUP}, {MEDIAN}{size}", title=title, unit="ms", role=role))
    suite.report(
        Result(
            f"{GROUP}, {FULL}{size}",
            title,
            statistics.mean(everywhere),
            f"ms ({len(everywhere)} of {len(taken)})",
            role,
            min(everywhere),
            max(everywhere),
        )
    )
    if few:
        suite.report(Result(f"{GROUP}, {FEW}{size}", title, few, f"of {len(taken)}"))


def _put(suite: Suite, crowd: Crowd) -> None:
    connection, rows = suite.queue.connection, max(min(crowd.rows, READY), suite.sized(crowd.rows))
    connection.execute("select graphile_worker._pgtasks_register_task(%s)", (crowd.task,))
    if crowd.queue != "null":
        connection.execute(
            f"insert into {QUEUES} (queue_name) select distinct {crowd.queue} from generate_series(1, {rows}) as n"
        )
    connection.execute(
        f"""
        insert into {JOBS} (task_id, job_queue_id, priority, run_at, attempts, flags)
        select
            (select id from graphile_worker._private_tasks where identifier = '{crowd.task}'),
            (select id from {QUEUES} where queue_name = {crowd.queue}),
            {crowd.priority}, {crowd.run_at}, {crowd.attempts}, {crowd.flags}
        from generate_series(1, {rows}) as n
        """
    )
