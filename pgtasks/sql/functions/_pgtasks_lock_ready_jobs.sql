-- Locks the first max_jobs eligible jobs that have no queue, in claim order, passing over those that someone else has
-- locked, and returns the places of their rows. `contended`: there were such jobs, and all were taken by others.
--
-- First a look at a bounded number of jobs in claim order; only if that ended in the middle of jobs that this worker
-- cannot take, the jobs of each of its tasks. Given marks (see _pgtasks_claim_jobs), a look at what comes after these.
--
-- The look and the locking are lateral joins without an `order by` around them, on purpose: what a lateral join's right
-- side refers to makes it a nested loop, which keeps the order of its left side, priorities from `start` and jobs by
-- index. An `order by` outside would have all candidates locked before the first `limit` counts. So `places` is in
-- claim order, which _pgtasks_claim_jobs relies on.
--
-- A row is locked by its place, which spares a walk down an index. If it has moved since the statement began, it has
-- changed, and is left for the next look.
create or replace function {gw}._pgtasks_lock_ready_jobs(
  task_ids integer[],
  forbidden_flags text[],
  max_jobs integer,
  mark_priorities smallint[],
  mark_run_ats timestamptz[],
  mark_ids bigint[],
  out places tid[],
  out last_attempts boolean,
  out contended boolean
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := coalesce(cardinality(forbidden_flags) > 0, false);
  v_look_at integer := 2 * max_jobs + 100;
  v_candidates tid[];
  v_more_places tid[];
  v_seen bigint;
  v_seen_eligible bigint;
begin
  contended := false;

  with recursive level (priority, run_at) as (
    (
      select jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where mark_priorities is null
        and jobs.is_available
        and jobs.job_queue_id is null
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
        and jobs.job_queue_id is null
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
  )
  select array_agg(taken.place), bool_or(taken.is_last_attempt) into places, last_attempts
  from (
    select locked.*
    from (
      select due.place, due.task_id
      from start
      cross join lateral (
        select jobs.ctid as place, jobs.task_id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is null
          and jobs.priority >= -32768
          and jobs.priority = start.priority
          and (jobs.run_at, jobs.id) > (start.run_at, start.id)
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit v_look_at
      ) as due
      limit v_look_at
    ) as seen
    cross join lateral (
      select jobs.ctid as place, jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt
      from {gw}._private_jobs as jobs
      where jobs.ctid = seen.place
        and jobs.is_available
        and jobs.job_queue_id is null
        and jobs.run_at <= now()
        and jobs.task_id = any(task_ids)
        and (not v_flags_matter or jobs.flags is null or not jobs.flags ?| forbidden_flags)
      for update skip locked
    ) as locked
    where seen.task_id = any(task_ids)
    limit max_jobs
  ) as taken;
  if cardinality(places) = max_jobs or mark_priorities is not null then
    return;
  end if;

  with recursive level (priority, run_at) as (
    (
      select jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is null and jobs.priority >= -32768
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
        and jobs.priority >= -32768
        and jobs.priority > level.priority
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    ) as following
  )
  select
    count(*),
    count(*) filter (
      where seen.task_id = any(task_ids)
        and (
          not v_flags_matter
          or (select jobs.flags ?| forbidden_flags from {gw}._private_jobs as jobs where jobs.ctid = seen.place)
            is not true
        )
    )
  into v_seen, v_seen_eligible
  from (
    select due.*
    from level
    cross join lateral (
      select jobs.ctid as place, jobs.task_id
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is null
        and jobs.priority >= -32768
        and jobs.priority = level.priority
        and jobs.run_at <= now()
      order by jobs.run_at, jobs.id
      limit v_look_at
    ) as due
    where level.run_at <= now()
    limit v_look_at
  ) as seen;
  if v_seen < v_look_at then
    contended := places is null and v_seen_eligible > 0;
    return;
  end if;

  -- More candidates than can be used, for when others are at it too; and more again while these hold all of them.
  loop
    v_candidates := array(
      select due.place
      from {gw}._pgtasks_find_ready_jobs(task_ids, forbidden_flags, v_look_at) as due
    );
    select array_agg(taken.place), last_attempts is true or bool_or(taken.is_last_attempt)
    into v_more_places, last_attempts
    from (
      select locked.*
      from unnest(v_candidates) as seen (place)
      cross join lateral (
        select jobs.ctid as place, jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt
        from {gw}._private_jobs as jobs
        where jobs.ctid = seen.place
          and seen.place <> all(coalesce(places, '{{}}'))
          and jobs.is_available
          and jobs.job_queue_id is null
          and jobs.run_at <= now()
          and jobs.task_id = any(task_ids)
          and (not v_flags_matter or jobs.flags is null or not jobs.flags ?| forbidden_flags)
        for update skip locked
      ) as locked
      limit max_jobs - coalesce(cardinality(places), 0)
    ) as taken;
    exit when places is not null or v_more_places is not null or cardinality(v_candidates) < v_look_at;
    v_look_at := 10 * v_look_at;
  end loop;
  places := places || v_more_places;
  contended := places is null
    and exists (select from {gw}._pgtasks_find_ready_jobs(task_ids, forbidden_flags, 1));
end;
$pgtasks$;
