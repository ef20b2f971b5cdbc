-- Clears locks that are older than four hours, whoever holds them; such a job runs again now, not in the past. Puts
-- back queues that were deleted while a job of theirs was being added, under their old ids: without them these jobs
-- would never run. Those whose names are known are left to _pgtasks_restore_names. Returns how many of each.
--
-- Forgets workers that ended a day ago, and what was said of jobs that are gone, or of claims that have ended.
create or replace function {gw}._pgtasks_sweep_stale_locks(
  out unlocked_jobs bigint,
  out unlocked_queues bigint,
  out restored_queues bigint
)
language plpgsql
volatile
as $pgtasks$
declare
  v_job_ids bigint[];
  v_queue_ids integer[];
begin
  select array_agg(stale.id) into v_job_ids
  from (
    select jobs.id
    from {gw}._private_jobs as jobs
    where jobs.locked_at < now() - interval '4 hours'
    order by jobs.id
    for update skip locked
  ) as stale;
  update {gw}._private_jobs as jobs
  set locked_at = null, locked_by = null, run_at = greatest(jobs.run_at, now()), updated_at = now()
  where jobs.id = any(v_job_ids);

  select array_agg(stale.id) into v_queue_ids
  from (
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where job_queues.locked_at < now() - interval '4 hours'
    order by job_queues.id
    for update skip locked
  ) as stale;
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  where job_queues.id = any(v_queue_ids);

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
  put_back as (
    insert into {gw}._private_job_queues (id, queue_name)
    overriding system value
    select queue.id, 'lost queue ' || queue.id
    from queue
    where queue.id is not null
      and not exists (select from {gw}._private_job_queues as job_queues where job_queues.id = queue.id)
      and not exists (
        select from {gw}._pgtasks_forgotten_names as forgotten
        where forgotten.kind = 'queue' and forgotten.id = queue.id
      )
    order by queue.id
    on conflict do nothing
    returning 1
  )
  select count(*) into restored_queues from put_back;

  delete from {gw}._pgtasks_workers as workers where workers.released_at < now() - interval '1 day';
  delete from {gw}._pgtasks_interruptions as known
  where not exists (select from {gw}._private_jobs as jobs where jobs.id = known.job_id);
  delete from {gw}._pgtasks_progress as known
  where known.job_id in (
    select left_over.job_id
    from {gw}._pgtasks_progress as left_over
    where not exists (
      select from {gw}._private_jobs as jobs
      where jobs.id = left_over.job_id
        and jobs.locked_by = left_over.worker_id
        and jobs.locked_at = left_over.locked_at
    )
    for update skip locked
  );

  unlocked_jobs := coalesce(cardinality(v_job_ids), 0);
  unlocked_queues := coalesce(cardinality(v_queue_ids), 0);
  if unlocked_jobs > 0 then
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', unlocked_jobs)::text);
  end if;
end;
$pgtasks$;
