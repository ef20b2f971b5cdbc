select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags,
    coalesce(task.identifier, 'unknown task ' || job.task_id), queue.queue_name
from
    {gw}.remove_job($1::text) as job
    left join {gw}._private_tasks as task on task.id = job.task_id
    left join {gw}._private_job_queues as queue on queue.id = job.job_queue_id
