-- Makes crontab entries known: from now on, by the clock (null: the database's), what is missed of them can be made up
-- for, and before they were known nothing was. What an entry is (JSON) is noted for whoever looks at it.
--
-- Returned are a row with the clock alone, and one for each entry with what is known of it.
create or replace function {gw}._pgtasks_record_crontabs(
  host text,
  clock timestamptz,
  identifiers text[],
  entries text[]
)
returns table (found_at timestamptz, identifier text, known_since timestamptz, last_execution timestamptz)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v_clock timestamptz := coalesce(_pgtasks_record_crontabs.clock, clock_timestamp());
begin
  return query select v_clock, null::text, null::timestamptz, null::timestamptz;

  -- In one order, so that two that record the same entries at once do not deadlock.
  insert into {gw}._private_known_crontabs (identifier, known_since)
  select named.identifier, v_clock
  from unnest(identifiers) as named (identifier)
  where not exists (
    select from {gw}._private_known_crontabs as known where known.identifier = named.identifier
  )
  order by named.identifier
  on conflict do nothing;

  insert into {gw}._pgtasks_crontabs as noted (identifier, entry, recorded_at, recorded_by)
  select named.identifier, named.entry::json, v_clock, host
  from unnest(identifiers, entries) as named (identifier, entry)
  where not exists (
    select from {gw}._pgtasks_crontabs as same
    where same.identifier = named.identifier and same.entry::text = named.entry
  )
  order by named.identifier
  on conflict (identifier) do update
  set entry = excluded.entry, recorded_at = excluded.recorded_at, recorded_by = excluded.recorded_by;

  return query
    select null::timestamptz, known.identifier, known.known_since, known.last_execution
    from {gw}._private_known_crontabs as known
    where known.identifier = any(identifiers);
end;
$pgtasks$;
