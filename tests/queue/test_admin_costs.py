"""What looking and changing by hand costs on a large table: no more than on a smaller one, whatever statistics say.

The cost is counted in pages that a statement touches. The statistics are those of a table in which every job was
permanently failed or running; none of that is true any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from pgtasks.database import Operation
from pgtasks.job import EPOCH, MICROSECOND
from pgtasks.queue import admin, overview, progress
from pgtasks.sql import Statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sql.queue import Queue

pytestmark = pytest.mark.every_postgres

JOBS = 8_000
LOOK_AT = 4_000
SURVEYED = 1_000
CALLS = 8
"""Enough for PostgreSQL to try plans that do not depend on the parameters."""
NAMES = 5
"""So many that counts stop in the smaller table already."""


class Rare(NamedTuple):
    """The oldest jobs, of kinds of which there are few."""

    keyed: int
    failed: int
    running: int
    wanted: int
    """The only one of its task and its queue."""


# How many pages each may touch. A job that is found by an index is a handful of pages; to look at jobs one by one is to
# go down the primary key and to a job's page, each time.
COSTS: dict[str, tuple[int, Callable[[Statements, Rare], Operation[Any]]]] = {
    "get": (50, lambda sql, rare: admin.get(sql, rare.failed)),
    "list": (1_000, lambda sql, _: admin.list_jobs(sql)),
    "list failed": (200, lambda sql, _: admin.list_jobs(sql, state="failed")),
    "list running": (200, lambda sql, _: admin.list_jobs(sql, state="running")),
    "list key": (200, lambda sql, _: admin.list_jobs(sql, key="k")),
    "list locked_by": (200, lambda sql, _: admin.list_jobs(sql, locked_by="w")),
    "list failed of a task": (200, lambda sql, _: admin.list_jobs(sql, state="failed", task="wanted")),
    "list unknown task": (50, lambda sql, _: admin.list_jobs(sql, task="unknown")),
    "list unknown queue": (50, lambda sql, _: admin.list_jobs(sql, queue="unknown")),
    "list rare task": (5 * LOOK_AT, lambda sql, _: admin.list_jobs(sql, task="wanted")),
    "list rare queue": (5 * LOOK_AT, lambda sql, _: admin.list_jobs(sql, queue="wanted")),
    "list rare flag": (5 * LOOK_AT, lambda sql, _: admin.list_jobs(sql, flag="no such")),
    "list scheduled": (5 * LOOK_AT, lambda sql, _: admin.list_jobs(sql, state="scheduled")),
    "queues": (5 * NAMES * admin.COUNT_LIMIT, lambda sql, _: admin.queues(sql, 100)),
    "tasks": (5 * NAMES * admin.COUNT_LIMIT, lambda sql, _: admin.tasks(sql, 100)),
    "workers": (200, lambda sql, _: admin.workers(sql, 100)),
    "progress": (50, lambda sql, rare: progress.list_progress(sql, rare, 100)),
    "progress of all": (50, lambda sql, _: progress.list_progress(sql, None, 100)),
    "running jobs": (200, lambda sql, _: overview.list_running(sql, 100)),
    "survey": (SURVEYED, lambda sql, _: overview.survey(sql, 100)),
    "complete": (500, admin.complete),
    "fail": (500, admin.fail),
    "reschedule": (500, lambda sql, rare: admin.reschedule(sql, rare, priority=1)),
    "retry": (500, admin.retry),
    "remove": (500, lambda sql, _: admin.remove(sql, "k")),
    "force_unlock": (500, lambda sql, _: admin.force_unlock(sql, ["w", "unknown"])),
    "cleanup": (200, lambda sql, _: admin.cleanup(sql, ["GC_TASK_IDENTIFIERS", "GC_JOB_QUEUES"], 100)),
    "cleanup failed": (500, lambda sql, _: admin.cleanup(sql, ["DELETE_PERMAFAILED_JOBS"], 100)),
}


def add_crowd(queue: Queue, **columns: str) -> None:
    """Add jobs of many tasks and queues."""
    named, values = ", ".join(columns), ", ".join(columns.values())
    queue.run(f"""
        insert into {{gw}}._private_jobs (task_id, job_queue_id, {named})
        select 1 + n % {NAMES}, nullif(n % {NAMES}, 0), {values} from generate_series(1, {JOBS}) as n
    """)


def crowd(queue: Queue) -> Rare:
    """Fill the table, and let its statistics be wrong."""
    for number in range(NAMES):
        queue.add(f"t{number}", queue_name=f"q{number}")
    queue.run("truncate {gw}._private_jobs")
    rare = Rare(
        queue.add("t1", job_key="k"), queue.add("t2"), queue.add("t3"), queue.add("wanted", queue_name="wanted")
    )
    add_crowd(queue, attempts="25", locked_at="case when n % 2 = 0 then now() end", locked_by="'w'")
    queue.run("analyze {gw}._private_jobs")
    queue.run("update {gw}._private_jobs set attempts = 0, locked_at = null, locked_by = null")
    queue.set(rare.failed, attempts=25)
    queue.lock(rare.running, "w")
    return rare


def vacuum(queue: Queue) -> None:
    queue.run("vacuum {gw}._private_jobs")


def pages(queue: Queue, operation: Operation[Any]) -> int:
    """How many pages the operation touches, at most, in a session that has run it before."""
    cursor = psycopg.RawCursor(queue.conn)
    most = 0
    for call in range(CALLS):
        with queue.conn.transaction(force_rollback=True):
            row = cursor.execute(
                f"explain (analyze, buffers, format json) {operation.query}".encode(),
                operation.parameters,
            ).fetchone()
        assert row is not None
        [plan] = queue.value("select %s::jsonb", row[0]) if isinstance(row[0], str) else row[0]
        touched = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        most = max(most, touched if call else 0)
    return most


def test_a_larger_table_costs_no_more(queue: Queue, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LOOK_AT", LOOK_AT)
    monkeypatch.setattr(overview, "COUNT_LIMIT", SURVEYED)
    rare = crowd(queue)
    statements = Statements(schema)
    vacuum(queue)
    small = {name: pages(queue, make(statements, rare)) for name, (_, make) in COSTS.items()}
    for _ in range(2):
        add_crowd(queue, priority="n % 3")
    vacuum(queue)
    large = {name: pages(queue, make(statements, rare)) for name, (_, make) in COSTS.items()}
    # The larger table has more priorities, too, of which a survey looks at each.
    grown = {name: (small[name], large[name]) for name in COSTS if large[name] > small[name] * 1.2 + 50}
    grown.pop("survey", None)
    too_much = {name: large[name] for name, (most, _) in COSTS.items() if large[name] > most}
    assert (grown, too_much) == ({}, {})


OUTCOMES = ["success", "return", "retry"]


def pages_of_ending(queue: Queue, schema: str, outcome: str, jobs: int) -> int:
    """How many pages it touches to end some of many jobs that a worker holds, as it held none when last looked at."""
    crowd(queue)
    queue.run("update {gw}._private_jobs set locked_at = null, locked_by = null, attempts = 0")
    queue.run("vacuum analyze {gw}._private_jobs")
    queue.run("update {gw}._private_jobs set locked_at = now(), locked_by = 'w'")
    claims = queue.rows("select id, locked_at from {gw}._private_jobs order by id limit %s", jobs)
    ids, locked_ats = [claim["id"] for claim in claims], [claim["locked_at"] for claim in claims]
    if outcome == "success at once":
        micros = [(locked_at - EPOCH) // MICROSECOND for locked_at in locked_ats]
        arrays = [f"{{{','.join(map(str, numbers))}}}" for numbers in (ids, micros)]
        operation = Operation("ends", Statements(schema).get("finish_successes"), ("w", *arrays), list)
    else:
        parameters = ("w", "{}", "{}", ids, locked_ats, [outcome] * jobs, None, None, None, None, None)
        operation = Operation("ends", Statements(schema).get("finish_jobs"), parameters, list)
    return pages(queue, operation)


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("outcome", [*OUTCOMES, "success at once"])
def test_the_end_of_a_job_is_found_by_its_id(queue: Queue, schema: str, outcome: str) -> None:
    assert pages_of_ending(queue, schema, outcome, jobs=10) < 500


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_with_a_plain_condition_on_the_index_all_that_a_worker_holds_is_walked(
    queue: Queue, schema: str, outcome: str
) -> None:
    queue.run("drop index {gw}._pgtasks_jobs_locked_idx")
    queue.run("create index on {gw}._private_jobs (locked_by) where locked_at is not null")
    assert pages_of_ending(queue, schema, outcome, jobs=10) > 1_000
