"""Both work on one schema at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.interop.conftest import Shared, StartNode, StartPython

TASKS = {"node_note": "note", "note": "note"}

# Without a queue: a job for Graphile Worker, one for us, one for either. In ten queues: jobs for the one and the other
# at random. In ten more: jobs that either can run.
#
# Those in a queue are due one after the other: Graphile Worker leaves the order of jobs that are due at once open.
ADD = """
    select graphile_worker.add_jobs(array_agg(
        (
            case
                when kind = 'any' then 'note'
                when kind = 'node' then 'node_note'
                else 'py_note'
            end,
            json_build_object('n', n), queue, now() - interval '1 hour' + n * interval '1 ms', null, null, null, null
        )::graphile_worker.job_spec
        order by n
    ))
    from (
        select n, null as queue, (array['node', 'python', 'any'])[n % 3 + 1] as kind from generate_series(1, 2400) as n
        union all
        select n, 'mixed ' || n % 10, (array['node', 'python'])[ceil(random() * 2)] from generate_series(1, 300) as n
        union all
        select n, 'common ' || n % 10, 'any' from generate_series(1, 300) as n
    ) as wanted
"""

# A worker takes the first job of a queue among those whose tasks it knows: hence the order within a queue and a task.
IN_QUEUES = """
    with queued as (
        select
            runs.job_id,
            runs.started,
            lag(runs.ended) over (partition by added.queue_name order by runs.started) as before_ended,
            lag(runs.job_id) over (partition by added.queue_name, runs.task order by runs.started) as before
        from runs join added using (job_id)
        where added.queue_name is not null
    )
    select
        count(*),
        count(*) filter (where started < before_ended),
        count(*) filter (where job_id < before)
    from queued
"""


def test_each_runs_what_it_knows_nothing_is_lost_or_run_twice_and_queues_stay_serial(
    db: Shared, start_node: StartNode, start_python: StartPython
) -> None:
    # Neither side tells the other when a queue becomes free, so both look often.
    its, ours = start_node(TASKS, poll_interval=0.05), start_python("--concurrency", "4", poll_interval=0.05)
    its.wait_until_started()
    ours.wait_for("worker_ready")
    with db.connection.transaction():
        db.connection.execute(ADD)
        db.connection.execute(
            "create table added as select id as job_id, task_identifier, queue_name from graphile_worker.jobs"
        )
    db.wait_until_empty()
    assert db.rows("select job_id, task from runs order by 1") == db.rows("select job_id, task_identifier from added")
    assert db.rows("select distinct side, task from runs order by 1, 2") == [
        ("node", "node_note"),
        ("node", "note"),
        ("python", "note"),
        ("python", "py_note"),
    ]
    assert db.value("select count(*) from runs where attempt <> 1 or ended is null") == 0
    assert db.rows(IN_QUEUES) == [(600, 0, 0)]
    assert db.locked() == 0
    its.stop()
    assert ours.stop() == 0
