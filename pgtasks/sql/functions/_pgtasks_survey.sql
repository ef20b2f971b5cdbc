-- How many jobs there are by where they stand: a row of kind 'all', and one each for the tasks and the queues of which
-- most are running or ready, max_names of either kind. Of each state look_at jobs are counted and not more: ready and
-- scheduled ones in the order of priorities, of which max_priorities are looked at, and the newest of the failed ones.
--
-- One priority after the other, since the index of what waits for its time is in that order; `limit` within keeps these
-- looks as they are written. Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_survey(look_at integer, max_priorities integer, max_names integer)
returns table (kind text, name text, ready bigint, scheduled bigint, running bigint, failed bigint)
language sql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $pgtasks$
  with recursive priority (value) as (
    (select jobs.priority from {gw}._private_jobs as jobs where jobs.is_available order by jobs.priority limit 1)
    union all
    select (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.priority > priority.value
      order by jobs.priority
      limit 1
    )
    from priority
    where priority.value is not null
  ),
  looked_at as materialized (
    select priority.value from priority where priority.value is not null limit max_priorities
  ),
  ready as (
    select due.task_id, due.job_queue_id
    from looked_at
    cross join lateral (
      select jobs.task_id, jobs.job_queue_id
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.priority = looked_at.value and jobs.run_at <= now()
      limit look_at
    ) as due
    limit look_at
  ),
  scheduled as (
    select later.task_id, later.job_queue_id
    from looked_at
    cross join lateral (
      select jobs.task_id, jobs.job_queue_id
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.priority = looked_at.value and jobs.run_at > now()
      limit look_at
    ) as later
    limit look_at
  ),
  running as (
    select jobs.task_id, jobs.job_queue_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at >= '-infinity'
    limit look_at
  ),
  failed as (
    select jobs.task_id, jobs.job_queue_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
    order by jobs.id desc
    limit look_at
  ),
  counted as materialized (
    select
      found.task_id,
      found.job_queue_id,
      count(*) filter (where found.state = 1) as ready,
      count(*) filter (where found.state = 2) as scheduled,
      count(*) filter (where found.state = 3) as running,
      count(*) filter (where found.state = 4) as failed
    from (
      select 1 as state, ready.* from ready
      union all
      select 2, scheduled.* from scheduled
      union all
      select 3, running.* from running
      union all
      select 4, failed.* from failed
    ) as found
    group by found.task_id, found.job_queue_id
  ),
  of_tasks as (
    select
      counted.task_id, sum(counted.ready) as ready, sum(counted.scheduled) as scheduled,
      sum(counted.running) as running, sum(counted.failed) as failed
    from counted
    group by counted.task_id
    order by sum(counted.running + counted.ready) desc, sum(counted.scheduled + counted.failed) desc, counted.task_id
    limit max_names
  ),
  of_queues as (
    select
      counted.job_queue_id, sum(counted.ready) as ready, sum(counted.scheduled) as scheduled,
      sum(counted.running) as running, sum(counted.failed) as failed
    from counted
    where counted.job_queue_id is not null
    group by counted.job_queue_id
    order by
      sum(counted.running + counted.ready) desc, sum(counted.scheduled + counted.failed) desc, counted.job_queue_id
    limit max_names
  )
  select
    'all', null, coalesce(sum(counted.ready), 0)::bigint, coalesce(sum(counted.scheduled), 0)::bigint,
    coalesce(sum(counted.running), 0)::bigint, coalesce(sum(counted.failed), 0)::bigint
  from counted
  union all
  select
    'task', coalesce(tasks.identifier, 'unknown task ' || of_tasks.task_id), of_tasks.ready::bigint,
    of_tasks.scheduled::bigint, of_tasks.running::bigint, of_tasks.failed::bigint
  from of_tasks
  left join {gw}._private_tasks as tasks on tasks.id = of_tasks.task_id
  union all
  select
    'queue', coalesce(job_queues.queue_name, 'unknown queue ' || of_queues.job_queue_id), of_queues.ready::bigint,
    of_queues.scheduled::bigint, of_queues.running::bigint, of_queues.failed::bigint
  from of_queues
  left join {gw}._private_job_queues as job_queues on job_queues.id = of_queues.job_queue_id
$pgtasks$;
