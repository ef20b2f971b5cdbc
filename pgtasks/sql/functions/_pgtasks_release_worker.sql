-- Gives back what a worker holds, as if it had returned each job without starting it. For workers that are dead, and for
-- claims whose answer was lost: a worker that is alive keeps the jobs it knows of. Returns the jobs and what became of
-- each; nothing is waited for, so two states mean that the call is to be repeated:
--   busy      somebody's open transaction has locked the job's row
--   claiming  (without an id) a claim of this worker is still being executed, and nothing was done
--
-- With `retire`, the worker can claim nothing any more, now or later: its last statement may reach the server after this.
create or replace function {gw}._pgtasks_release_worker(
  worker_id text,
  keep_ids bigint[] = '{{}}',
  retire boolean = false
)
returns table (id bigint, state text)
language plpgsql
volatile
as $pgtasks$
#variable_conflict use_column
declare
  v_ids bigint[];
  v_locked_ats timestamptz[];
  v_queue_ids integer[];
begin
  if _pgtasks_release_worker.retire then
    insert into {gw}._pgtasks_retired_workers (worker_id)
    values (_pgtasks_release_worker.worker_id)
    on conflict do nothing;
  end if;
  if not pg_try_advisory_xact_lock(
    hashtextextended({gw_text} || ' worker ' || _pgtasks_release_worker.worker_id, 0)
  ) then
    return query select null::bigint, 'claiming';
    return;
  end if;

  select array_agg(jobs.id), array_agg(jobs.locked_at) into v_ids, v_locked_ats
  from {gw}._private_jobs as jobs
  where jobs.locked_by = _pgtasks_release_worker.worker_id
    and jobs.id <> all(_pgtasks_release_worker.keep_ids);

  return query
    select ended.id, ended.state
    from {gw}._pgtasks_finish_jobs(
      _pgtasks_release_worker.worker_id,
      v_ids,
      v_locked_ats,
      array_fill('return'::text, array[coalesce(cardinality(v_ids), 0)]),
      null,
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
          and jobs.locked_by = _pgtasks_release_worker.worker_id
      )
    order by job_queues.id
    for update skip locked
  ) as held;
  update {gw}._private_job_queues as job_queues
  set locked_at = null, locked_by = null
  where job_queues.id = any(v_queue_ids);
end;
$pgtasks$;
