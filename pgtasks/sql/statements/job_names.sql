-- What the numbers in a row of _private_jobs stand for. A row that the role may not see keeps its number.
select
    job.id, task.identifier, queue.queue_name
from
    unnest($1::bigint[], $2::integer[], $3::integer[]) as job (id, task_id, job_queue_id)
    left join {gw}._private_tasks as task on task.id = job.task_id
    left join {gw}._private_job_queues as queue on queue.id = job.job_queue_id
