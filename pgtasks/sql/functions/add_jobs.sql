create or replace function {gw}.add_jobs(specs {gw}.job_spec[], job_key_preserve_run_at boolean = false)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
begin
  return query
    select * from {gw}._pgtasks_add_specs(add_jobs.specs, add_jobs.job_key_preserve_run_at, announce => 0);
end;
$pgtasks$;
