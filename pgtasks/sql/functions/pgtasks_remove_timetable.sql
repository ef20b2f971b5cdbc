create or replace function {gw}.pgtasks_remove_timetable(id text)
returns boolean
language plpgsql
volatile
as $pgtasks$
begin
  delete from {gw}._pgtasks_timetables as known where known.id = pgtasks_remove_timetable.id;
  return found;
end;
$pgtasks$;
