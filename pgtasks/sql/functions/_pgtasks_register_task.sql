-- The id of a task that was not found. `on conflict do nothing` uses up an identity value even where it does nothing,
-- so callers look before they ask.
create or replace function {gw}._pgtasks_register_task(identifier text)
returns integer
language plpgsql
volatile
as $pgtasks$
declare
  v_id integer;
begin
  loop
    insert into {gw}._private_tasks (identifier)
    values (_pgtasks_register_task.identifier)
    on conflict do nothing
    returning id into v_id;
    exit when found;

    -- Someone else was quicker, and may have removed it again before this look.
    select tasks.id into v_id
    from {gw}._private_tasks as tasks
    where tasks.identifier = _pgtasks_register_task.identifier;
    exit when found;
  end loop;
  return v_id;
end;
$pgtasks$;
