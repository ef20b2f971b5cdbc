-- The first jobs without a queue of each kind, which is a task and a set of flags, those that begin with `@` left out: of
-- the tasks given, and of the sets that hold no forbidden flag. At most max_jobs of each kind, all in claim order. Locks
-- nothing.
create or replace function {gw}._pgtasks_find_ready_jobs(task_ids integer[], forbidden_flags text[], max_jobs integer)
returns table (place tid, priority smallint, run_at timestamptz, id bigint)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  -- A flag of one job that is forbidden leaves out that job, which is looked at when it is locked, and not its kind.
  v_forbidden_flags text[] := array(select flag from unnest(forbidden_flags) as flag where flag not like '@%');
begin
  return query
    select due.*
    from unnest(task_ids) as task (id)
    cross join lateral (
      with recursive kind (hash, flags) as (
        (
          select {gw}._pgtasks_kind_hash(jobs.flags), jobs.flags
          from {gw}._private_jobs as jobs
          where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = task.id
          order by {gw}._pgtasks_kind_hash(jobs.flags), jobs.priority, jobs.run_at, jobs.id
          limit 1
        )
        union all
        select following.*
        from kind
        cross join lateral (
          select {gw}._pgtasks_kind_hash(jobs.flags), jobs.flags
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is null
            and jobs.task_id = task.id
            and {gw}._pgtasks_kind_hash(jobs.flags) > kind.hash
          order by {gw}._pgtasks_kind_hash(jobs.flags), jobs.priority, jobs.run_at, jobs.id
          limit 1
        ) as following
      )
      select kind.hash
      from kind
      where kind.flags is null or not kind.flags ?| v_forbidden_flags
    ) as kind
    cross join lateral (
      with recursive level (priority, run_at) as (
        (
          select jobs.priority, jobs.run_at
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is null
            and jobs.task_id = task.id
            and {gw}._pgtasks_kind_hash(jobs.flags) = kind.hash
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
            and jobs.job_queue_id is null
            and jobs.task_id = task.id
            and {gw}._pgtasks_kind_hash(jobs.flags) = kind.hash
            and jobs.priority > level.priority
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        ) as following
      )
      select due.*
      from level
      cross join lateral (
        select jobs.ctid, jobs.priority, jobs.run_at, jobs.id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is null
          and jobs.task_id = task.id
          and {gw}._pgtasks_kind_hash(jobs.flags) = kind.hash
          and jobs.priority = level.priority
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit _pgtasks_find_ready_jobs.max_jobs
      ) as due
      where level.run_at <= now()
      limit _pgtasks_find_ready_jobs.max_jobs
    ) as due
    order by due.priority, due.run_at, due.id;
end;
$pgtasks$;
