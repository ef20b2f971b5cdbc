create or replace function {gw}.pgtasks_resume_timetable(id text)
returns boolean
language plpgsql
volatile
as $pgtasks$
begin
  -- Times that have passed while it was paused are not made up for.
  update {gw}._pgtasks_timetables as known
  set paused = false, settled_until = clock_timestamp(), next_at = null, updated_at = now()
  where known.id = pgtasks_resume_timetable.id and known.paused;
  if found then
    perform pg_notify('pgtasks:timetables', '');
    return true;
  end if;
  return exists (select from {gw}._pgtasks_timetables as known where known.id = pgtasks_resume_timetable.id);
end;
$pgtasks$;
