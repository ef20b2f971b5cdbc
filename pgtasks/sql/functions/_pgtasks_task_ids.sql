-- The ids of tasks, in the order of their names. Those that are not known are registered, in an order that is the same for
-- all callers; with register false, null is returned if there are any.
create or replace function {gw}._pgtasks_task_ids(identifiers text[], register boolean)
returns integer[]
language plpgsql
volatile
as $pgtasks$
declare
  v_missing text[];
begin
  v_missing := array(
    select wanted.identifier
    from unnest(_pgtasks_task_ids.identifiers) as wanted (identifier)
    where not exists (select from {gw}._private_tasks as tasks where tasks.identifier = wanted.identifier)
    order by wanted.identifier
  );
  if cardinality(v_missing) > 0 then
    if not _pgtasks_task_ids.register then
      return null;
    end if;
    perform {gw}._pgtasks_register_task(missing.identifier)
    from unnest(v_missing) with ordinality as missing (identifier, position)
    order by missing.position;
  end if;
  return array(
    select coalesce(tasks.id, {gw}._pgtasks_register_task(wanted.identifier))
    from unnest(_pgtasks_task_ids.identifiers) with ordinality as wanted (identifier, position)
    left join {gw}._private_tasks as tasks on tasks.identifier = wanted.identifier
    order by wanted.position
  );
end;
$pgtasks$;
