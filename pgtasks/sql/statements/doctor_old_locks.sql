-- Who has held jobs, or queues, for more than four hours, the longest first; of jobs that are locked $1 are looked at,
-- and of queues $2.
with old as (
    select 'job' as kind, held.locked_by, held.locked_at
    from (
        select job.locked_by, job.locked_at
        from {gw}._private_jobs as job
        where job.locked_at >= '-infinity'
        order by job.locked_by
        limit $1::integer
    ) as held
    where held.locked_at < now() - interval '4 hours'
    union all
    select 'queue', held.locked_by, held.locked_at
    from (
        select queue.locked_by, queue.locked_at
        from {gw}._private_job_queues as queue
        order by queue.id
        limit $2::integer
    ) as held
    where held.locked_at < now() - interval '4 hours'
)
select
    coalesce(old.locked_by, ''), count(*) filter (where old.kind = 'job'), count(*) filter (where old.kind = 'queue'),
    (extract(epoch from now()) - extract(epoch from min(old.locked_at)))::double precision,
    count(*) over ()
from old
group by old.locked_by
order by min(old.locked_at), old.locked_by
limit $3::integer
