-- Deletes cancelled jobs that nobody holds any more, as after a Graphile Worker has failed one or its lock was cleared,
-- and forgets cancellations of claims that have ended. Returns how many jobs it has deleted. Nothing is waited for.
create or replace function {gw}._pgtasks_sweep_cancellations(out removed_jobs bigint)
language plpgsql
volatile
as $pgtasks$
declare
  v_known_ids bigint[];
  v_left_ids bigint[];
begin
  -- A job may be cancelled again meanwhile: that waits here, and what follows sees no half of it.
  v_known_ids := array(select known.job_id from {gw}._pgtasks_cancellations as known for update skip locked);
  v_left_ids := array(
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.id = any(v_known_ids) and jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
    order by jobs.id
    for update skip locked
  );

  if cardinality(v_left_ids) > 0 then
    perform set_config(
      'pgtasks.cancelled',
      (
        select json_object_agg(known.job_id, known.reason)::text
        from {gw}._pgtasks_cancellations as known
        where known.job_id = any(v_left_ids)
      ),
      true
    );
    delete from {gw}._private_jobs as jobs where jobs.id = any(v_left_ids);
    perform set_config('pgtasks.cancelled', '', true);
    -- Who waits for one could not tell it from one that has succeeded.
    insert into {gw}._pgtasks_results as results (job_id, state, error, expires_at)
    select known.job_id, 'cancelled', known.reason, now() + interval '1 hour'
    from {gw}._pgtasks_cancellations as known
    where known.job_id = any(v_left_ids)
    on conflict (job_id) do update
    set
      state = excluded.state, value = null, error = excluded.error, finished_at = excluded.finished_at,
      expires_at = excluded.expires_at;
    perform {gw}._pgtasks_tell_waiters(v_left_ids);
  end if;
  removed_jobs := cardinality(v_left_ids);

  delete from {gw}._pgtasks_cancellations as known
  where known.job_id = any(v_known_ids)
    and not exists (
      select from {gw}._private_jobs as jobs
      where jobs.id = known.job_id
        and (
          (jobs.locked_by, jobs.locked_at) is not distinct from (known.locked_by, known.locked_at)
          -- Its row is locked just now, or it is to be deleted by the next sweep.
          or (jobs.locked_at is null and jobs.attempts >= jobs.max_attempts)
        )
    );
end;
$pgtasks$;
