create or replace function {gw}.remove_job(job_key text)
returns {gw}._private_jobs
language plpgsql
volatile
strict
as $pgtasks$
declare
  v_job {gw}._private_jobs;
begin
  loop
    select jobs.* into v_job
    from {gw}._private_jobs as jobs
    where jobs.key = remove_job.job_key
    for update;
    exit when found;

    -- The job that was waited for may have lost its key to one that this look did not see.
    if not exists (select from {gw}._private_jobs as jobs where jobs.key = remove_job.job_key) then
      return null;
    end if;
  end loop;

  if v_job.locked_at is null or v_job.locked_at < now() - interval '4 hours' then
    delete from {gw}._private_jobs as jobs
    where jobs.id = v_job.id
    returning jobs.* into v_job;
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', -1)::text);
  else
    -- It runs on, but not again; why the clock's time, see _pgtasks_put_keyed_job.
    update {gw}._private_jobs as jobs
    set key = null, attempts = jobs.max_attempts, updated_at = clock_timestamp()
    where jobs.id = v_job.id
    returning jobs.* into v_job;
  end if;
  return v_job;
end;
$pgtasks$;
