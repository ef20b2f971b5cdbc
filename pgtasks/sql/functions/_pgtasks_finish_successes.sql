-- Deletes jobs that have succeeded, and returns the ids of those that it did not delete, or null if there are none:
-- _pgtasks_finish_jobs tells what is the matter with them. The arrays belong together by position; locked_ats are in
-- microseconds since 2000, as PostgreSQL keeps them.
create or replace function {gw}._pgtasks_finish_successes(worker_id text, ids bigint[], locked_ats bigint[])
returns bigint[]
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $pgtasks$
declare
  v_ended_ids bigint[];
  v_queue_ids integer[];
  v_locked_ats timestamptz[];
begin
  select deleted.* into v_ended_ids, v_queue_ids, v_locked_ats
  from {gw}._pgtasks_delete_held(
    _pgtasks_finish_successes.worker_id, _pgtasks_finish_successes.ids, _pgtasks_finish_successes.locked_ats
  ) as deleted;

  if cardinality(array_remove(v_queue_ids, null)) > 0 then
    perform {gw}._pgtasks_free_queues(_pgtasks_finish_successes.worker_id, v_queue_ids, v_locked_ats);
  end if;
  if exists (select from {gw}._pgtasks_waits as waits where waits.job_id = any(v_ended_ids)) then
    perform {gw}._pgtasks_tell_waiters(v_ended_ids);
  end if;

  if cardinality(v_ended_ids) = cardinality(_pgtasks_finish_successes.ids) then
    return null;
  end if;
  return array(
    select done.id
    from unnest(_pgtasks_finish_successes.ids) as done (id)
    where done.id <> all(coalesce(v_ended_ids, '{{}}'))
  );
end;
$pgtasks$;
