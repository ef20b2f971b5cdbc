create or replace function {gw}.permanently_fail_jobs(job_ids bigint[], error_message text = null)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[] := {gw}._pgtasks_lock_idle_jobs(permanently_fail_jobs.job_ids);
begin
  return query
    update {gw}._private_jobs as jobs
    set
      attempts = jobs.max_attempts,
      last_error = coalesce(permanently_fail_jobs.error_message, 'Manually marked as failed'),
      updated_at = now()
    where jobs.id = any(v_ids)
    returning jobs.*;
end;
$pgtasks$;
