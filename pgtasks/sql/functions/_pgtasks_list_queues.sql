-- Queues in the order of their names, from the first or from the one after after_name, and how many jobs wait in each,
-- counted up to count_limit. Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_list_queues(max_queues integer, after_name text, count_limit integer)
returns table (queue_name text, locked_by text, locked_at timestamptz, waiting bigint)
language sql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $pgtasks$
  select listed.queue_name, listed.locked_by, listed.locked_at, waiting.jobs
  from (
    select job_queues.*
    from {gw}._private_job_queues as job_queues
    where after_name is null or job_queues.queue_name > after_name
    order by job_queues.queue_name
    limit max_queues
  ) as listed
  cross join lateral (
    select count(*) as jobs
    from (
      select from {gw}._private_jobs as jobs
      where jobs.is_available and jobs.job_queue_id is not null and jobs.job_queue_id = listed.id
      limit count_limit
    ) as counted
  ) as waiting
  order by listed.queue_name
$pgtasks$;
