-- Does what force_unlock_workers does, and tells for each worker what it held. Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_force_unlock(worker_ids text[])
returns table (worker_id text, jobs bigint, oldest_lock timestamptz)
language plpgsql
volatile
set enable_seqscan = off
set jit = off
as $pgtasks$
declare
  v_jobs bigint[];
  v_oldest_locks timestamptz[];
begin
  select
    array_agg(held.jobs order by worker.position),
    array_agg(least(held.oldest_lock, queue.oldest_lock) order by worker.position)
  into v_jobs, v_oldest_locks
  from unnest(_pgtasks_force_unlock.worker_ids) with ordinality as worker (id, position)
  cross join lateral (
    select count(*) as jobs, min(held_jobs.locked_at) as oldest_lock
    from {gw}._private_jobs as held_jobs
    where held_jobs.locked_at >= '-infinity' and held_jobs.locked_by = worker.id
  ) as held
  cross join lateral (
    select min(job_queues.locked_at) as oldest_lock
    from {gw}._private_job_queues as job_queues
    where job_queues.locked_by = worker.id
  ) as queue;

  perform {gw}.force_unlock_workers(_pgtasks_force_unlock.worker_ids);

  -- Workers need not wait for their next look.
  perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', sum(held))::text)
  from unnest(v_jobs) as held
  having sum(held) > 0;

  return query
    select *
    from unnest(_pgtasks_force_unlock.worker_ids, v_jobs, v_oldest_locks);
end;
$pgtasks$;
