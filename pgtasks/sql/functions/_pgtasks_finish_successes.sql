-- Deletes jobs that have succeeded, and returns the ids of those that it did not delete, or null if there are none:
-- _pgtasks_finish_jobs tells what is the matter with them. The arrays belong together by position; locked_ats are in
-- microseconds since 2000, as PostgreSQL keeps them.
--
-- A job whose row somebody else has locked is not waited for. Once locked here, a row is found again by its place, which
-- spares a second walk down the index.
create or replace function {gw}._pgtasks_finish_successes(worker_id text, ids bigint[], locked_ats bigint[])
returns bigint[]
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $pgtasks$
declare
  v_ended_ids bigint[];
  v_queue_ids integer[];
  v_locked_ats timestamptz[];
begin
  with held as materialized (
    select held.*
    from (
      select done.id, timestamptz '2000-01-01 00:00:00+00' + done.micros * interval '1 microsecond' as locked_at
      from unnest(_pgtasks_finish_successes.ids, _pgtasks_finish_successes.locked_ats) as done (id, micros)
      order by done.id
    ) as done
    cross join lateral (
      select jobs.ctid as place, jobs.id, jobs.job_queue_id, jobs.locked_at
      from {gw}._private_jobs as jobs
      where jobs.id = done.id
        and jobs.locked_by = _pgtasks_finish_successes.worker_id
        and jobs.locked_at = done.locked_at
      for update skip locked
    ) as held
  ),
  ended as (
    delete from {gw}._private_jobs as jobs
    using held
    where jobs.ctid = held.place
    returning held.id, held.job_queue_id, held.locked_at
  )
  select
    array_agg(ended.id),
    array_agg(ended.job_queue_id) filter (where ended.job_queue_id is not null),
    array_agg(ended.locked_at) filter (where ended.job_queue_id is not null)
  into v_ended_ids, v_queue_ids, v_locked_ats
  from ended;

  if v_queue_ids is not null then
    perform {gw}._pgtasks_free_queues(_pgtasks_finish_successes.worker_id, v_queue_ids, v_locked_ats);
  end if;

  if cardinality(v_ended_ids) = cardinality(_pgtasks_finish_successes.ids) then
    return null;
  end if;
  return array(
    select done.id
    from unnest(_pgtasks_finish_successes.ids) as done (id)
    where done.id <> all(coalesce(v_ended_ids, '{{}}'))
  );
end;
$pgtasks$;
