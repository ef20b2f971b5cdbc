-- Flags as they are stored, {{"flag": true, ...}}; null when there are none.
create or replace function {gw}._pgtasks_flags_object(flags text[])
returns jsonb
language sql
immutable
as $pgtasks$
  select jsonb_object_agg(flag, true) from unnest(flags) as flag
$pgtasks$;
