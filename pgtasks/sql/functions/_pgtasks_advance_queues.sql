-- Deletes jobs of named queues that have succeeded, and locks the next eligible job of each of their queues, if the worker
-- knows its task, in place of unlocking the queue. Returns a row for each of the ids: whether the job was deleted, and
-- the job that the worker has now, if any. The arrays belong together by position; locked_ats are in microseconds since
-- 2000. What was not deleted is for _pgtasks_finish_jobs to tell.
--
-- As in a claim, the queue is locked before its next job is looked for; here it is from the start, if the lock is still
-- that of the claim that has ended. The next job is not taken on its last attempt, for which a claim needs a free slot.
create or replace function {gw}._pgtasks_advance_queues(
  worker_id text,
  task_identifiers text[],
  forbidden_flags text[],
  ids bigint[],
  locked_ats bigint[]
)
returns table (
  ended_id bigint,
  ended boolean,
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
  v_flags_matter boolean := coalesce(cardinality(_pgtasks_advance_queues.forbidden_flags) > 0, false);
  v_task_ids integer[];
  v_task_names text[];
  v_ended_ids bigint[];
  v_queue_ids integer[];
  v_locked_ats timestamptz[];
  v_held_queue_ids integer[];
  v_kept_queue_ids integer[];
  v_places tid[];
begin
  perform {gw}._pgtasks_begin_claim(_pgtasks_advance_queues.worker_id);
  select coalesce(array_agg(tasks.id), '{{}}'), array_agg(tasks.identifier) into v_task_ids, v_task_names
  from {gw}._private_tasks as tasks
  where tasks.identifier = any(_pgtasks_advance_queues.task_identifiers);

  select deleted.* into v_ended_ids, v_queue_ids, v_locked_ats
  from {gw}._pgtasks_delete_held(
    _pgtasks_advance_queues.worker_id, _pgtasks_advance_queues.ids, _pgtasks_advance_queues.locked_ats
  ) as deleted;

  select array_agg(locked.id) into v_held_queue_ids
  from (
    select freed.id, freed.locked_at
    from unnest(v_queue_ids, v_locked_ats) as freed (id, locked_at)
    order by freed.id
  ) as freed
  cross join lateral (
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where job_queues.id = freed.id
      and job_queues.locked_by = _pgtasks_advance_queues.worker_id
      and job_queues.locked_at = freed.locked_at
    for update
  ) as locked;

  if v_held_queue_ids is not null then
    select array_agg(locked.job_queue_id), array_agg(locked.place) into v_kept_queue_ids, v_places
    from unnest(v_held_queue_ids) as queue (id)
    cross join lateral (
      select jobs.ctid as place
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.job_queue_id = queue.id
        and jobs.run_at <= now()
        and jobs.task_id = any(v_task_ids)
        and (
          not v_flags_matter
          or jobs.flags is null
          or not jobs.flags ?| _pgtasks_advance_queues.forbidden_flags
        )
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    ) as head
    cross join lateral (
      select jobs.ctid as place, jobs.job_queue_id
      from {gw}._private_jobs as jobs
      where jobs.ctid = head.place
        and jobs.is_available
        and jobs.job_queue_id = queue.id
        and jobs.run_at <= now()
        and jobs.task_id = any(v_task_ids)
        and (
          not v_flags_matter
          or jobs.flags is null
          or not jobs.flags ?| _pgtasks_advance_queues.forbidden_flags
        )
        and jobs.attempts + 1 < jobs.max_attempts
      for update skip locked
    ) as locked;

    update {gw}._private_job_queues as job_queues
    set
      locked_at = case when kept.id is not null then now() end,
      locked_by = case when kept.id is not null then _pgtasks_advance_queues.worker_id end
    from unnest(v_held_queue_ids) as held (id)
    left join unnest(v_kept_queue_ids) as kept (id) on kept.id = held.id
    where job_queues.id = any(array[held.id]);
  end if;
  if exists (select from {gw}._pgtasks_waits as waits where waits.job_id = any(v_ended_ids)) then
    perform {gw}._pgtasks_tell_waiters(v_ended_ids);
  end if;

  return query
    with claimed as (
      update {gw}._private_jobs as jobs
      set
        attempts = jobs.attempts + 1,
        locked_at = now(),
        locked_by = _pgtasks_advance_queues.worker_id,
        -- Not later than locked_at: a job that changes after it was locked was superseded.
        updated_at = now()
      where jobs.ctid = any(v_places)
      returning jobs.*
    )
    select
      done.id,
      done.ended_id is not null,
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
    from (
      select
        done.id,
        ended.id as ended_id,
        ended.queue_id,
        row_number() over (partition by ended.queue_id order by done.id) = 1 as is_first
      from unnest(_pgtasks_advance_queues.ids) as done (id)
      left join unnest(v_ended_ids, v_queue_ids) as ended (id, queue_id) on ended.id = done.id
    ) as done
    left join claimed on claimed.job_queue_id = done.queue_id and done.is_first;
end;
$pgtasks$;
