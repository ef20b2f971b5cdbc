-- What waits, by task, without a walk over what waits.
--
-- A kind is here all available jobs of a task with one set of flags and one priority. Along the indexes by task they
-- stand in the order of run_at: a kind's first entry is its oldest job, and its due jobs and those of the future are
-- two stretches, of which up to count_limit entries are counted. A kind is found from the one before it, not by looking
-- at all jobs; of each task, kind_limit of them are looked at. What is beyond the limits is not counted. There is a
-- limit for all kinds together, too, or a thousand tasks would make it a walk after all.
--
-- The conditions are those of pgtasks' own indexes, word for word, and _pgtasks_kind_hash is the expression in one.
with recursive tasks as materialized (
  select tasks.id, tasks.identifier
  from {gw}._private_tasks as tasks
  order by tasks.identifier
  limit %(task_limit)s
),
kinds as (
  select tasks.id as task_id, false as queued, first.flags_hash, first.priority, 1 as number
  from tasks
  cross join lateral (
    select {gw}._pgtasks_kind_hash(jobs.flags) as flags_hash, jobs.priority
    from {gw}._private_jobs as jobs
    where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = tasks.id
    order by {gw}._pgtasks_kind_hash(jobs.flags), jobs.priority
    limit 1
  ) as first
  union all
  select kinds.task_id, false, next.flags_hash, next.priority, kinds.number + 1
  from kinds
  cross join lateral (
    select {gw}._pgtasks_kind_hash(jobs.flags) as flags_hash, jobs.priority
    from {gw}._private_jobs as jobs
    where jobs.is_available
      and jobs.job_queue_id is null
      and jobs.task_id = kinds.task_id
      and ({gw}._pgtasks_kind_hash(jobs.flags), jobs.priority) > (kinds.flags_hash, kinds.priority)
    order by {gw}._pgtasks_kind_hash(jobs.flags), jobs.priority
    limit 1
  ) as next
  where kinds.number < %(kind_limit)s
),
queued_kinds as (
  select tasks.id as task_id, first.priority, 1 as number
  from tasks
  cross join lateral (
    select jobs.priority
    from {gw}._private_jobs as jobs
    where jobs.is_available
      and jobs.job_queue_id is not null
      and jobs.task_id >= -2147483648
      and jobs.task_id = tasks.id
    order by jobs.priority
    limit 1
  ) as first
  union all
  select kinds.task_id, next.priority, kinds.number + 1
  from queued_kinds as kinds
  cross join lateral (
    select jobs.priority
    from {gw}._private_jobs as jobs
    where jobs.is_available
      and jobs.job_queue_id is not null
      and jobs.task_id >= -2147483648
      and jobs.task_id = kinds.task_id
      and jobs.priority > kinds.priority
    order by jobs.priority
    limit 1
  ) as next
  where kinds.number < %(kind_limit)s
),
counting as materialized (
  select least(%(count_limit)s, greatest(%(look_at)s / greatest(count(*), 1), 1)) as most
  from (select from kinds union all select from queued_kinds) as found
),
waiting as (
  select kinds.task_id, due.jobs as ready, future.jobs as scheduled, oldest.seconds
  from kinds
  cross join lateral (
    select count(*) as jobs
    from (
      select
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is null
        and jobs.task_id = kinds.task_id
        and {gw}._pgtasks_kind_hash(jobs.flags) = kinds.flags_hash
        and jobs.priority = kinds.priority
        and jobs.run_at <= now()
      limit (select counting.most from counting)
    ) as counted
  ) as due
  cross join lateral (
    select count(*) as jobs
    from (
      select
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is null
        and jobs.task_id = kinds.task_id
        and {gw}._pgtasks_kind_hash(jobs.flags) = kinds.flags_hash
        and jobs.priority = kinds.priority
        and jobs.run_at > now()
      limit (select counting.most from counting)
    ) as counted
  ) as future
  left join lateral (
    select extract(epoch from now() - greatest(jobs.run_at, jobs.created_at))::double precision as seconds
    from {gw}._private_jobs as jobs
    where jobs.is_available
      and jobs.job_queue_id is null
      and jobs.task_id = kinds.task_id
      and {gw}._pgtasks_kind_hash(jobs.flags) = kinds.flags_hash
      and jobs.priority = kinds.priority
      and jobs.run_at <= now()
    order by jobs.run_at
    limit 1
  ) as oldest on true
  union all
  select kinds.task_id, due.jobs, future.jobs, oldest.seconds
  from queued_kinds as kinds
  cross join lateral (
    select count(*) as jobs
    from (
      select
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.task_id >= -2147483648
        and jobs.task_id = kinds.task_id
        and jobs.priority = kinds.priority
        and jobs.run_at <= now()
      limit (select counting.most from counting)
    ) as counted
  ) as due
  cross join lateral (
    select count(*) as jobs
    from (
      select
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.task_id >= -2147483648
        and jobs.task_id = kinds.task_id
        and jobs.priority = kinds.priority
        and jobs.run_at > now()
      limit (select counting.most from counting)
    ) as counted
  ) as future
  left join lateral (
    select extract(epoch from now() - greatest(jobs.run_at, jobs.created_at))::double precision as seconds
    from {gw}._private_jobs as jobs
    where jobs.is_available
      and jobs.job_queue_id is not null
      and jobs.task_id >= -2147483648
      and jobs.task_id = kinds.task_id
      and jobs.priority = kinds.priority
      and jobs.run_at <= now()
    order by jobs.run_at
    limit 1
  ) as oldest on true
),
running as (
  select counted.task_id, count(*) as jobs
  from (
    select jobs.task_id from {gw}._private_jobs as jobs where jobs.locked_at >= '-infinity' limit %(count_limit)s
  ) as counted
  group by counted.task_id
),
failed as (
  select counted.task_id, count(*) as jobs
  from (
    select jobs.task_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
    order by jobs.id desc
    limit %(count_limit)s
  ) as counted
  group by counted.task_id
)
select
  tasks.identifier,
  least(coalesce(waiting.ready, 0), %(count_limit)s)::bigint,
  least(coalesce(waiting.scheduled, 0), %(count_limit)s)::bigint,
  coalesce(running.jobs, 0),
  coalesce(failed.jobs, 0),
  waiting.seconds
from tasks
left join (
  select
    waiting.task_id,
    sum(waiting.ready) as ready,
    sum(waiting.scheduled) as scheduled,
    max(waiting.seconds) as seconds
  from waiting
  group by waiting.task_id
) as waiting on waiting.task_id = tasks.id
left join running on running.task_id = tasks.id
left join failed on failed.task_id = tasks.id
order by tasks.identifier
