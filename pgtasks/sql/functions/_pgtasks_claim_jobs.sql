-- Locks up to max_jobs eligible jobs for a worker and returns them in claim order: priority, run_at, id.
--
-- A named queue has at most one job in flight, its first eligible one. What guarantees it is the lock on the queue's
-- row: it is taken before the job's, in a statement of its own, so that the job is looked at as it is once nobody else
-- can claim from that queue. Where the job has changed meanwhile or is held by someone, the queue is left alone:
-- neither is its second job taken nor does the queue stay locked. A reference worker locks the same rows. A queue whose
-- row is missing (the reference's cleanup can delete it while a job is being added) counts as locked until
-- _pgtasks_restore_names puts it back.
--
-- A job on its last attempt is taken only if it is among the first free_slots of the batch: it must not wait in a
-- worker that may die, since nothing would be left to run it again.
--
-- The settings keep the plans what they are meant to be, here and in the functions called from here:
--   plan_cache_mode           one plan for all calls: to plan these statements takes longer than to run them
--   enable_seqscan,           the indexes are in claim order, and a walk along one ends after a few jobs. Statistics
--   enable_bitmapscan,        that are out of date, as they always are in a queue, make the planner read and sort the
--   enable_sort,              whole backlog instead. A few rows are still sorted where no index has the order.
--   enable_incremental_sort
--   jit                       a plan with a sort that is off looks so costly to PostgreSQL before 18 that it is
--                             compiled, which took seconds on 15
create or replace function {gw}._pgtasks_claim_jobs(
  worker_id text,
  task_identifiers text[],
  forbidden_flags text[],
  max_jobs integer,
  free_slots integer
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
  flags jsonb
)
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set jit = off
as $pgtasks$
#variable_conflict use_column
declare
  v_task_ids integer[];
  v_task_names text[];
  v_ready_ids bigint[];
  v_contended boolean;
  v_last_attempts boolean;
  v_last {gw}._private_jobs;
  v_head_ids bigint[];
  v_head_queue_ids integer[];
  v_free_queue_ids integer[];
  v_queued_ids bigint[];
  v_ids bigint[];
  v_queue_ids integer[];
begin
  if _pgtasks_claim_jobs.max_jobs < 1 then
    return;
  end if;
  -- Whoever gives back the jobs of a dead worker does so when no claim of its is under way, and none comes after.
  perform pg_advisory_xact_lock_shared(
    hashtextextended({gw_text} || ' worker ' || _pgtasks_claim_jobs.worker_id, 0)
  );
  if current_setting('transaction_isolation') <> 'read committed' then
    -- Fails with 40001 if the row has changed since the snapshot was taken.
    perform from {gw}._pgtasks_workers as workers where workers.id = _pgtasks_claim_jobs.worker_id for share;
  end if;
  if exists (
    select from {gw}._pgtasks_workers as workers
    where workers.id = _pgtasks_claim_jobs.worker_id and workers.retired_at is not null
  ) then
    raise exception using
      errcode = 'GWEVI',
      message = format('Worker %s has been retired and can claim nothing any more.', _pgtasks_claim_jobs.worker_id);
  end if;
  -- Once for all: a cleanup of the reference's that has not seen a job may delete its task before it is returned.
  select coalesce(array_agg(tasks.id), '{{}}'), array_agg(tasks.identifier) into v_task_ids, v_task_names
  from {gw}._private_tasks as tasks
  where tasks.identifier = any(_pgtasks_claim_jobs.task_identifiers);

  for v_look in 1..3 loop
    select ready.job_ids, ready.last_attempts, ready.contended into v_ready_ids, v_last_attempts, v_contended
    from {gw}._pgtasks_lock_ready_jobs(
      v_task_ids, _pgtasks_claim_jobs.forbidden_flags, _pgtasks_claim_jobs.max_jobs
    ) as ready;

    if cardinality(v_ready_ids) = _pgtasks_claim_jobs.max_jobs then
      -- Only heads of queues that come before the last of these can be used: the ids are in claim order.
      select jobs.* into v_last
      from {gw}._private_jobs as jobs
      where jobs.id = v_ready_ids[_pgtasks_claim_jobs.max_jobs];
    end if;
    select heads.job_ids, heads.job_queue_ids into v_head_ids, v_head_queue_ids
    from {gw}._pgtasks_find_queue_heads(
      v_task_ids,
      _pgtasks_claim_jobs.forbidden_flags,
      _pgtasks_claim_jobs.max_jobs,
      v_last.priority,
      v_last.run_at,
      v_last.id
    ) as heads;

    if v_head_ids is not null then
      select array_agg(free.id) into v_free_queue_ids
      from (
        select job_queues.id
        from {gw}._private_job_queues as job_queues
        where job_queues.id = any(v_head_queue_ids) and job_queues.is_available
        order by job_queues.id
        for update skip locked
      ) as free;

      select array_agg(locked.id) into v_queued_ids
      from (
        select jobs.id
        from unnest(v_head_ids, v_head_queue_ids) as head (id, job_queue_id)
        join {gw}._private_jobs as jobs on jobs.id = head.id and jobs.job_queue_id = head.job_queue_id
        where head.job_queue_id = any(v_free_queue_ids)
          and jobs.is_available
          and jobs.run_at <= now()
          and jobs.task_id = any(v_task_ids)
          and (
            jobs.flags is null
            or _pgtasks_claim_jobs.forbidden_flags is null
            or not jobs.flags ?| _pgtasks_claim_jobs.forbidden_flags
          )
        order by jobs.id
        for update of jobs skip locked
      ) as locked;
    end if;

    -- Something could be taken, and others were quicker: look again.
    exit when v_ready_ids is not null or v_queued_ids is not null;
    exit when not v_contended and v_head_ids is null;
  end loop;

  if v_queued_ids is null and not v_last_attempts then
    v_ids := v_ready_ids;
  else
    select array_agg(ranked.id), array_agg(ranked.job_queue_id) filter (where ranked.job_queue_id is not null)
    into v_ids, v_queue_ids
    from (
      select
        jobs.id,
        jobs.job_queue_id,
        jobs.attempts + 1 >= jobs.max_attempts as is_last_attempt,
        row_number() over (order by jobs.priority, jobs.run_at, jobs.id) as position
      from {gw}._private_jobs as jobs
      where jobs.id = any(v_ready_ids || v_queued_ids)
    ) as ranked
    where ranked.position <= _pgtasks_claim_jobs.max_jobs
      and (ranked.position <= _pgtasks_claim_jobs.free_slots or not ranked.is_last_attempt);
  end if;
  if v_ids is null then
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
      where jobs.id = any(v_ids)
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
      claimed.flags
    from claimed
    order by claimed.priority, claimed.run_at, claimed.id;
end;
$pgtasks$;
