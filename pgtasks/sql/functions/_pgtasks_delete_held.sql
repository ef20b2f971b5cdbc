-- Deletes jobs that a worker holds, and returns the ids of those that were deleted, with their queues and when they were
-- locked: three arrays that belong together by position. So do those that are given, where locked_ats are in
-- microseconds since 2000, as PostgreSQL keeps them. Planned like the functions that call it, whose settings hold here.
--
-- A job whose row, or whose queue's, somebody else has locked is not waited for. Once locked here, a row is found again by its place, which
-- spares a second walk down the index.
--
-- One walk along the primary key finds all jobs, whatever the statistics say: `is not distinct from` can use no index,
-- and `is true` keeps the pairs a hash table to look into, where a join could become one of each with each.
create or replace function {gw}._pgtasks_delete_held(
  worker_id text,
  ids bigint[],
  locked_ats bigint[],
  out ended_ids bigint[],
  out queue_ids integer[],
  out ended_locked_ats timestamptz[]
)
language plpgsql
volatile
as $pgtasks$
begin
  with held as materialized (
    select jobs.ctid as place, jobs.id, jobs.job_queue_id, jobs.locked_at
    from {gw}._private_jobs as jobs
    where jobs.id = any(_pgtasks_delete_held.ids)
      and jobs.locked_by is not distinct from _pgtasks_delete_held.worker_id
      and (
        (jobs.id, jobs.locked_at) in (
          select done.id, timestamptz '2000-01-01 00:00:00+00' + done.micros * interval '1 microsecond'
          from unnest(_pgtasks_delete_held.ids, _pgtasks_delete_held.locked_ats) as done (id, micros)
        )
      ) is true
    for update skip locked
  ),
  free as materialized (
    select job_queues.id
    from (select distinct held.job_queue_id as id from held where held.job_queue_id is not null) as queue
    cross join lateral (
      select job_queues.id
      from {gw}._private_job_queues as job_queues
      where job_queues.id = queue.id
      for update skip locked
    ) as job_queues
  ),
  ended as (
    delete from {gw}._private_jobs as jobs
    using held
    where jobs.ctid = held.place
      and (
        held.job_queue_id is null
        or held.job_queue_id in (select free.id from free)
        or not exists (
          select
          from {gw}._private_job_queues as job_queues
          where job_queues.id = held.job_queue_id
            and job_queues.locked_by = _pgtasks_delete_held.worker_id
            and job_queues.locked_at = held.locked_at
        )
      )
    returning held.id, held.job_queue_id, held.locked_at
  )
  select array_agg(ended.id), array_agg(ended.job_queue_id), array_agg(ended.locked_at)
  into ended_ids, queue_ids, ended_locked_ats
  from ended;
end;
$pgtasks$;
