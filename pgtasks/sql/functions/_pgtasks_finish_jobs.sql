-- Writes how claims by a worker ended, and returns for each that was still held what became of its job. Ids that are
-- not returned were lost: somebody else has cleared the lock or holds the job now. The arrays belong together by
-- position:
--   outcomes     success  the job is deleted
--                cancel   likewise, and the setting pgtasks.cancelled tells triggers why; see below
--                retry    it runs again, after `delay` or the usual back-off, or has failed if its attempts are used
--                         up
--                fail     it has failed permanently
--                snooze   it runs again after `delay`; the attempt is not counted
--                return   it was not started, or was cut off: as it was before
--   last_errors  what is stored as last_error, or the reason of a cancel
--   delays       seconds
--   payloads     what is left of a batch
--   run_ats      when a retried or snoozed job runs again, in place of `delay`
--   had_keys     whether the job had a key when it was claimed; null if not known
--
-- For a trigger on the jobs a cancelled one is deleted like one that has succeeded. So for as long as jobs are deleted, the
-- setting pgtasks.cancelled is a JSON object with the reason, or null, of each that is cancelled, by its id.
--
-- A job that lost its key meanwhile was superseded or removed; only its success is of interest, it never runs again.
-- One that somebody has cancelled meanwhile (_pgtasks_cancel_jobs) is deleted as by `cancel`, whatever its outcome.
--
-- Rows are locked in the order of their ids, jobs before queues. `id = any (array[...])` below is there to hold that
-- order and to keep the plan from depending on statistics: it is a join that can only be done by looking up one id
-- after the other.
--
-- With wait_for_locks => false, a job whose row, or whose queue's, somebody else has locked (a long transaction that adds
-- a job with its key, or unlocks workers) is not waited for; its state is `busy`, nothing was done, and the call is to be repeated for it.
--
-- The settings: one plan for all calls, since to plan these statements takes longer than to run them; no sequential and
-- no bitmap scan, since ids are looked up one by one in a table whose statistics are always out of date.
create or replace function {gw}._pgtasks_finish_jobs(
  worker_id text,
  ids bigint[],
  locked_ats timestamptz[],
  outcomes text[],
  last_errors text[],
  delays double precision[],
  payloads json[],
  had_keys boolean[],
  wait_for_locks boolean = true,
  run_ats timestamptz[] = null
)
returns table (id bigint, state text)
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $pgtasks$
#variable_conflict use_column
declare
  v_all_succeeded boolean := _pgtasks_finish_jobs.outcomes <@ array['success'];
  v_held_ids bigint[];
  v_superseded_ids bigint[];
  v_busy_ids bigint[];
  v_ended_ids bigint[];
  v_states text[];
  v_queue_ids integer[];
  v_locked_ats timestamptz[];
  v_more_ids bigint[];
  v_more_states text[];
  v_more_queue_ids integer[];
  v_more_locked_ats timestamptz[];
  v_returned bigint;
  v_cancelled text;
  v_stopped_ids bigint[];
