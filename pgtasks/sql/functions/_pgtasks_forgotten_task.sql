-- The number that a task had when it was last deleted, by whomever, if no other task has it now; null if there is none.
-- With its owner's rights, since whoever may register a task need not have any on our tables.
create or replace function {gw}._pgtasks_forgotten_task(identifier text)
returns integer
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $pgtasks$
  select forgotten.id
  from {gw}._pgtasks_forgotten_names as forgotten
  where forgotten.kind = 'task'
    and forgotten.name = identifier
    and not exists (select from {gw}._private_tasks as tasks where tasks.id = forgotten.id)
  order by forgotten.id desc
  limit 1
$pgtasks$;
