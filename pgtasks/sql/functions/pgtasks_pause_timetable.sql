create or replace function {gw}.pgtasks_pause_timetable(id text)
returns boolean
language plpgsql
volatile
as $pgtasks$
begin
  update {gw}._pgtasks_timetables as known
  set paused = true, updated_at = case when known.paused then known.updated_at else now() end
  where known.id = pgtasks_pause_timetable.id;
  return found;
end;
$pgtasks$;
