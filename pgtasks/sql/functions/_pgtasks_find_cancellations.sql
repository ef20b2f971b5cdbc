-- Returns the jobs of these workers that somebody has cancelled and that they still hold. Why the settings, see
-- _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_find_cancellations(worker_ids text[])
returns table (worker_id text, job_id bigint, locked_at timestamptz, task text, reason text)
language sql
stable
set enable_seqscan = off
set jit = off
as $pgtasks$
  select jobs.locked_by, jobs.id, jobs.locked_at, tasks.identifier, known.reason
  from {gw}._pgtasks_cancellations as known
  join {gw}._private_jobs as jobs
    on jobs.id = known.job_id and jobs.locked_by = known.locked_by and jobs.locked_at = known.locked_at
  left join {gw}._private_tasks as tasks on tasks.id = jobs.task_id
  where known.locked_by = any(worker_ids)
$pgtasks$;
