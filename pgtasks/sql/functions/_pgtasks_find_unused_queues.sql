-- The queues that no job has and nobody has locked, in the order of their ids: of all queues, or of those given. Every
-- job that has a queue is in exactly one of the three indexes that are asked here: it is available, locked, or failed.
-- Why no `not exists`, see _pgtasks_find_unused_tasks.
create or replace function {gw}._pgtasks_find_unused_queues(among integer[], max_queues integer)
returns integer[]
language plpgsql
volatile
as $pgtasks$
declare
  v_used integer[];
begin
  v_used := array(
    select distinct jobs.job_queue_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at >= '-infinity' and jobs.job_queue_id is not null
    union
    select distinct jobs.job_queue_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts and jobs.job_queue_id is not null
  );
  return array(
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where (_pgtasks_find_unused_queues.among is null or job_queues.id = any(_pgtasks_find_unused_queues.among))
      and job_queues.is_available
      and job_queues.id not in (select used.id from unnest(v_used) as used (id))
      and (
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.is_available and jobs.job_queue_id is not null and jobs.job_queue_id = job_queues.id
        limit 1
      ) is null
    order by job_queues.id
    limit _pgtasks_find_unused_queues.max_queues
  );
end;
$pgtasks$;