begin
  if not _pgtasks_finish_jobs.outcomes <@ array['success', 'cancel', 'retry', 'fail', 'snooze', 'return'] then
    raise exception using
      errcode = 'invalid_parameter_value',
      message = 'Invalid outcome, expected ''success'', ''cancel'', ''retry'', ''fail'', ''snooze'' or ''return''.';
  end if;

  -- A statement keeps the order within itself; where two are needed, a third locks first.
  if not _pgtasks_finish_jobs.wait_for_locks then
    select coalesce(array_agg(held.id), '{{}}'), array_agg(held.id) filter (where held.superseded)
    into v_held_ids, v_superseded_ids
    from (
      select done.*
      from unnest(
        _pgtasks_finish_jobs.ids, _pgtasks_finish_jobs.locked_ats, _pgtasks_finish_jobs.had_keys
      ) as done (id, locked_at, had_key)
      order by done.id
    ) as done
    cross join lateral (
      select
        jobs.id,
        jobs.key is null
          and jobs.attempts >= jobs.max_attempts
          and coalesce(done.had_key, jobs.updated_at > jobs.locked_at) as superseded
      from {gw}._private_jobs as jobs
      where jobs.id = done.id
        and jobs.locked_by = _pgtasks_finish_jobs.worker_id
        and jobs.locked_at = done.locked_at
      for update skip locked
    ) as held;

    with free as materialized (
      select job_queues.id
      from (
        select distinct jobs.job_queue_id as id
        from {gw}._private_jobs as jobs
        where jobs.id = any(v_held_ids) and jobs.job_queue_id is not null
      ) as queue
      cross join lateral (
        select job_queues.id
        from {gw}._private_job_queues as job_queues
        where job_queues.id = queue.id
        for update skip locked
      ) as job_queues
    )
    select coalesce(array_agg(jobs.id), '{{}}') into v_held_ids
    from {gw}._private_jobs as jobs
    where jobs.id = any(v_held_ids)
      and (
        jobs.job_queue_id is null
        or jobs.job_queue_id in (select free.id from free)
        or not exists (
          select
          from {gw}._private_job_queues as job_queues
          where job_queues.id = jobs.job_queue_id
            and job_queues.locked_by = _pgtasks_finish_jobs.worker_id
            and job_queues.locked_at = jobs.locked_at
        )
      );

    select array_agg(jobs.id) into v_busy_ids
    from unnest(_pgtasks_finish_jobs.ids, _pgtasks_finish_jobs.locked_ats) as done (id, locked_at)
    join {gw}._private_jobs as jobs on jobs.id = any(array[done.id])
    where jobs.locked_by = _pgtasks_finish_jobs.worker_id
      and jobs.locked_at = done.locked_at
      and jobs.id <> all(v_held_ids);
  elsif not v_all_succeeded then
    select coalesce(array_agg(held.id), '{{}}'), array_agg(held.id) filter (where held.superseded)
    into v_held_ids, v_superseded_ids
    from (
      select done.*
      from unnest(
        _pgtasks_finish_jobs.ids, _pgtasks_finish_jobs.locked_ats, _pgtasks_finish_jobs.had_keys
      ) as done (id, locked_at, had_key)
      order by done.id
    ) as done
    cross join lateral (
      select
        jobs.id,
        jobs.key is null
          and jobs.attempts >= jobs.max_attempts
          and coalesce(done.had_key, jobs.updated_at > jobs.locked_at) as superseded
      from {gw}._private_jobs as jobs
      where jobs.id = done.id
        and jobs.locked_by = _pgtasks_finish_jobs.worker_id
        and jobs.locked_at = done.locked_at
      for update
    ) as held;
  end if;

  if not v_all_succeeded
    and exists (select from {gw}._pgtasks_cancellations as known where known.job_id = any(v_held_ids))
  then
    select
      array_agg(case when known.job_id is null then done.outcome else 'cancel' end order by done.position),
      array_agg(case when known.job_id is null then done.last_error else known.reason end order by done.position),
      array_agg(done.id) filter (where known.job_id is not null and done.outcome <> 'cancel')
    into _pgtasks_finish_jobs.outcomes, _pgtasks_finish_jobs.last_errors, v_stopped_ids
    from unnest(
      _pgtasks_finish_jobs.ids,
      _pgtasks_finish_jobs.locked_ats,
      _pgtasks_finish_jobs.outcomes,
      _pgtasks_finish_jobs.last_errors
    ) with ordinality as done (id, locked_at, outcome, last_error, position)
    left join {gw}._pgtasks_cancellations as known
      on known.job_id = any(array[done.id])
      and known.locked_by = _pgtasks_finish_jobs.worker_id
      and known.locked_at = done.locked_at
      and done.outcome <> 'success';
  end if;

  if 'cancel' = any(_pgtasks_finish_jobs.outcomes) then
    select json_object_agg(done.id, done.reason)::text into v_cancelled
    from unnest(
      _pgtasks_finish_jobs.ids, _pgtasks_finish_jobs.outcomes, _pgtasks_finish_jobs.last_errors
    ) as done (id, outcome, reason)
    where done.outcome = 'cancel';
    perform set_config('pgtasks.cancelled', v_cancelled, true);
  end if;

  with ended as (
    delete from {gw}._private_jobs as jobs
    using (
      select done.id, done.locked_at
      from unnest(
        _pgtasks_finish_jobs.ids, _pgtasks_finish_jobs.locked_ats, _pgtasks_finish_jobs.outcomes
      ) as done (id, locked_at, outcome)
      where done.outcome in ('success', 'cancel')
      order by done.id
    ) as done
    where jobs.id = any(array[done.id])
      and jobs.locked_by = _pgtasks_finish_jobs.worker_id
      and jobs.locked_at = done.locked_at
      and (v_held_ids is null or jobs.id = any(v_held_ids))
    returning jobs.id, jobs.job_queue_id, done.locked_at
  )
  select
    array_agg(ended.id),
    array_agg('deleted'::text),
    array_agg(ended.job_queue_id) filter (where ended.job_queue_id is not null),
    array_agg(ended.locked_at) filter (where ended.job_queue_id is not null)
  into v_ended_ids, v_states, v_queue_ids, v_locked_ats
  from ended;

  if v_cancelled is not null then
    perform set_config('pgtasks.cancelled', '', true);
    -- Who waits for one could not tell it from one that has succeeded. Where `cancel` was said it is the caller's affair.
    insert into {gw}._pgtasks_results as results (job_id, state, error, expires_at)
    select known.job_id, 'cancelled', known.reason, now() + interval '1 hour'
    from {gw}._pgtasks_cancellations as known
    where known.job_id = any(v_stopped_ids) and known.job_id = any(v_ended_ids)
    on conflict (job_id) do update
    set
      state = excluded.state, value = null, error = excluded.error, finished_at = excluded.finished_at,
      expires_at = excluded.expires_at;
    delete from {gw}._pgtasks_cancellations as known where known.job_id = any(v_ended_ids);
  end if;

  if not v_all_succeeded then
    with ended as (
      update {gw}._private_jobs as jobs
      set
        attempts = case
          when done.outcome = 'fail' then jobs.max_attempts
          when done.outcome in ('snooze', 'return') and done.superseded is not true
            then greatest(jobs.attempts - 1, 0)
          else jobs.attempts
        end,
        run_at = case
          when done.outcome in ('retry', 'snooze') and done.run_at is not null then done.run_at
          when done.outcome = 'retry' and done.delay is null
            then greatest(now(), jobs.run_at) + make_interval(secs => exp(least(greatest(jobs.attempts, 0), 10)))
          when done.outcome in ('retry', 'snooze')
            -- An interval has bounds, and nothing that one job says may fail the others.
            then now() + make_interval(secs => least(greatest(coalesce(done.delay, 0), 0), 1e10))
          else jobs.run_at
        end,
        last_error = case when done.outcome in ('retry', 'fail') then done.last_error else jobs.last_error end,
        payload = coalesce(done.payload, jobs.payload),
        locked_at = null,
        locked_by = null,
        updated_at = now()
      from (
        select done.*, done.id = any(v_superseded_ids) as superseded
        from unnest(
          _pgtasks_finish_jobs.ids,
          _pgtasks_finish_jobs.locked_ats,
          _pgtasks_finish_jobs.outcomes,
          _pgtasks_finish_jobs.last_errors,
          _pgtasks_finish_jobs.delays,
          _pgtasks_finish_jobs.payloads,
          _pgtasks_finish_jobs.run_ats
        ) as done (id, locked_at, outcome, last_error, delay, payload, run_at)
        where done.outcome not in ('success', 'cancel') and done.id = any(v_held_ids)
        order by done.id
      ) as done
      where jobs.id = any(array[done.id])
        and jobs.locked_by = _pgtasks_finish_jobs.worker_id
        and jobs.locked_at = done.locked_at
      returning
        jobs.id,
        jobs.job_queue_id,
        done.locked_at,
        case
          when done.superseded then 'superseded'
          when done.outcome = 'snooze' then 'snoozed'
          when done.outcome = 'return' then 'returned'
          when jobs.attempts >= jobs.max_attempts then 'failed'
          else 'retrying'
        end as state
    )
    select
      array_agg(ended.id),
      array_agg(ended.state),
      array_agg(ended.job_queue_id) filter (where ended.job_queue_id is not null),
      array_agg(ended.locked_at) filter (where ended.job_queue_id is not null),
      count(*) filter (where ended.state = 'returned')
    into v_more_ids, v_more_states, v_more_queue_ids, v_more_locked_ats, v_returned
    from ended;
    v_ended_ids := v_ended_ids || v_more_ids;
    v_states := v_states || v_more_states;
    v_queue_ids := v_queue_ids || v_more_queue_ids;
    v_locked_ats := v_locked_ats || v_more_locked_ats;
  end if;

  if v_queue_ids is not null then
    perform {gw}._pgtasks_free_queues(_pgtasks_finish_jobs.worker_id, v_queue_ids, v_locked_ats);
  end if;

  if exists (select from {gw}._pgtasks_waits as waits where waits.job_id = any(v_ended_ids)) then
    perform {gw}._pgtasks_tell_waiters(array(
      select ended.id
      from unnest(v_ended_ids, v_states) as ended (id, state)
      where ended.state in ('deleted', 'failed', 'superseded')
    ));
  end if;

  if v_returned > 0 then
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', v_returned)::text);
  end if;
  return query select ended.id, ended.state from unnest(v_ended_ids, v_states) as ended (id, state);
  return query select busy.id, 'busy' from unnest(v_busy_ids) as busy (id);
end;
$pgtasks$;
