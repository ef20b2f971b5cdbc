-- Tasks in the order of their names, from the first or from the one after after_name. Waiting jobs are counted up to
-- count_limit for each; of running ones, and of the newest failed ones, look_at are looked at. Why the settings, see
-- _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_list_tasks(
  max_tasks integer,
  after_name text,
  count_limit integer,
  look_at integer
)
returns table (identifier text, waiting bigint, running bigint, failed bigint)
language sql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $pgtasks$
  with running as materialized (
    select counted.task_id, count(*) as jobs
    from (
      select jobs.task_id from {gw}._private_jobs as jobs where jobs.locked_at >= '-infinity' limit look_at
    ) as counted
    group by counted.task_id
  ),
  failed as materialized (
    select counted.task_id, count(*) as jobs
    from (
      select jobs.task_id
      from {gw}._private_jobs as jobs
      where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
      order by jobs.id desc
      limit look_at
    ) as counted
    group by counted.task_id
  )
  select
    listed.identifier,
    least(ready.jobs + queued.jobs, count_limit),
    coalesce(running.jobs, 0),
    coalesce(failed.jobs, 0)
  from (
    select tasks.*
    from {gw}._private_tasks as tasks
    where after_name is null or tasks.identifier > after_name
    order by tasks.identifier
    limit max_tasks
  ) as listed
  cross join lateral (
    select count(*) as jobs
    from (
      select from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = listed.id
      limit count_limit
    ) as counted
  ) as ready
  cross join lateral (
    select count(*) as jobs
    from (
      select from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.task_id >= -2147483648
        and jobs.task_id = listed.id
      limit count_limit
    ) as counted
  ) as queued
  left join running on running.task_id = listed.id
  left join failed on failed.task_id = listed.id
  order by listed.identifier
$pgtasks$;
