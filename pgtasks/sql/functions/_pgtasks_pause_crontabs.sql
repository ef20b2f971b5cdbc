-- Has no jobs added for crontab entries, or has them added again. What is due meanwhile is passed over and never made up
-- for, also if no worker runs then. Returned are those that are known; the others are left as they are.
create or replace function {gw}._pgtasks_pause_crontabs(identifiers text[], pause boolean)
returns setof text
language plpgsql
volatile
as $pgtasks$
begin
  -- Whoever schedules is waited for, so that after this call nothing is added for what was paused.
  perform pg_advisory_xact_lock(hashtextextended({gw_text} || ' crontab', 0));
  if not _pgtasks_pause_crontabs.pause then
    update {gw}._private_known_crontabs as known
    set last_execution = greatest(known.last_execution, date_trunc('minute', clock_timestamp()))
    from {gw}._pgtasks_crontabs as noted
    where noted.identifier = known.identifier
      and noted.identifier = any(_pgtasks_pause_crontabs.identifiers)
      and noted.paused_at is not null;
  end if;
  insert into {gw}._pgtasks_crontabs as noted (identifier, paused_at)
  select known.identifier, case when _pgtasks_pause_crontabs.pause then clock_timestamp() end
  from {gw}._private_known_crontabs as known
  where known.identifier = any(_pgtasks_pause_crontabs.identifiers)
  order by known.identifier
  on conflict (identifier) do update
  set paused_at = excluded.paused_at
  where (noted.paused_at is null) <> (excluded.paused_at is null);

  return query
    select known.identifier
    from {gw}._private_known_crontabs as known
    where known.identifier = any(_pgtasks_pause_crontabs.identifiers)
    order by known.identifier;
end;
$pgtasks$;
