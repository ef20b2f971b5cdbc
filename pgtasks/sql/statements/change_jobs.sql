-- Does one thing to jobs, and says for each that was named what was done, or why nothing was. A function whose condition
-- is false is not called. What was not done is judged by what the statement saw when it began.
--   $1 complete, fail, reschedule or retry   $2 ids   $3 reason   $4 run_at   $5 delay   $6 priority
--   $7 attempts   $8 max_attempts
with failed as materialized (
    select job.id
    from {gw}._private_jobs as job
    where
        $1::text = 'retry' and job.id = any ($2::bigint[])
        and (job.locked_at is null or job.locked_at < now() - interval '4 hours')
        and job.attempts >= job.max_attempts
    order by job.id
    for update
),
-- The functions change a job whose lock is older than four hours, and leave that lock: it would not run until the next
-- sweep, and show as running until then. So it is cleared first.
idle as materialized (
    select
        {gw}._pgtasks_clear_stale_locks(
            case when $1::text = 'retry' then array(select failed.id from failed) else $2::bigint[] end
        ) as ids
    where $1::text <> 'complete'
),
done as materialized (
    select job.* from {gw}.complete_jobs($2::bigint[]) as job where $1::text = 'complete'
    union all
    select job.* from idle, {gw}.permanently_fail_jobs(idle.ids, $3::text) as job where $1::text = 'fail'
    union all
    select job.*
    from
        idle,
        {gw}.reschedule_jobs(
            idle.ids,
            run_at := coalesce($4::timestamptz, now() + make_interval(secs => $5::double precision)),
            priority := $6::integer,
            attempts := $7::integer,
            max_attempts := $8::integer
        ) as job
    where $1::text = 'reschedule'
    union all
    select job.*
    from idle, {gw}.reschedule_jobs(idle.ids, run_at := now(), attempts := 0) as job
    where $1::text = 'retry'
),
-- Workers need not wait for their next look.
hint as materialized (
    select pg_notify('jobs:insert', json_build_object('r', random(), 'count', count(*))::text)
    from done
    where $1::text in ('reschedule', 'retry')
    having count(*) > 0
)
select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags,
    coalesce(task.identifier, 'unknown task ' || job.task_id), queue.queue_name,
    named.id,
    case
        when job.id is not null then null
        when before.id is null then 'unknown'
        when before.locked_at >= now() - interval '4 hours' then 'locked by ' || coalesce(before.locked_by, 'nobody')
        when $1::text = 'retry' and before.attempts < before.max_attempts then 'not failed'
        else 'changed meanwhile'
    end,
    (select count(*) from hint)
from
    unnest($2::bigint[]) with ordinality as named (id, position)
    left join done as job on job.id = named.id
    left join {gw}._private_jobs as before on before.id = named.id
    left join {gw}._private_tasks as task on task.id = job.task_id
    left join {gw}._private_job_queues as queue on queue.id = job.job_queue_id
order by named.position
