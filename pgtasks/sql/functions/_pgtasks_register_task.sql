-- The id of a task that was not found. One that was deleted gets its old number back: workers of the reference look the
-- numbers of their tasks up once, when they start, and would not take its jobs under another one.
--
-- `on conflict do nothing` uses up an identity value even where it does nothing, so callers look before they ask.
create or replace function {gw}._pgtasks_register_task(identifier text)
returns integer
language plpgsql
volatile
as $pgtasks$
declare
  v_id integer;
begin
  loop
    v_id := {gw}._pgtasks_forgotten_task(_pgtasks_register_task.identifier);
    if v_id is not null then
      insert into {gw}._private_tasks (id, identifier)
      overriding system value
      values (v_id, _pgtasks_register_task.identifier)
      on conflict do nothing;
    else
      insert into {gw}._private_tasks (identifier)
      values (_pgtasks_register_task.identifier)
      on conflict do nothing
      returning id into v_id;
    end if;
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
