-- The queues of those that are eligible among the first look_at queued jobs that are due, in claim order; and how many
-- jobs were seen. Given marks (see _pgtasks_claim_jobs), of the jobs that come after these; given `before`,
-- of those that come before that job. Whether the queues are free is not looked at. Locks nothing.
create or replace function {gw}._pgtasks_find_queues(
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
      where mark_priorities is null and jobs.is_available and jobs.job_queue_id is not null
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    union all
    select following.*
    from level
    cross join lateral (
      select jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null and jobs.priority > level.priority
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
    where level.run_at <= now() and (before_id is null or level.priority <= before_priority)
  ),
  first as materialized (
    select due.*, row_number() over () as position
    from (
      select due.*
      from start
      cross join lateral (
        select jobs.id, jobs.job_queue_id, jobs.task_id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.priority = start.priority
          and (jobs.run_at, jobs.id) > (start.run_at, start.id)
          and jobs.run_at <= now()
          and (
            before_id is null
            or (jobs.priority, jobs.run_at, jobs.id) < (before_priority, before_run_at, before_id)
          )
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
        or not exists (
          select from {gw}._private_jobs as jobs where jobs.id = first.id and jobs.flags ?| forbidden_flags
        )
      )
    group by first.job_queue_id
  ) as queue;
end;
$pgtasks$;
