-- Gives back what a worker holds, as if it had returned each job without starting it. For workers that are dead, and for
-- claims whose answer was lost: a worker that is alive keeps the jobs it knows of. Returns the jobs and what became of
-- each; nothing is waited for, so two states mean that the call is to be repeated:
--   busy      somebody's open transaction has locked the job's row
--   claiming  (without an id) a claim of this worker is still being executed, and nothing was done
--
-- With `retire`, the worker can claim nothing any more, now or later: its last statement may reach the server after this.
--
-- With max_interruptions, for a worker whose host was lost: nobody knows which of the jobs were running, and one of them
-- may be what took the host down. So each is counted as interrupted, and has failed for good when that has happened
-- more often than max_interruptions without an attempt that ended otherwise.
--
-- With stale_after, in seconds, nothing is done to a worker whose heartbeats have come back meanwhile.
create or replace function {gw}._pgtasks_release_worker(
  worker_id text,
  keep_ids bigint[] = '{{}}',
  retire boolean = false,
  max_interruptions integer = null,
  stale_after double precision = null
)
returns table (id bigint, state text)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v_ids bigint[];
  v_locked_ats timestamptz[];
  v_outcomes text[];
  v_errors text[];
  v_queue_ids integer[];
begin
  if _pgtasks_release_worker.retire then
    insert into {gw}._pgtasks_workers as workers (id, retired_at)
    select _pgtasks_release_worker.worker_id, now()
    where _pgtasks_release_worker.stale_after is null
    -- Anew at each call, since others take over what has been left so for long.
    on conflict (id) do update set retired_at = now() where workers.released_at is null;
    update {gw}._pgtasks_workers as workers
    set retired_at = now()
    where workers.id = _pgtasks_release_worker.worker_id
      and workers.retired_at is null
      and workers.heartbeat_at < now() - make_interval(secs => _pgtasks_release_worker.stale_after);
    if not exists (
      select from {gw}._pgtasks_workers as workers
      where workers.id = _pgtasks_release_worker.worker_id
        and workers.retired_at is not null
        and workers.released_at is null
    ) then
      return;
    end if;
  end if;
  if not pg_try_advisory_xact_lock(
    hashtextextended({gw_text} || ' worker ' || _pgtasks_release_worker.worker_id, 0)
  ) then
    return query select null::bigint, 'claiming';
    return;
  end if;

  if _pgtasks_release_worker.max_interruptions is null then
    select array_agg(jobs.id), array_agg(jobs.locked_at) into v_ids, v_locked_ats
    from {gw}._private_jobs as jobs
    where jobs.locked_at >= '-infinity'
      and jobs.locked_by = _pgtasks_release_worker.worker_id
      and jobs.id <> all(_pgtasks_release_worker.keep_ids);
    v_outcomes := array_fill('return'::text, array[coalesce(cardinality(v_ids), 0)]);
  else
    -- Only what can be given back now counts as interrupted; the rest is busy, and looked at again.
    select coalesce(array_agg(held.id), '{{}}'), array_agg(held.locked_at) into v_ids, v_locked_ats
    from (
      select jobs.id, jobs.locked_at
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity'
        and jobs.locked_by = _pgtasks_release_worker.worker_id
        and jobs.id <> all(_pgtasks_release_worker.keep_ids)
      order by jobs.id
      for update skip locked
    ) as held;
    with counted as (
      insert into {gw}._pgtasks_interruptions as known (job_id, revision, attempts)
      select jobs.id, jobs.revision, jobs.attempts
      from {gw}._private_jobs as jobs
      where jobs.id = any(v_ids)
      on conflict (job_id) do update
      set
        revision = excluded.revision,
        attempts = excluded.attempts,
        interruptions = case
          when (known.revision, known.attempts) = (excluded.revision, excluded.attempts) then known.interruptions + 1
          else 1
        end,
        ts = now()
      returning known.job_id, known.interruptions
    )
    select
      array_agg(
        case when counted.interruptions > _pgtasks_release_worker.max_interruptions then 'fail' else 'return' end
        order by held.position
      ),
      array_agg(
        'WorkerLost: the worker that held this job was lost, ' || counted.interruptions
          || ' times in all; whatever ended it may be the job''s doing'
        order by held.position
      )
    into v_outcomes, v_errors
    from unnest(v_ids) with ordinality as held (id, position)
    join counted on counted.job_id = held.id;
    -- Whoever lets such a job run again lets it begin anew.
    delete from {gw}._pgtasks_interruptions as known
    where known.job_id = any(v_ids) and known.interruptions > _pgtasks_release_worker.max_interruptions;
    return query
      select jobs.id, 'busy'
      from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity'
        and jobs.locked_by = _pgtasks_release_worker.worker_id
        and jobs.id <> all(v_ids || _pgtasks_release_worker.keep_ids);
  end if;

  return query
    select ended.id, ended.state
    from {gw}._pgtasks_finish_jobs(
      _pgtasks_release_worker.worker_id,
      v_ids,
      v_locked_ats,
      v_outcomes,
      v_errors,
      null,
      null,
      null,
      wait_for_locks => false
    ) as ended;

  -- Queues whose jobs are gone: the worker's lock on them is all that is left.
  select array_agg(held.id) into v_queue_ids
  from (
    select job_queues.id
    from {gw}._private_job_queues as job_queues
    where job_queues.locked_by = _pgtasks_release_worker.worker_id
      and not exists (
        select from {gw}._private_jobs as jobs
        where jobs.job_queue_id = job_queues.id
          and jobs.locked_at >= '-infinity'
          and jobs.locked_by = _pgtasks_release_worker.worker_id
      )
    order by job_queues.id
    for update skip locked
  ) as held;
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  where job_queues.id = any(v_queue_ids);

  if _pgtasks_release_worker.retire then
    if exists (
      select from {gw}._private_job_queues as job_queues
      where job_queues.locked_by = _pgtasks_release_worker.worker_id
        and not exists (
          select from {gw}._private_jobs as jobs
          where jobs.job_queue_id = job_queues.id
            and jobs.locked_at >= '-infinity'
            and jobs.locked_by = _pgtasks_release_worker.worker_id
        )
    ) then
      return query select null::bigint, 'busy';
    elsif not exists (
      select from {gw}._private_jobs as jobs
      where jobs.locked_at >= '-infinity' and jobs.locked_by = _pgtasks_release_worker.worker_id
    ) then
      update {gw}._pgtasks_workers as workers
      set released_at = now()
      where workers.id = _pgtasks_release_worker.worker_id;
      delete from {gw}._pgtasks_progress as known
      where known.job_id in (
        select left_over.job_id
        from {gw}._pgtasks_progress as left_over
        where left_over.worker_id = _pgtasks_release_worker.worker_id
        for update skip locked
      );
    end if;
  end if;
end;
$pgtasks$;
