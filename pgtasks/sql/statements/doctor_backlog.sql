-- The tasks whose jobs have been due for longest, and whether anybody is there to run them.
--
-- What is due is looked for by going along the indexes: from one priority to the next, so that what has waited for
-- longest is not overlooked, and from one task, set of flags and priority to the next, so that few tasks are; $3 of
-- each at most. Of the $4 tasks that have waited for longest, jobs are counted up to $5. Workers that make themselves known
-- are alive if they were heard of within $1 seconds; of others it is known that they hold jobs ($2 are looked at).
with recursive heads (in_queue, task_id, flags_hash, priority, run_at) as (
    (
        select
            job.job_queue_id is not null, job.task_id,
            case when job.job_queue_id is null then {gw}._pgtasks_kind_hash(job.flags) else 0 end,
            job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available
        order by job.priority, job.run_at
        limit 1
    )
    union all
    select following.*
    from heads cross join lateral (
        select
            job.job_queue_id is not null, job.task_id,
            case when job.job_queue_id is null then {gw}._pgtasks_kind_hash(job.flags) else 0 end,
            job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available and job.priority > heads.priority
        order by job.priority, job.run_at
        limit 1
    ) as following
),
unqueued (task_id, flags_hash, priority, run_at) as (
    (
        select job.task_id, {gw}._pgtasks_kind_hash(job.flags) as flags_hash, job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available and job.job_queue_id is null
        order by job.task_id, {gw}._pgtasks_kind_hash(job.flags), job.priority, job.run_at, job.id
        limit 1
    )
    union all
    select following.*
    from unqueued cross join lateral (
        select job.task_id, {gw}._pgtasks_kind_hash(job.flags) as flags_hash, job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available and job.job_queue_id is null
            and (job.task_id, {gw}._pgtasks_kind_hash(job.flags), job.priority)
                > (unqueued.task_id, unqueued.flags_hash, unqueued.priority)
        order by job.task_id, {gw}._pgtasks_kind_hash(job.flags), job.priority, job.run_at, job.id
        limit 1
    ) as following
),
queued (task_id, priority, run_at) as (
    (
        select job.task_id, job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available and job.job_queue_id is not null and job.task_id >= -2147483648
        order by job.task_id, job.priority, job.run_at, job.id
        limit 1
    )
    union all
    select following.*
    from queued cross join lateral (
        select job.task_id, job.priority, job.run_at
        from {gw}._private_jobs as job
        where job.is_available and job.job_queue_id is not null and job.task_id >= -2147483648
            and (job.task_id, job.priority) > (queued.task_id, queued.priority)
        order by job.task_id, job.priority, job.run_at, job.id
        limit 1
    ) as following
),
first as materialized (
    (select heads.* from heads limit $3::integer)
    union
    (select false, unqueued.* from unqueued limit $3::integer)
    union
    (select true, queued.task_id, 0, queued.priority, queued.run_at from queued limit $3::integer)
),
waiting as materialized (
    select first.task_id, min(first.run_at) as since, count(*) over () as tasks
    from first
    where first.run_at <= now()
    group by first.task_id
    order by since, first.task_id
    limit $4::integer
),
held as materialized (
    select job.locked_by, job.locked_at, job.task_id
    from {gw}._private_jobs as job
    where job.locked_at >= '-infinity'
    order by job.locked_by
    limit $2::integer
)
select
    coalesce(task.identifier, 'unknown task ' || waiting.task_id),
    -- A run_at may be '-infinity', from which no interval leads to now.
    (extract(epoch from now()) - extract(epoch from waiting.since))::double precision,
    due.jobs, waiting.tasks,
    exists (select from held where held.task_id = waiting.task_id),
    exists (
        select from {gw}._pgtasks_workers as worker
        where worker.released_at is null and worker.retired_at is null
            and worker.heartbeat_at > now() - make_interval(secs => $1::double precision)
    ),
    exists (
        select from held
        where held.locked_at > now() - interval '4 hours'
            and not exists (select from {gw}._pgtasks_workers as worker where worker.id = held.locked_by)
    )
from
    waiting
    left join {gw}._private_tasks as task on task.id = waiting.task_id
    cross join lateral (
        select count(*) as jobs
        from (
            select from first cross join lateral (
                select from {gw}._private_jobs as job
                where job.is_available and job.job_queue_id is null and not first.in_queue
                    and job.task_id = first.task_id
                    and {gw}._pgtasks_kind_hash(job.flags) = first.flags_hash
                    and job.priority = first.priority and job.run_at <= now()
                union all
                select from {gw}._private_jobs as job
                where job.is_available and job.job_queue_id is not null and job.task_id >= -2147483648
                    and first.in_queue
                    and job.task_id = first.task_id and job.priority = first.priority and job.run_at <= now()
            ) as job
            where first.task_id = waiting.task_id
            limit $5::integer
        ) as counted
    ) as due
order by waiting.since, waiting.task_id
