-- Gives back what a worker holds, as if it had returned each job without starting it, and returns the ids of these
-- jobs. For workers that are dead, and for claims whose answer was lost: a worker that is alive keeps the jobs it knows
-- of.
create or replace function {gw}._pgtasks_release_worker(worker_id text, keep_ids bigint[] = '{{}}')
returns setof bigint
language plpgsql
volatile
as $pgtasks$
declare
  v_ids bigint[];
  v_locked_ats timestamptz[];
  v_queue_ids integer[];
begin
  select array_agg(jobs.id), array_agg(jobs.locked_at) into v_ids, v_locked_ats
  from {gw}._private_jobs as jobs
  where jobs.locked_by = _pgtasks_release_worker.worker_id
    and jobs.id <> all(_pgtasks_release_worker.keep_ids);

  return query
    select returned.id
    from {gw}._pgtasks_finish_jobs(
      _pgtasks_release_worker.worker_id,
      v_ids,
      v_locked_ats,
      array_fill('return'::text, array[coalesce(cardinality(v_ids), 0)]),
      null,
      null,
      null,
      null
    ) as returned;

  -- Queues whose jobs are gone: the worker's lock on them is all that is left.
  select array_agg(held.id) into v_queue_ids
  from (
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where job_queues.locked_by = _pgtasks_release_worker.worker_id
      and not exists (
        select from {gw}._private_jobs as jobs
        where jobs.id = any(_pgtasks_release_worker.keep_ids)
          and jobs.job_queue_id = job_queues.id
          and jobs.locked_by = _pgtasks_release_worker.worker_id
      )
    order by job_queues.id
    for update
  ) as held;
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  where job_queues.id = any(v_queue_ids);
end;
$pgtasks$;
