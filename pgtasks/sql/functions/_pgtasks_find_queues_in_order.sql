-- The queues of those that are eligible among the first look_at queued jobs that are due, in claim order; and how many
-- jobs were seen. Given marks (see _pgtasks_claim_jobs), of the jobs that come after these; given `before`,
-- of those that come before that job. Whether the queues are free is not looked at. Locks nothing.
create or replace function {gw}._pgtasks_find_queues_in_order(
  task_ids integer[],
  forbidden_flags text[],
  look_at integer,
  before_priority smallint,
  before_run_at timestamptz,
  before_id bigint,
  mark_priorities smallint[],
  mark_run_ats timestamptz[],
  mark_ids bigint[],
  out queue_ids integer[],
  out seen bigint
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := coalesce(cardinality(forbidden_flags) > 0, false);
begin
  with recursive level (priority, run_at) as (
    (
      select jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where mark_priorities is null
        and jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.priority >= -32768
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    union all
    select following.*
    from level
    cross join lateral (
      select jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.priority >= -32768
        and jobs.priority > level.priority
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    ) as following
  ),
  start (priority, run_at, id) as (
    select mark.*
    from unnest(mark_priorities, mark_run_ats, mark_ids) as mark
    union all
    select level.priority, timestamptz '-infinity', 0
    from level
    where level.run_at <= now()
  ),
  -- The bound has to be one that ends the walk along the index, and not a filter that is true of all that follows.
  range as (
    select
      start.*,
      case when start.priority = before_priority then before_run_at else timestamptz 'infinity' end as end_run_at,
      case when start.priority = before_priority then before_id else 9223372036854775807 end as end_id
    from start
    where before_id is null or start.priority <= before_priority
  ),
  first as materialized (
    select due.*, row_number() over () as position
    from (
      select due.*
      from range
      cross join lateral (
        select jobs.id, jobs.job_queue_id, jobs.task_id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.priority >= -32768
          and jobs.priority = range.priority
          and (jobs.run_at, jobs.id) > (range.run_at, range.id)
          and (jobs.run_at, jobs.id) < (range.end_run_at, range.end_id)
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit look_at
      ) as due
      limit look_at
    ) as due
  )
  select array_agg(queue.id order by queue.position), (select count(*) from first)
  into queue_ids, seen
  from (
    select first.job_queue_id as id, min(first.position) as position
    from first
    where first.task_id = any(task_ids)
      and (
        not v_flags_matter
        or (select jobs.flags ?| forbidden_flags from {gw}._private_jobs as jobs where jobs.id = first.id) is not true
      )
    group by first.job_queue_id
  ) as queue;
end;
$pgtasks$;
