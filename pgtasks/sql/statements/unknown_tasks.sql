-- Tasks that nobody here knows, among the jobs that are next in line: a bounded look, not a scan of the table.
with next_jobs as materialized (
    select job.task_id, job.run_at
    from {gw}._private_jobs as job
    where job.is_available
    order by job.priority, job.run_at
    limit $2::integer
)
select task.identifier, count(*)
from next_jobs join {gw}._private_tasks as task on task.id = next_jobs.task_id
where task.identifier <> all ($1::text[]) and next_jobs.run_at <= now()
group by task.identifier
order by task.identifier
