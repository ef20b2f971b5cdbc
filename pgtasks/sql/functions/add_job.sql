create or replace function {gw}.add_job(
  identifier text,
  payload json = null,
  queue_name text = null,
  run_at timestamptz = null,
  max_attempts integer = null,
  job_key text = null,
  priority integer = null,
  flags text[] = null,
  job_key_mode text = 'replace'
)
returns {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
begin
  return {gw}._pgtasks_add_job(
    add_job.identifier,
    add_job.payload,
    add_job.queue_name,
    add_job.run_at,
    add_job.max_attempts,
    add_job.job_key,
    add_job.priority,
    add_job.flags,
    add_job.job_key_mode,
    notify => true
  );
end;
$pgtasks$;
