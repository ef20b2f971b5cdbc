-- Notes the tasks or queues that are being deleted, by whomever, for _pgtasks_restore_names. With its owner's rights,
-- since whoever may delete them need not have any on our tables.
create or replace function {gw}._pgtasks_remember_names()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $pgtasks$
begin
  insert into {gw}._pgtasks_forgotten_names (kind, id, name)
  select tg_argv[0], deleted.id, to_jsonb(deleted) ->> tg_argv[1]
  from deleted
  on conflict (kind, id) do update set name = excluded.name, ts = excluded.ts;
  return null;
end;
$pgtasks$;
