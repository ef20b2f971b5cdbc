-- Whether a claim could take a job now, or could if somebody else who has locked it let go of it. Looks as a claim does,
-- and so locks one job for as long as the transaction lasts. Why the settings, see _pgtasks_claim_jobs.
create or replace function {gw}._pgtasks_has_runnable(task_identifiers text[], forbidden_flags text[])
returns boolean
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
declare
  v_task_ids integer[];
  v_found boolean;
begin
  v_task_ids := array(
    select tasks.id
    from {gw}._private_tasks as tasks
    where tasks.identifier = any(_pgtasks_has_runnable.task_identifiers)
  );
  select ready.places is not null or ready.contended into v_found
  from {gw}._pgtasks_lock_ready_jobs(
    v_task_ids, _pgtasks_has_runnable.forbidden_flags, 1, null, null, null
  ) as ready;
  if not v_found then
    select heads.places is not null or heads.contended into v_found
    from {gw}._pgtasks_lock_queue_heads(
      v_task_ids, _pgtasks_has_runnable.forbidden_flags, 1, null, null, null, null, null, null
    ) as heads;
  end if;
  return v_found;
end;
$pgtasks$;
