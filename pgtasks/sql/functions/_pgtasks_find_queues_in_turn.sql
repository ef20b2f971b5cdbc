-- The queues that are free, not forbidden, and have an eligible job, in the claim order of these, at most max_queues:
-- looks at every queue that has jobs. Locks nothing.
create or replace function {gw}._pgtasks_find_queues_in_turn(
  task_ids integer[],
  forbidden_flags text[],
  max_queues integer,
  forbidden_queue_ids integer[] = null
)
returns integer[]
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := coalesce(cardinality(forbidden_flags) > 0, false);
begin
  return array(
    with recursive queue (id) as (
      (
        select jobs.job_queue_id
        from {gw}._private_jobs as jobs
        where jobs.is_available and jobs.job_queue_id is not null
        order by jobs.job_queue_id
        limit 1
      )
      union all
      select following.*
      from queue
      cross join lateral (
        select jobs.job_queue_id
        from {gw}._private_jobs as jobs
        where jobs.is_available and jobs.job_queue_id is not null and jobs.job_queue_id > queue.id
        order by jobs.job_queue_id
        limit 1
      ) as following
    )
    select queue.id
    from queue
    cross join lateral (
      select from {gw}._private_job_queues as job_queues
      where job_queues.id = queue.id and job_queues.is_available
      limit 1
    ) as free
    cross join lateral (
      select jobs.priority, jobs.run_at, jobs.id
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.job_queue_id = queue.id
        and jobs.run_at <= now()
        and jobs.task_id = any(task_ids)
        and (not v_flags_matter or jobs.flags is null or not jobs.flags ?| forbidden_flags)
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    ) as head
    where (queue.id in (select unnest(forbidden_queue_ids))) is not true
    order by head.priority, head.run_at, head.id
    limit max_queues
  );
end;
$pgtasks$;
