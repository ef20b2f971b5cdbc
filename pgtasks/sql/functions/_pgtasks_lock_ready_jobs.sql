-- Locks the first max_jobs eligible jobs that have no queue, in claim order, passing over those that someone else has
-- locked, and returns their ids. `contended`: there were such jobs, and all of them were taken by others.
--
-- First a look at a bounded number of jobs in claim order; only if that ended in the middle of jobs that this worker
-- cannot take, the jobs of each of its tasks.
--
-- The look and the locking are lateral joins without an `order by` around them, on purpose: what a lateral join's right
-- side refers to makes it a nested loop, which keeps the order of its left side, priorities from `level` and jobs by
-- index. An `order by` outside would have all candidates locked before the first `limit` counts. So `job_ids` is in
-- claim order, which _pgtasks_claim_jobs relies on.
create or replace function {gw}._pgtasks_lock_ready_jobs(
  task_ids integer[],
  forbidden_flags text[],
  max_jobs integer,
  out job_ids bigint[],
  out last_attempts boolean,
  out contended boolean
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := cardinality(forbidden_flags) > 0;
  v_more_ids bigint[];
  v_seen bigint;
  v_seen_of_tasks bigint;
begin
  contended := false;

  with recursive level (priority) as (
    (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    union all
    select (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null and jobs.priority > level.priority
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    from level
    where level.priority is not null
  )
  select array_agg(taken.id), bool_or(taken.is_last_attempt) into job_ids, last_attempts
  from (
    select locked.*
    from (
      select due.id, due.task_id
      from level
      cross join lateral (
        select jobs.id, jobs.task_id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is null
          and jobs.priority = level.priority
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit 1000
      ) as due
      limit 1000
    ) as seen
    cross join lateral (
      select jobs.id, jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt
      from {gw}._private_jobs as jobs
      where jobs.id = seen.id
        and jobs.is_available
        and jobs.job_queue_id is null
        and jobs.run_at <= now()
        and jobs.task_id = any(task_ids)
        and (v_flags_matter is not true or jobs.flags is null or not jobs.flags ?| forbidden_flags)
      for update skip locked
    ) as locked
    where seen.task_id = any(task_ids)
    limit max_jobs
  ) as taken;
  if cardinality(job_ids) = max_jobs then
    return;
  end if;

  with recursive level (priority) as (
    (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    union all
    select (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null and jobs.priority > level.priority
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    from level
    where level.priority is not null
  )
  select count(*), count(*) filter (where seen.task_id = any(task_ids)) into v_seen, v_seen_of_tasks
  from (
    select due.task_id
    from level
    cross join lateral (
      select jobs.task_id
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is null
        and jobs.priority = level.priority
        and jobs.run_at <= now()
      order by jobs.run_at, jobs.id
      limit 1000
    ) as due
    limit 1000
  ) as seen;
  if v_seen < 1000 then
    contended := job_ids is null and v_seen_of_tasks > 0;
    return;
  end if;

  -- More candidates than can be used, for when others are at it too.
  select array_agg(taken.id), last_attempts is true or bool_or(taken.is_last_attempt) into v_more_ids, last_attempts
  from (
    select locked.*
    from (
      select due.id
      from unnest(task_ids) as task (id)
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
        select due.*
        from level
        cross join lateral (
          select jobs.id, jobs.priority, jobs.run_at
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is null
            and jobs.task_id = task.id
            and jobs.priority = level.priority
            and jobs.run_at <= now()
            and (v_flags_matter is not true or jobs.flags is null or not jobs.flags ?| forbidden_flags)
          order by jobs.run_at, jobs.id
          limit 1000
        ) as due
        limit 1000
      ) as due
      order by due.priority, due.run_at, due.id
    ) as seen
    cross join lateral (
      select jobs.id, jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt
      from {gw}._private_jobs as jobs
      where jobs.id = seen.id
        and jobs.id <> all(coalesce(job_ids, '{{}}'))
        and jobs.is_available
        and jobs.job_queue_id is null
        and jobs.run_at <= now()
        and jobs.task_id = any(task_ids)
        and (v_flags_matter is not true or jobs.flags is null or not jobs.flags ?| forbidden_flags)
      for update skip locked
    ) as locked
    limit max_jobs - coalesce(cardinality(job_ids), 0)
  ) as taken;
  job_ids := job_ids || v_more_ids;
  contended := job_ids is null;
end;
$pgtasks$;
