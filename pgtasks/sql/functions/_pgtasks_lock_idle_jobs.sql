-- Locks those of the jobs that an administrator may touch, in the order of their ids as everything does that locks more
-- than one, and returns their ids.
create or replace function {gw}._pgtasks_lock_idle_jobs(job_ids bigint[])
returns bigint[]
language sql
volatile
as $pgtasks$
  select array_agg(idle.id)
  from (
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.id = any(job_ids)
      and (jobs.locked_at is null or jobs.locked_at < now() - interval '4 hours')
    order by jobs.id
    for update
  ) as idle
$pgtasks$;
