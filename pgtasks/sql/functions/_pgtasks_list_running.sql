-- The jobs that workers have held for longest, max_jobs of them, of look_at that are looked at. No payloads.
-- Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_list_running(max_jobs integer, look_at integer)
returns table (
  id bigint,
  task text,
  queue_name text,
  attempts smallint,
  max_attempts smallint,
  locked_by text,
  locked_at timestamptz,
  age double precision
)
language sql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $pgtasks$
  select
    oldest.id,
    coalesce(tasks.identifier, 'unknown task ' || oldest.task_id),
    job_queues.queue_name,
    oldest.attempts,
    oldest.max_attempts,
    oldest.locked_by,
    oldest.locked_at,
    -- A lock may be of any time, '-infinity' included, from which no interval leads to now.
    (extract(epoch from clock_timestamp()) - extract(epoch from oldest.locked_at))::double precision
  from (
    select held.*
    from (
      select
        jobs.id, jobs.task_id, jobs.job_queue_id, jobs.attempts, jobs.max_attempts, jobs.locked_by, jobs.locked_at
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity'
      limit look_at
    ) as held
    order by held.locked_at, held.id
    limit max_jobs
  ) as oldest
  left join {gw}._private_tasks as tasks on tasks.id = oldest.task_id
  left join {gw}._private_job_queues as job_queues on job_queues.id = oldest.job_queue_id
  order by oldest.locked_at, oldest.id
$pgtasks$;
