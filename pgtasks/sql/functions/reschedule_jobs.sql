create or replace function {gw}.reschedule_jobs(
  job_ids bigint[],
  run_at timestamptz = null,
  priority integer = null,
  attempts integer = null,
  max_attempts integer = null
)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[] := {gw}._pgtasks_lock_idle_jobs(reschedule_jobs.job_ids);
begin
  return query
    update {gw}._private_jobs as jobs
    set
      run_at = coalesce(reschedule_jobs.run_at, jobs.run_at),
      priority = coalesce(reschedule_jobs.priority::smallint, jobs.priority),
      attempts = coalesce(reschedule_jobs.attempts::smallint, jobs.attempts),
      max_attempts = coalesce(reschedule_jobs.max_attempts::smallint, jobs.max_attempts),
      updated_at = now()
    where jobs.id = any(v_ids)
    returning jobs.*;
end;
$pgtasks$;
