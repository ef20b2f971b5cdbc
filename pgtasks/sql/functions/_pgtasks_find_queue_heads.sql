-- The first eligible job of each queue that is not locked, in claim order, at most max_heads. Locks nothing.
--
-- Given `before`, only heads that come before that job are wanted. Three ways, each taken only if the one before it
-- ended in the middle of more jobs than it looks at:
--   1. the first jobs of all, which is enough unless they belong to locked queues or to other workers' tasks;
--   2. the first jobs of each of the tasks, for when other workers' tasks are ahead;
--   3. each queue in turn, for when much of what is ahead waits for a few locked queues.
--
-- What `seen` holds are the first jobs in claim order because a lateral join is a nested loop, which goes through
-- `level` in the order in which it was made, and its `limit` cuts off the later priorities. An `order by` there would
-- have to read 500 jobs of each priority first.
create or replace function {gw}._pgtasks_find_queue_heads(
  task_ids integer[],
  forbidden_flags text[],
  max_heads integer,
  before_priority smallint,
  before_run_at timestamptz,
  before_id bigint,
  out job_ids bigint[],
  out job_queue_ids integer[]
)
language plpgsql
volatile
as $pgtasks$
declare
  v_flags_matter boolean := cardinality(forbidden_flags) > 0;
  v_complete boolean;
