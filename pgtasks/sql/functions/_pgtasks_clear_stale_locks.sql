-- Clears those locks of the jobs that are older than four hours, and with them those on their queues, as the sweep would
-- within minutes: what an administrator changes is not to wait for it. Returns the ids that it was given.
create or replace function {gw}._pgtasks_clear_stale_locks(job_ids bigint[])
returns bigint[]
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[] := array(
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.id = any(_pgtasks_clear_stale_locks.job_ids) and jobs.locked_at < now() - interval '4 hours'
    order by jobs.id
    for update
  );
begin
  if cardinality(v_ids) > 0 then
    -- A queue that somebody is just locking or unlocking is left to them.
    update {gw}._private_job_queues as job_queues
    set locked_at = null, locked_by = null
    where job_queues.id = any(array(
      select held.id
      from {gw}._private_jobs as jobs
      join {gw}._private_job_queues as held on held.id = jobs.job_queue_id
      where jobs.id = any(v_ids) and held.locked_at < now() - interval '4 hours'
      order by held.id
      for no key update of held skip locked
    ));
    update {gw}._private_jobs as jobs
    set locked_at = null, locked_by = null
    where jobs.id = any(v_ids);
  end if;
  return _pgtasks_clear_stale_locks.job_ids;
end;
$pgtasks$;
