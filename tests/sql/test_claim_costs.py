"""What it costs to claim and to end jobs: no more with a large backlog than with a small one, whatever it is made of.

A cost is counted, not timed: pages of tables and indexes, entries that indexes return, and rows that are read without
an index. Each state of the table is measured at two sizes and against a table with nothing but the jobs that are
claimed, with statistics of three kinds: of this state, of an empty table, and of one in which every job had failed or
was locked.

A claim looks at no more than `LOOK` jobs at once. That many look-ups it may do several times over, and one for each
priority; a walk over the backlog is what it may not do, and that shows in what the second half of the backlog adds.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pgtasks.job import EPOCH, MICROSECOND
from tests.sql.mutations import without

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sql.queue import Queue, Row

pytestmark = pytest.mark.every_postgres

JOBS = 3_000
"""How many jobs are added to those that are claimed, and then once more."""
CLAIMED = 24
LOOK = 2 * CLAIMED + 100
LOOKS = 4
"""Jobs without a queue and with one, each in claim order and then by task."""
DOWN = 4
"""Pages of one look-up: down an index of three levels, and the row."""

SLOW = "'[\"slow\"]'::jsonb"
SLOW_OF_ONE_JOB = "jsonb_build_object('slow', true, '@number=' || n, true)"
OF_ONE_JOB = "jsonb_build_object('@number=' || n, true)"
TOMORROW = "now() + interval '1 day'"
OWN_QUEUE = "1000 + n"
SOME_IN_QUEUES = "case when n % 2 = 0 then 100 + n % 50 end"
BETTER = "n % 200 - 300"


class State(NamedTuple):
    """The columns of the jobs in the backlog, as SQL in which `n` is a job's number; by default such as can be claimed.

    Their tasks: 1 `send`, 2 `mail`, the one of the jobs that are claimed, and 3, which nobody here has. Their queues:
    1 is locked, 25 forbidden, and those up to 24 have one of the jobs that are claimed each.
    """

    priority: str = "-5"
    run_at: str = "now() - interval '1 hour'"
    task_id: str = "1"
    job_queue_id: str = SOME_IN_QUEUES
    attempts: str = "0"
    flags: str = "null::jsonb"
    locked_at: str = "null::timestamptz"
    locked_by: str = "null"


STATES = {
    "future": State(run_at=TOMORROW),
    "future, a queue each": State(run_at=TOMORROW, job_queue_id=OWN_QUEUE),
    "future, in a queue with work": State(run_at=TOMORROW, job_queue_id="2"),
    "future, 200 priorities": State(run_at=TOMORROW, priority=BETTER),
    "failed": State(attempts="25"),
    "running": State(locked_at="now()", locked_by="'worker'"),
    "foreign": State(task_id="3"),
    "foreign, a queue each": State(task_id="3", job_queue_id=OWN_QUEUE),
    "foreign, in a queue with work": State(task_id="3", job_queue_id="2"),
    "foreign, 200 priorities": State(task_id="3", priority=BETTER),
    "one busy queue": State(job_queue_id="1"),
    "queues behind a busy one": State(
        task_id="2",
        job_queue_id=f"case when n % 2 = 0 then 1 else {OWN_QUEUE} end",
        priority="case when n % 2 = 0 then -5 else 0 end",
    ),
    "one forbidden queue": State(job_queue_id="25"),
    "queues behind a forbidden one": State(
        task_id="2",
        job_queue_id=f"case when n % 2 = 0 then 25 else {OWN_QUEUE} end",
        priority="case when n % 2 = 0 then -5 else 0 end",
    ),
    "forbidden": State(flags=SLOW),
    "forbidden, no queue": State(flags=SLOW, job_queue_id="null::integer"),
    "forbidden, no queue, each with a flag of its own": State(flags=SLOW_OF_ONE_JOB, job_queue_id="null::integer"),
    "forbidden, in a queue with work": State(flags=SLOW, job_queue_id="2"),
    "behind foreign ones, each with a flag of its own": State(
        task_id="case when n % 2 = 0 then 3 else 2 end",
        job_queue_id="null::integer",
        priority="case when n % 2 = 0 then -5 else 0 end",
        flags=OF_ONE_JOB,
    ),
    "ready": State(priority="0"),
    "ready, no queue": State(priority="0", job_queue_id="null::integer"),
    "ready, a queue each": State(job_queue_id=OWN_QUEUE),
    "ready, one long queue": State(priority="5", job_queue_id="2"),
    "ready, 200 priorities": State(priority="n % 200"),
}

DEAR = {
    # What a queue holds before its first eligible job is walked, but for future jobs on 18.
    "future, in a queue with work": {"claim", "has_runnable", "advance"},
    "foreign, in a queue with work": {"claim", "has_runnable", "advance"},
    "forbidden, in a queue with work": {"claim", "has_runnable", "has_runnable of some tasks", "advance"},
    "forbidden": {"has_runnable of some tasks"},
    # Every queue is looked at.
    "queues behind a busy one": {"claim", "has_runnable"},
    "queues behind a forbidden one": {"claim", "has_runnable"},
}
"""The calls for which a larger backlog may cost more, by state: see docs/explanation/claiming.md, "What costs more"."""

STATISTICS = ["of this state", "of an empty table", "of another state"]


class Cost(NamedTuple):
    pages: int
    entries: int
    """Returned by indexes."""
    rows_without_index: int

    def exceeds(self, other: Cost) -> bool:
        return any(mine > its for mine, its in zip(self, other, strict=True))


COUNTED = """
select
  coalesce(sum(pg_stat_get_xact_blocks_fetched(oid)), 0)::integer as pages,
  coalesce(sum(pg_stat_get_xact_tuples_returned(oid)) filter (where relkind = 'i'), 0)::integer as entries,
  coalesce(sum(pg_stat_get_xact_tuples_returned(oid)) filter (where relkind = 'r'), 0)::integer as rows_without_index
