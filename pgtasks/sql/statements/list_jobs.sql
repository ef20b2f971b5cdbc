-- At least one row, which has no job where there is none, since each tells where the next page begins.
select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags,
    coalesce(task.identifier, 'unknown task ' || job.task_id), queue.queue_name, found.next_id
from
    {gw}._pgtasks_find_jobs(
        $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::integer, $8::bigint, $9::integer
    ) as found
    left join {gw}._private_jobs as job on job.id = any (found.job_ids)
    left join {gw}._private_tasks as task on task.id = job.task_id
    left join {gw}._private_job_queues as queue on queue.id = job.job_queue_id
order by job.id desc
