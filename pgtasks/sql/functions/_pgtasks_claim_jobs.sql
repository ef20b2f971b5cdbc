-- Locks up to max_jobs eligible jobs for a worker and returns them in claim order: priority, run_at, id.
--
-- A named queue has at most one job in flight, its first eligible one. What guarantees it is the lock on the queue's
-- row: see _pgtasks_lock_queue_heads. A reference worker locks the same rows. A queue whose row is missing (the
-- reference's cleanup can delete it while a job is being added) counts as locked until _pgtasks_restore_names puts it
-- back. So does one of forbidden_queues, named by whoever calls.
--
-- A job on its last attempt is taken only if it is among the first free_slots of the batch: it must not wait in a
-- worker that may die, since nothing would be left to run it again.
--
-- Marks say where to look, for when to look everywhere takes long, as where a snapshot that is held open keeps what is
-- left of a million finished jobs in the indexes: only at jobs that come after one of the marks and have its priority.
-- They are the last jobs that the worker has claimed of some priorities, and what comes before them was claimed too or
-- could not be. So such a look may miss jobs, and a full one has to follow in time. mark_micros are their run_at in
-- microseconds since 2000, as PostgreSQL keeps it. `look_seconds`, the same in each
-- row, tells how long it took to find and lock the jobs. Where there is none, it stands in a row without an id.
--
-- The settings keep the plans what they are meant to be, here and in the functions called from here:
--   plan_cache_mode           one plan for all calls: to plan these statements takes longer than to run them
--   enable_seqscan,           the indexes are in claim order, and a walk along one ends after a few jobs. Statistics
--   enable_bitmapscan,        that are out of date, as they always are in a queue, make the planner read and sort the
--   enable_sort,              whole backlog instead. A few rows are still sorted where no index has the order.
--   enable_incremental_sort
--   enable_mergejoin,         what is looked up by place or id is looked up one by one
--   enable_hashjoin
--   jit                       a plan with a sort that is off looks so costly to PostgreSQL before 18 that it is
--                             compiled, which took seconds on 15
create or replace function {gw}._pgtasks_claim_jobs(
  worker_id text,
  task_identifiers text[],
  forbidden_flags text[],
  max_jobs integer,
  free_slots integer,
  mark_priorities smallint[] = null,
  mark_micros bigint[] = null,
  mark_ids bigint[] = null,
  forbidden_queues text[] = null
)
returns table (
  id bigint,
  task text,
  queue_name text,
  payload json,
  priority smallint,
  run_at timestamptz,
  attempts smallint,
  max_attempts smallint,
  last_error text,
  created_at timestamptz,
  updated_at timestamptz,
  key text,
  locked_at timestamptz,
  locked_by text,
  revision integer,
  flags jsonb,
  look_seconds double precision
)
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $pgtasks$
#variable_conflict use_column
declare
  v_began timestamptz := clock_timestamp();
  v_look_seconds double precision;
  v_mark_run_ats timestamptz[];
  v_forbidden_queue_ids integer[];
  v_task_ids integer[];
  v_task_names text[];
  v_ready_places tid[];
  v_ready_contended boolean;
  v_last_attempts boolean;
  v_last {gw}._private_jobs;
  v_queued_places tid[];
  v_queued_contended boolean;
  v_places tid[];
  v_queue_ids integer[];
begin
  if _pgtasks_claim_jobs.max_jobs < 1 then
    look_seconds := 0;
    return next;
    return;
  end if;
  perform {gw}._pgtasks_begin_claim(_pgtasks_claim_jobs.worker_id);
  -- Once for all: a cleanup of the reference's that has not seen a job may delete its task before it is returned.
  select coalesce(array_agg(tasks.id), '{{}}'), array_agg(tasks.identifier) into v_task_ids, v_task_names
  from {gw}._private_tasks as tasks
  where tasks.identifier = any(_pgtasks_claim_jobs.task_identifiers);

  if _pgtasks_claim_jobs.mark_priorities is not null then
    v_mark_run_ats := array(
      select timestamptz '2000-01-01 00:00:00+00' + mark.micros * interval '1 microsecond'
      from unnest(_pgtasks_claim_jobs.mark_micros) with ordinality as mark (micros, position)
      order by mark.position
    );
  end if;

  if cardinality(_pgtasks_claim_jobs.forbidden_queues) > 0 then
    v_forbidden_queue_ids := array(
      select job_queues.id
      from {gw}._private_job_queues as job_queues
      where job_queues.queue_name = any(_pgtasks_claim_jobs.forbidden_queues)
    );
  end if;

  for v_look in 1..3 loop
    select ready.places, coalesce(ready.last_attempts, false), ready.contended
    into v_ready_places, v_last_attempts, v_ready_contended
    from {gw}._pgtasks_lock_ready_jobs(
      v_task_ids,
      _pgtasks_claim_jobs.forbidden_flags,
      _pgtasks_claim_jobs.max_jobs,
      _pgtasks_claim_jobs.mark_priorities,
      v_mark_run_ats,
      _pgtasks_claim_jobs.mark_ids
    ) as ready;

    if cardinality(v_ready_places) = _pgtasks_claim_jobs.max_jobs then
      -- Only queued jobs that come before the last of these can be used: they are in claim order.
      select jobs.* into v_last
      from {gw}._private_jobs as jobs
      where jobs.ctid = v_ready_places[_pgtasks_claim_jobs.max_jobs];
    end if;
    select heads.places, heads.queue_ids, v_last_attempts or heads.last_attempts, heads.contended
    into v_queued_places, v_queue_ids, v_last_attempts, v_queued_contended
    from {gw}._pgtasks_lock_queue_heads(
      v_task_ids,
      _pgtasks_claim_jobs.forbidden_flags,
      _pgtasks_claim_jobs.max_jobs,
      v_last.priority,
      v_last.run_at,
      v_last.id,
      _pgtasks_claim_jobs.mark_priorities,
      v_mark_run_ats,
      _pgtasks_claim_jobs.mark_ids,
      v_forbidden_queue_ids
    ) as heads;

    exit when v_ready_places is not null or v_queued_places is not null;
    -- Something could be taken, and others were quicker: look again.
    exit when not (v_ready_contended or v_queued_contended);
  end loop;

  if (v_queued_places is null or v_ready_places is null)
    and not v_last_attempts
    and not coalesce(cardinality(v_queued_places) > _pgtasks_claim_jobs.max_jobs, false)
  then
    v_places := coalesce(v_ready_places, v_queued_places);
  else
    select array_agg(ranked.place), array_agg(ranked.job_queue_id) filter (where ranked.job_queue_id is not null)
    into v_places, v_queue_ids
    from (
      select
        jobs.ctid as place,
        jobs.job_queue_id,
        jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt,
        row_number() over (order by jobs.priority, jobs.run_at, jobs.id) as position
      from {gw}._private_jobs as jobs
      where jobs.ctid = any(v_ready_places || v_queued_places)
    ) as ranked
    where ranked.position <= _pgtasks_claim_jobs.max_jobs
      and (ranked.position <= _pgtasks_claim_jobs.free_slots or not ranked.is_last_attempt);
  end if;
  v_look_seconds := extract(epoch from clock_timestamp() - v_began);
  if v_places is null then
    look_seconds := v_look_seconds;
    return next;
    return;
  end if;

  if v_queue_ids is not null then
    update {gw}._private_job_queues as job_queues
    set locked_at = now(), locked_by = _pgtasks_claim_jobs.worker_id
    where job_queues.id = any(v_queue_ids);
  end if;

  return query
    with claimed as (
      update {gw}._private_jobs as jobs
      set
        attempts = jobs.attempts + 1,
        locked_at = now(),
        locked_by = _pgtasks_claim_jobs.worker_id,
        -- Not later than locked_at: a job that changes after it was locked was superseded.
        updated_at = now()
      where jobs.ctid = any(v_places)
      returning jobs.*
    )
    select
      claimed.id,
      v_task_names[array_position(v_task_ids, claimed.task_id)],
      (
        select job_queues.queue_name
        from {gw}._private_job_queues as job_queues
        where job_queues.id = claimed.job_queue_id
      ),
      claimed.payload,
      claimed.priority,
      claimed.run_at,
      claimed.attempts,
      claimed.max_attempts,
      claimed.last_error,
      claimed.created_at,
      claimed.updated_at,
      claimed.key,
      claimed.locked_at,
      claimed.locked_by,
      claimed.revision,
      claimed.flags,
      v_look_seconds
    from claimed
    order by claimed.priority, claimed.run_at, claimed.id;
end;
$pgtasks$;
