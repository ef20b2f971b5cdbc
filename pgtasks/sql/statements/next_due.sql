-- In how many seconds the next job of these tasks, and of this queue if one is given, becomes due that is not yet.
select
    extract(epoch from min(job.run_at) - now())::double precision
from
    {gw}._private_jobs as job
    join {gw}._private_tasks as task on task.id = job.task_id
    left join {gw}._private_job_queues as queue on queue.id = job.job_queue_id
where
    job.is_available
    and job.run_at > now()
    and isfinite(job.run_at)
    and task.identifier = any ($1::text[])
    and ($2::text is null or queue.queue_name = $2::text)
