select
    (done.job).id, (done.job).payload::text, (done.job).priority, (done.job).run_at, (done.job).attempts,
    (done.job).max_attempts, (done.job).last_error, (done.job).created_at, (done.job).updated_at, (done.job).key,
    (done.job).locked_at, (done.job).locked_by, (done.job).revision, (done.job).flags,
    coalesce(task.identifier, 'unknown task ' || (done.job).task_id), queue.queue_name,
    named.id, coalesce(done.state, 'unknown')
from
    unnest($1::bigint[]) with ordinality as named (id, position)
    left join {gw}._pgtasks_cancel_jobs($1::bigint[], $2::text) as done on (done.job).id = named.id
    left join {gw}._private_tasks as task on task.id = (done.job).task_id
    left join {gw}._private_job_queues as queue on queue.id = (done.job).job_queue_id
order by named.position
