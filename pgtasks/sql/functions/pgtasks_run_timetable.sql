create or replace function {gw}.pgtasks_run_timetable(id text)
returns {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_timetable {gw}._pgtasks_timetables;
begin
  select known.* into v_timetable
  from {gw}._pgtasks_timetables as known
  where known.id = pgtasks_run_timetable.id;
  if not found then
    return null;
  end if;
  return {gw}._pgtasks_add_job_of_timetable(v_timetable, clock_timestamp(), backfilled => false, notify => true);
end;
$pgtasks$;
