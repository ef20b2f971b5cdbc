-- Whether a claim could take a job now. Locks nothing and looks the way a claim does.
create or replace function {gw}._pgtasks_has_runnable(task_identifiers text[], forbidden_flags text[])
returns boolean
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $pgtasks$
declare
  v_window integer := 100;
  v_task_ids integer[];
  v_flags_matter boolean := cardinality(_pgtasks_has_runnable.forbidden_flags) > 0;
  v_seen bigint;
  v_found boolean;
begin
  v_task_ids := array(
    select tasks.id
    from {gw}._private_tasks as tasks
    where tasks.identifier = any(_pgtasks_has_runnable.task_identifiers)
  );
  return null;
end;
$pgtasks$;
