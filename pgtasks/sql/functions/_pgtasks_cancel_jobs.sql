-- Cancels jobs, and returns a row for each that there is, with the job as it was deleted or as it is now:
--   removed   it was waiting, or had failed for good: it is deleted, while the setting pgtasks.cancelled tells triggers
--             so; see _pgtasks_finish_jobs
--   stopping  a worker of pgtasks holds it, and is told to stop it
--   running   somebody else does (a Graphile Worker), who cannot be told
-- What is held does not run again, whatever becomes of its worker: it loses its key and its attempts, as by remove_job,
-- and its claim is noted, so that whoever ends that claim other than with success deletes the job.
--
-- A lock that is older than four hours counts for nothing, unless a worker is known to hold it still.
create or replace function {gw}._pgtasks_cancel_jobs(job_ids bigint[], reason text = null)
returns table (state text, job {gw}._private_jobs)
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[];
  v_idle_ids bigint[];
  v_held_ids bigint[];
  v_known_ids bigint[];
begin
  -- A claim or an end that is under way is waited for; what it did, and that its worker is known, is seen by what follows.
  v_ids := array(
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.id = any(_pgtasks_cancel_jobs.job_ids)
    order by jobs.id
    for update
  );

  select
    array_agg(named.id) filter (where not (named.is_known or named.is_locked)),
    array_agg(named.id) filter (where named.is_known or named.is_locked),
    array_agg(named.id) filter (where named.is_known)
  into v_idle_ids, v_held_ids, v_known_ids
  from (
    select
      jobs.id,
      coalesce(jobs.locked_at >= now() - interval '4 hours', false) as is_locked,
      jobs.locked_at is not null and exists (
        select from {gw}._pgtasks_workers as workers
        where workers.id = jobs.locked_by and workers.released_at is null
      ) as is_known
    from {gw}._private_jobs as jobs
    where jobs.id = any(v_ids)
  ) as named;

  if v_idle_ids is not null then
    perform set_config(
      'pgtasks.cancelled',
      (select json_object_agg(idle.id, _pgtasks_cancel_jobs.reason)::text from unnest(v_idle_ids) as idle (id)),
      true
    );
    return query
      with removed as (
        delete from {gw}._private_jobs as jobs
        where jobs.id = any(v_idle_ids)
        returning jobs
      )
      select 'removed', removed.jobs from removed;
    perform set_config('pgtasks.cancelled', '', true);
    -- Who waits for one, or begins to before this transaction ends, could not tell it from one that has succeeded.
    insert into {gw}._pgtasks_results as results (job_id, state, error, expires_at)
    select idle.id, 'cancelled', _pgtasks_cancel_jobs.reason, now() + interval '1 hour'
    from unnest(v_idle_ids) as idle (id)
    order by idle.id
    on conflict (job_id) do update
    set
      state = excluded.state, value = null, error = excluded.error, finished_at = excluded.finished_at,
      expires_at = excluded.expires_at;
    perform {gw}._pgtasks_tell_waiters(v_idle_ids);
  end if;

  if v_held_ids is not null then
    return query
      with marked as (
        update {gw}._private_jobs as jobs
        -- Why the clock's time, see _pgtasks_put_keyed_job.
        set
          key = null,
          -- A Graphile Worker that gives a job back takes one off.
          attempts = case
            when jobs.id = any(v_known_ids) then jobs.max_attempts
            else least(jobs.max_attempts + 1, 32767)
          end,
          updated_at = clock_timestamp()
        where jobs.id = any(v_held_ids)
        returning jobs
      )
      select case when (marked.jobs).id = any(v_known_ids) then 'stopping' else 'running' end, marked.jobs
      from marked;
    insert into {gw}._pgtasks_cancellations as known (job_id, locked_by, locked_at, reason)
    select jobs.id, jobs.locked_by, jobs.locked_at, _pgtasks_cancel_jobs.reason
    from {gw}._private_jobs as jobs
    where jobs.id = any(v_held_ids)
    order by jobs.id
    on conflict (job_id) do update
    set
      reason = case
        when (known.locked_by, known.locked_at) is not distinct from (excluded.locked_by, excluded.locked_at)
          then coalesce(known.reason, excluded.reason)
        else excluded.reason
      end,
      locked_by = excluded.locked_by,
      locked_at = excluded.locked_at,
      requested_at = excluded.requested_at;
    -- Also for one that was cancelled before: word of it may have been lost.
    perform pg_notify('pgtasks:cancel', worker.id)
    from (select distinct jobs.locked_by from {gw}._private_jobs as jobs where jobs.id = any(v_known_ids)) as worker (id);
  end if;
end;
$pgtasks$;
