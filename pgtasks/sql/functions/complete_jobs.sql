create or replace function {gw}.complete_jobs(job_ids bigint[])
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[] := {gw}._pgtasks_lock_idle_jobs(complete_jobs.job_ids);
begin
  return query
    delete from {gw}._private_jobs as jobs
    where jobs.id = any(v_ids)
    returning jobs.*;
end;
$pgtasks$;