from pg_class
where relnamespace = %s::regnamespace
"""


def claim(queue: Queue, tasks: tuple[str, ...] = ("send", "mail"), **options: Any) -> list[Row]:
    return queue.claim(tasks, limit=CLAIMED, forbidden=["slow"], forbidden_queues=["queue 25"], **options)


def advance(queue: Queue, claims: list[Row]) -> None:
    queue.run(
        "select from {gw}._pgtasks_advance_queues('worker', array['send', 'mail'], array['slow'], %s, %s)",
        [job["id"] for job in claims],
        [(job["locked_at"] - EPOCH) // MICROSECOND for job in claims],
    )


CALLS: dict[str, Callable[[Queue, list[Row]], object]] = {
    "claim": lambda queue, _: claim(queue),
    "claim of other tasks": lambda queue, _: claim(queue, ("idle",)),
    "has_runnable": lambda queue, _: queue.has_runnable(["send", "mail"], ["slow"], ["queue 25"]),
    "has_runnable of some tasks": lambda queue, _: queue.has_runnable(["send"], ["slow"], ["queue 25"]),
    "finish_successes": lambda queue, claims: queue.finish_successes(*claims),
    "advance": advance,
}
"""What is measured, in a transaction that has claimed some jobs if it is about their end."""


def cost(session: Queue, call: Callable[[Queue, list[Row]], object], *, ends: bool = False) -> Cost:
    """What a call costs a session that has made it before; everything is rolled back."""
    measured = Cost(0, 0, 0)
    for _ in range(2):
        with session.conn.transaction(force_rollback=True):
            claims = [job for job in claim(session) if job["queue_name"]] if ends else []
            before = session.row(COUNTED, session.name)
            call(session, claims)
            after = session.row(COUNTED, session.name)
        measured = Cost(**{name: after[name] - before[name] for name in after})
    return measured


def costs(queue: Queue) -> dict[str, Cost]:
    """What each call costs a new session, whose plans are made now."""
    with queue.another() as session:
        session.run("set statement_timeout = '30s'")
        return {name: cost(session, call, ends=name in {"finish_successes", "advance"}) for name, call in CALLS.items()}


def add_names(queue: Queue) -> None:
    for task in ("send", "mail", "other", "idle"):
        queue.run("insert into {gw}._private_tasks (identifier) values (%s)", task)
    add_queues(queue, "select generate_series(1, 150)")
    queue.run("update {gw}._private_job_queues set locked_at = now(), locked_by = 'somebody' where id = 1")


def add_queues(queue: Queue, ids: str) -> None:
    queue.run(
        "insert into {gw}._private_job_queues (id, queue_name) overriding system value "
        f"select id, 'queue ' || id from ({ids}) as added (id) where id is not null on conflict (id) do nothing"
    )


def add_ready(queue: Queue, first: int = 1) -> None:
    """Add the jobs that are claimed: half of them in queues of their own."""
    queue.run(f"""
        insert into {{gw}}._private_jobs (task_id, job_queue_id, run_at)
        select 2, case when n % 2 = 0 then n end, now() - interval '1 minute'
        from generate_series({first}, {first + CLAIMED - 1}) as n
    """)


def add_backlog(queue: Queue, state: State, first: int, jobs: int = JOBS) -> None:
    numbers = f"generate_series({first}, {first + jobs - 1}) as n"
    queue.run(f"insert into {{gw}}._private_jobs ({', '.join(State._fields)}) select {', '.join(state)} from {numbers}")
    add_queues(queue, f"select distinct {state.job_queue_id} from {numbers}")


def prepare(queue: Queue, statistics: str) -> None:
    """Add the names and the jobs that are claimed, and make statistics that stay as they are, unless made again."""
    add_names(queue)
    if statistics == "of another state":
        add_backlog(queue, State(task_id="4", job_queue_id="3", attempts="25", flags="'[\"a\"]'::jsonb"), 1)
        queue.run("update {gw}._private_jobs set locked_at = now(), locked_by = 'somebody' where id % 2 = 0")
        queue.run("analyze {gw}._private_jobs")
        queue.run("delete from {gw}._private_jobs")
        queue.run("vacuum {gw}._private_jobs")
    else:
        queue.run("analyze")
    add_ready(queue)


def grown(queue: Queue, state: State, statistics: str) -> dict[str, list[Cost]]:
    """Which calls cost too much, with their costs: without a backlog, with one, and with one twice as large."""
    priorities = 200 if "n % 200" in state.priority else 1
    measured = []
    prepare(queue, statistics)
    for first in (None, 1, 1 + JOBS):
        if first is not None:
            add_backlog(queue, state, first)
        if statistics == "of this state":
            queue.run("analyze")
        measured.append(costs(queue))
    found = {}
    for name in CALLS:
        clean, once, twice = (each[name] for each in measured)
        look_ups = LOOKS * (LOOK + priorities)
        most = Cost(clean.pages + DOWN * look_ups, clean.entries + 2 * look_ups, 0)
        # Not exactly the same: rows are on other pages, new versions may take one page more each, and an index a level.
        # A walk would cost about twice as much.
        no_more = Cost(once.pages + once.pages // 3 + 2 * CLAIMED, once.entries + once.entries // 3 + 10, 0)
        if once.exceeds(most) or twice.exceeds(no_more):
            found[name] = [clean, once, twice]
    return found


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("state", STATES)
def test_a_larger_backlog_costs_no_more(queue: Queue, state: str, statistics: str) -> None:
    too_dear = grown(queue, STATES[state], statistics)
    assert {call: costs for call, costs in too_dear.items() if call not in DEAR.get(state, ())} == {}


# A snapshot that is held open

PASSED = 8_000
"""How many jobs come and go, and then once more."""
SLACK = 2 * CLAIMED
"""The jobs that were claimed in the round before come after the marks, too: for each an entry, and a page."""


def growth_under_a_snapshot(queue: Queue, other: Queue) -> tuple[list[Cost], list[Cost]]:
    """The costs of claims near marks, and of full ones, once many and then twice as many jobs have come and gone."""
    add_names(queue)
    near, full = [], []
    with other.conn.transaction():
        other.run("set transaction isolation level repeatable read")
        other.run("select from {gw}._private_jobs")
        marks: list[Row] = []
        for first in (1, 1 + PASSED):
            gone = State(priority="0", job_queue_id=f"case when n % 2 = 0 then {OWN_QUEUE} end")
            add_backlog(queue, gone, first, PASSED)
            while claims := queue.claim(limit=2_000):
                queue.finish_successes(*claims)
                marks = claims[-1:]
            add_ready(queue, 1 if first == 1 else 1 + CLAIMED)  # a queue's row has versions, too
            with queue.another() as session:
                near.append(cost(session, lambda at, _, marks=marks: claim(at, marks=marks)))  # type: ignore[misc]
                full.append(cost(session, lambda at, _: claim(at)))
            queue.finish_successes(*claim(queue))
    return near, full


def test_under_a_held_snapshot_a_claim_near_marks_costs_no_more(queue: Queue, other: Queue) -> None:
    (near, near_twice), (full, full_twice) = growth_under_a_snapshot(queue, other)
    assert near_twice.pages <= near.pages + SLACK
    assert near_twice.entries <= near.entries + SLACK
    assert full_twice.pages > full.pages + 10 * SLACK, "the state makes full looks dear"


# Plans

BY_COMPARISON = r"\{(SEQSCAN|BITMAPHEAPSCAN|HASHJOIN|MERGEJOIN|MATERIAL|MEMOIZE)\b|:(?:join\.)?(joinqual) \("
"""What reads a whole table, or compares rows of two lists one by one, which takes no page and no entry of an index."""


def plans(queue: Queue, call: Callable[[Queue, list[Row]], object]) -> Counter[str]:
    """Which of these are in the plans of all statements of a call, however deep."""
    found: Counter[str] = Counter()
    with queue.another() as session:
        session.conn.add_notice_handler(
            lambda notice: found.update(
                kind or join for kind, join in re.findall(BY_COMPARISON, notice.message_detail or "")
            )
        )
        session.run("set debug_print_plan = on")
        session.run("set debug_pretty_print = off")
        session.run("set client_min_messages = log")
        with session.conn.transaction(force_rollback=True):
            call(session, [])
    return found


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("call", [name for name in CALLS if name.startswith(("claim", "has_runnable"))])
def test_no_plan_of_a_claim_reads_a_table_or_compares_rows_one_by_one(queue: Queue, call: str, statistics: str) -> None:
    prepare(queue, statistics)
    add_backlog(queue, STATES["foreign"], 1)
    if statistics == "of this state":
        queue.run("analyze")
    assert plans(queue, CALLS[call]) == {}


# The guards themselves

WORSE: dict[str, tuple[str, str, str]] = {
    "_pgtasks_jobs_ready_kind_idx": ("forbidden, no queue", "claim", "of this state"),
    "_pgtasks_jobs_queued_task_idx": ("foreign", "claim", "of this state"),
    "_pgtasks_jobs_queue_heads_idx": ("ready, one long queue", "advance", "of this state"),
}


@pytest.mark.one_postgres_each
@pytest.mark.parametrize("index", WORSE)
def test_without_an_index_a_claim_is_found_to_cost_more(queue: Queue, index: str) -> None:
    state, call, statistics = WORSE[index]
    queue.run(f"drop index {{gw}}.{index}")
    assert call in grown(queue, STATES[state], statistics)


def test_a_walk_over_what_is_due_later_is_found(queue: Queue, schema: str) -> None:
    without(queue.conn, schema, "_pgtasks_lock_ready_jobs", "jobs.priority > level", "jobs.priority + 0 > level")
    assert "claim" in grown(queue, STATES["future"], "of an empty table")


def test_a_claim_near_marks_that_looks_everywhere_is_found(queue: Queue, other: Queue, schema: str) -> None:
    without(queue.conn, schema, "_pgtasks_lock_ready_jobs", "where mark_priorities is null", "where true")
    (near, near_twice), _ = growth_under_a_snapshot(queue, other)
    assert near_twice.pages > near.pages + SLACK


def test_a_plan_that_compares_rows_one_by_one_is_found(queue: Queue, schema: str) -> None:
    prepare(queue, "of an empty table")
    without(queue.conn, schema, "_pgtasks_claim_jobs", " SET enable_hashjoin TO 'off'\n")
    without(queue.conn, schema, "_pgtasks_claim_jobs", "from claimed\n", "from claimed join claimed as c using (id)\n")
    assert plans(queue, CALLS["claim"]) != {}
