-- Whether a claim could take a job now. Locks nothing and looks the way a claim does: at the heads of free queues,
-- then, for the jobs without a queue, at the first due one of each task and priority. Why the settings, see
-- _pgtasks_claim_jobs.
create or replace function {gw}._pgtasks_has_runnable(task_identifiers text[], forbidden_flags text[])
returns boolean
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $pgtasks$
declare
  v_flags_matter boolean := cardinality(_pgtasks_has_runnable.forbidden_flags) > 0;
  v_task_ids integer[];
  v_head_ids bigint[];
begin
  v_task_ids := array(
    select tasks.id
    from {gw}._private_tasks as tasks
    where tasks.identifier = any(_pgtasks_has_runnable.task_identifiers)
  );

  select heads.job_ids into v_head_ids
  from {gw}._pgtasks_find_queue_heads(
    v_task_ids, _pgtasks_has_runnable.forbidden_flags, 1, null::smallint, null::timestamptz, null::bigint
  ) as heads;
  if v_head_ids is not null then
    return true;
  end if;

  return exists (
    select
    from unnest(v_task_ids) as task (id)
    cross join lateral (
      with recursive level (priority) as (
        (
          select jobs.priority
          from {gw}._private_jobs as jobs
          where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = task.id
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        )
        union all
        select (
          select jobs.priority
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is null
            and jobs.task_id = task.id
            and jobs.priority > level.priority
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        )
        from level
        where level.priority is not null
      )
      select level.priority from level where level.priority is not null
    ) as level
    cross join lateral (
      select
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is null
        and jobs.task_id = task.id
        and jobs.priority = level.priority
        and jobs.run_at <= now()
        and (
          v_flags_matter is not true
          or jobs.flags is null
          or not jobs.flags ?| _pgtasks_has_runnable.forbidden_flags
        )
      limit 1
    ) as due
  );
end;
$pgtasks$;
