-- The tasks that no job has, in the order of their ids: of all tasks, or of those given. Every job is in exactly one of
-- the four indexes that are asked here: it is available, with a queue or without, or it is locked, or it has failed.
-- `not exists` would be planned as a join, and so by statistics.
create or replace function {gw}._pgtasks_find_unused_tasks(among integer[], max_tasks integer)
returns integer[]
language plpgsql
volatile
as $pgtasks$
declare
  v_used integer[];
begin
  v_used := array(
    select distinct jobs.task_id from {gw}._private_jobs as jobs where jobs.locked_at >= '-infinity'
    union
    select distinct jobs.task_id
    from {gw}._private_jobs as jobs
    where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts
  );
  return array(
    select tasks.id
    from {gw}._private_tasks as tasks
    where (_pgtasks_find_unused_tasks.among is null or tasks.id = any(_pgtasks_find_unused_tasks.among))
      and tasks.id not in (select used.id from unnest(v_used) as used (id))
      and (
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.is_available and jobs.job_queue_id is null and jobs.task_id = tasks.id
        limit 1
      ) is null
      and (
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.task_id >= -2147483648
          and jobs.task_id = tasks.id
        limit 1
      ) is null
    order by tasks.id
    limit _pgtasks_find_unused_tasks.max_tasks
  );
end;
$pgtasks$;
