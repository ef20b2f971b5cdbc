"""What one claim costs, by what else is in the table."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from benchmarks.results import MeasurementError, Role, from_values
from benchmarks.workers import JOBS

if TYPE_CHECKING:
    from benchmarks.suite import Suite

BATCH = 24
CLAIMS = 50
"""How many are timed; each is rolled back, so that the next finds the same."""
WARM_UP = 5
READY = 10_000
"""Jobs that can run, behind those that cannot."""
QUEUES = "graphile_worker._private_job_queues"
CLAIM = f"""
    select id from graphile_worker._pgtasks_claim_jobs(
        'bench', array['noop'], %s::text[], {BATCH}, {BATCH}
    )
"""


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
    locked_queues: bool = False
    """Whether all queues are taken by another worker."""
    forbidden: tuple[str, ...] = ()
    role: Role = Role.OURS


MILLION = 1_000_000
AHEAD = "-10"
FUTURE = "now() + interval '30 days'"
SCENES = (
    Scene("1M ready jobs", (Crowd(MILLION),), role=Role.BASELINE),
    Scene("+ 1M future jobs of a better priority", (Crowd(MILLION, run_at=FUTURE, priority=AHEAD), Crowd(READY))),
    Scene("+ 1M that have failed for good", (Crowd(MILLION, attempts="25", priority=AHEAD), Crowd(READY))),
    Scene("+ 1M of a task that the worker lacks", (Crowd(MILLION, task="foreign", priority=AHEAD), Crowd(READY))),
    Scene(
        "+ 100k of one busy queue, better priority",
        (Crowd(100_000, queue="'busy'", priority=AHEAD), Crowd(READY)),
        locked_queues=True,
    ),
    Scene("100k queues with a job each", (Crowd(100_000, queue="'queue ' || n"),)),
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
            milliseconds = claims(suite, scene)
        except MeasurementError as error:
            suite.fail(f"backlog | {scene.title}", error)
            continue
        group = f"one claim of {BATCH} jobs"
        if suite.scale != 1.0:
            group += f", tables at {suite.scale:g} of the size that is stated"
        suite.report(from_values(milliseconds, group=group, title=scene.title, unit="ms", role=scene.role))
    suite.queue.clear()


def prepare(suite: Suite, scene: Scene) -> None:
    """Fill the table, and let the server take note of what is in it."""
    queue = suite.queue
    queue.clear()
    for crowd in scene.crowds:
        _put(suite, crowd)
    if scene.locked_queues:
        queue.connection.execute(f"update {QUEUES} set locked_at = now(), locked_by = 'another'")
    queue.connection.execute(f"vacuum analyze {JOBS}")
    queue.connection.execute(f"vacuum analyze {QUEUES}")


def claims(suite: Suite, scene: Scene) -> list[float]:
    """Milliseconds that claims take, without their commit, which costs the same whatever is in the table."""
    taken: list[float] = []
    with psycopg.connect(suite.queue.conninfo, prepare_threshold=0) as connection:
        for _ in range(WARM_UP + CLAIMS):
            connection.execute("select")
            began = time.perf_counter()
            rows = connection.execute(CLAIM, (list(scene.forbidden),)).fetchall()
            taken.append((time.perf_counter() - began) * 1000)
            connection.rollback()
            if len(rows) != BATCH:
                raise MeasurementError(f"a claim brought {len(rows)} jobs, not {BATCH}")
    return taken[WARM_UP:]


def _put(suite: Suite, crowd: Crowd) -> None:
    connection, rows = suite.queue.connection, suite.sized(crowd.rows)
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
