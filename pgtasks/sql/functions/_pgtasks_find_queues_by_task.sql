-- The queues of those that are eligible among the first look_at queued jobs that are due of each of the tasks given, in
-- claim order; and the greatest number of jobs that were seen of one task. Whether the queues are free is not looked at.
-- Locks nothing.
create or replace function {gw}._pgtasks_find_queues_by_task(
  task_ids integer[],
  forbidden_flags text[],
  look_at integer,
  out queue_ids integer[],
  out seen bigint
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := coalesce(cardinality(forbidden_flags) > 0, false);
begin
  with first as materialized (
    select due.*, row_number() over (order by due.priority, due.run_at, due.id) as position
    from unnest(task_ids) as task (id)
    cross join lateral (
      with recursive level (priority, run_at) as (
        (
          select jobs.priority, jobs.run_at
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is not null
            and jobs.task_id >= -2147483648
            and jobs.task_id = task.id
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
            and jobs.task_id >= -2147483648
            and jobs.task_id = task.id
            and jobs.priority > level.priority
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        ) as following
      )
      select due.*
      from level
      cross join lateral (
        select jobs.task_id, jobs.job_queue_id, jobs.priority, jobs.run_at, jobs.id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.task_id >= -2147483648
          and jobs.task_id = task.id
          and jobs.priority = level.priority
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit look_at
      ) as due
      where level.run_at <= now()
      limit look_at
    ) as due
  )
  select
    array_agg(queue.id order by queue.position),
    (select max(counted.jobs) from (select count(*) as jobs from first group by first.task_id) as counted)
  into queue_ids, seen
  from (
    select first.job_queue_id as id, min(first.position) as position
    from first
    where not v_flags_matter
      or (select jobs.flags ?| forbidden_flags from {gw}._private_jobs as jobs where jobs.id = first.id) is not true
    group by first.job_queue_id
  ) as queue;
end;
$pgtasks$;
