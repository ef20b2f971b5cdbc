-- Workers that hold jobs, in the order of their ids, found by going from one to the next along the index of locked jobs;
-- the jobs of each are counted up to count_limit. Why the settings, see _pgtasks_find_jobs.
create or replace function {gw}._pgtasks_list_workers(max_workers integer, count_limit integer)
returns table (worker_id text, jobs bigint, oldest_lock timestamptz)
language sql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $pgtasks$
  with recursive worker (id) as (
    (
      select jobs.locked_by
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity' and jobs.locked_by is not null
      order by jobs.locked_by
      limit 1
    )
    union all
    select (
      select jobs.locked_by
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity' and jobs.locked_by > worker.id
      order by jobs.locked_by
      limit 1
    )
    from worker
    where worker.id is not null
  )
  select listed.id, held.jobs, held.oldest_lock
  from (select worker.id from worker where worker.id is not null limit max_workers) as listed
  cross join lateral (
    select count(*) as jobs, min(counted.locked_at) as oldest_lock
    from (
      select jobs.locked_at
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity' and jobs.locked_by = listed.id
      limit count_limit
    ) as counted
  ) as held
  order by listed.id
$pgtasks$;