begin
  with recursive level (priority) as (
    (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    union all
    select (
      select jobs.priority
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null and jobs.priority > level.priority
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    )
    from level
    where level.priority is not null
  ),
  seen as materialized (
    select due.*
    from level
    cross join lateral (
      select jobs.id, jobs.job_queue_id, jobs.task_id, jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id is not null
        and jobs.priority = level.priority
        and jobs.run_at <= now()
      order by jobs.run_at, jobs.id
      limit 500
    ) as due
    limit 500
  ),
  firsts as (
    select distinct on (seen.job_queue_id) seen.id, seen.job_queue_id, seen.priority, seen.run_at
    from seen
    where seen.task_id = any(task_ids)
      and (
        v_flags_matter is not true
        or not exists (
          select from {gw}._private_jobs as jobs where jobs.id = seen.id and jobs.flags ?| forbidden_flags
        )
      )
    order by seen.job_queue_id, seen.priority, seen.run_at, seen.id
  ),
  heads as (
    select firsts.*
    from firsts
    cross join lateral (
      select from {gw}._private_job_queues as job_queues
      where job_queues.id = firsts.job_queue_id and job_queues.is_available
      limit 1
    ) as free
    where before_id is null
      or (firsts.priority, firsts.run_at, firsts.id) < (before_priority, before_run_at, before_id)
    order by firsts.priority, firsts.run_at, firsts.id
    limit max_heads
  )
  select
    array_agg(heads.id order by heads.priority, heads.run_at, heads.id),
    array_agg(heads.job_queue_id order by heads.priority, heads.run_at, heads.id),
    count(*) = max_heads
      or (select count(*) from seen) < 500
      or exists (
        select from seen
        where (seen.priority, seen.run_at, seen.id) >= (before_priority, before_run_at, before_id)
      )
  into job_ids, job_queue_ids, v_complete
  from heads;
  if v_complete then
    return;
  end if;

  -- What lies behind the last job seen of a task with more jobs than were looked at is not known. So a queue's first
  -- job seen is its head only if no such end lies before it.
  with seen as materialized (
    select due.*
    from unnest(task_ids) as task (id)
    cross join lateral (
      with recursive level (priority) as (
        (
          select jobs.priority
          from {gw}._private_jobs as jobs
          where jobs.is_available and jobs.job_queue_id is not null and jobs.task_id = task.id
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        )
        union all
        select (
          select jobs.priority
          from {gw}._private_jobs as jobs
          where jobs.is_available
            and jobs.job_queue_id is not null
            and jobs.task_id = task.id
            and jobs.priority > level.priority
          order by jobs.priority, jobs.run_at, jobs.id
          limit 1
        )
        from level
        where level.priority is not null
      )
      select due.*
      from level
      cross join lateral (
        select jobs.id, jobs.job_queue_id, jobs.task_id, jobs.priority, jobs.run_at
        from {gw}._private_jobs as jobs
        where jobs.is_available
          and jobs.job_queue_id is not null
          and jobs.task_id = task.id
          and jobs.priority = level.priority
          and jobs.run_at <= now()
        order by jobs.run_at, jobs.id
        limit 500
      ) as due
      limit 500
    ) as due
  ),
  ends as (
    select distinct on (seen.task_id) seen.priority, seen.run_at, seen.id
    from seen
    where seen.task_id in (select more.task_id from seen as more group by more.task_id having count(*) >= 500)
    order by seen.task_id, seen.priority desc, seen.run_at desc, seen.id desc
  ),
  first_end as (
    select ends.* from ends order by ends.priority, ends.run_at, ends.id limit 1
  ),
  firsts as (
    select distinct on (seen.job_queue_id) seen.id, seen.job_queue_id, seen.priority, seen.run_at
    from seen
    where v_flags_matter is not true
      or not exists (
        select from {gw}._private_jobs as jobs where jobs.id = seen.id and jobs.flags ?| forbidden_flags
      )
    order by seen.job_queue_id, seen.priority, seen.run_at, seen.id
  ),
  heads as (
    select firsts.*
    from firsts
    cross join lateral (
      select from {gw}._private_job_queues as job_queues
      where job_queues.id = firsts.job_queue_id and job_queues.is_available
      limit 1
    ) as free
    where (
        before_id is null
        or (firsts.priority, firsts.run_at, firsts.id) < (before_priority, before_run_at, before_id)
      )
      and not exists (
        select from first_end
        where (first_end.priority, first_end.run_at, first_end.id) < (firsts.priority, firsts.run_at, firsts.id)
      )
    order by firsts.priority, firsts.run_at, firsts.id
    limit max_heads
  )
  select
    array_agg(heads.id order by heads.priority, heads.run_at, heads.id),
    array_agg(heads.job_queue_id order by heads.priority, heads.run_at, heads.id),
    count(*) = max_heads
      or not exists (select from first_end)
      or exists (
        select from first_end
        where (first_end.priority, first_end.run_at, first_end.id) >= (before_priority, before_run_at, before_id)
      )
  into job_ids, job_queue_ids, v_complete
  from heads;
  if v_complete then
    return;
  end if;

  with recursive queue (id) as (
    (
      select jobs.job_queue_id
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null
      order by jobs.job_queue_id
      limit 1
    )
    union all
    select (
      select jobs.job_queue_id
      from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null and jobs.job_queue_id > queue.id
      order by jobs.job_queue_id
      limit 1
    )
    from queue
    where queue.id is not null
  ),
  heads as (
    select head.id, queue.id as job_queue_id, head.priority, head.run_at
    from queue
    cross join lateral (
      select from {gw}._private_job_queues as job_queues
      where job_queues.id = queue.id and job_queues.is_available
      limit 1
    ) as free
    cross join lateral (
      select jobs.id, jobs.priority, jobs.run_at
      from {gw}._private_jobs as jobs
      where jobs.is_available
        and jobs.job_queue_id = queue.id
        and jobs.run_at <= now()
        and jobs.task_id = any(task_ids)
        and (v_flags_matter is not true or jobs.flags is null or not jobs.flags ?| forbidden_flags)
      order by jobs.priority, jobs.run_at, jobs.id
      limit 1
    ) as head
    where before_id is null
      or (head.priority, head.run_at, head.id) < (before_priority, before_run_at, before_id)
    order by head.priority, head.run_at, head.id
    limit max_heads
  )
  select
    array_agg(heads.id order by heads.priority, heads.run_at, heads.id),
    array_agg(heads.job_queue_id order by heads.priority, heads.run_at, heads.id)
  into job_ids, job_queue_ids
  from heads;
end;
$pgtasks$;
