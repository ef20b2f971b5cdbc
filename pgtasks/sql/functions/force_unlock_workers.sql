create or replace function {gw}.force_unlock_workers(worker_ids text[])
returns void
language plpgsql
volatile
as $pgtasks$
declare
  v_job_ids bigint[];
  v_queue_ids integer[];
begin
  select array_agg(held.id) into v_job_ids
  from (
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.locked_at >= '-infinity' and jobs.locked_by = any(force_unlock_workers.worker_ids)
    order by jobs.id + 0 -- not along the primary key, in search of the few among all
    for update
  ) as held;
  update {gw}._private_jobs as jobs
  set locked_at = null, locked_by = null
  where jobs.id = any(v_job_ids);

  select array_agg(held.id) into v_queue_ids
  from (
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where job_queues.locked_by = any(force_unlock_workers.worker_ids)
    order by job_queues.id
    for update
  ) as held;
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  where job_queues.id = any(v_queue_ids);
end;
$pgtasks$;
