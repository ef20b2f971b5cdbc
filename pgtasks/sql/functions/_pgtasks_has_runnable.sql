-- Whether a claim could take a job now. Looks where a claim does, and locks nothing: a claim that is made at the same time
-- would pass over what is locked here, and take what comes after it. Why the settings, see _pgtasks_claim_jobs.
create or replace function {gw}._pgtasks_has_runnable(
  task_identifiers text[],
  forbidden_flags text[],
  forbidden_queues text[] = null
)
returns boolean
language plpgsql
volatile
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_incremental_sort = off
set enable_mergejoin = off
set enable_hashjoin = off
set jit = off
as $pgtasks$
declare
  v_look_at constant integer := 100;
  v_task_ids integer[];
  v_forbidden_queue_ids integer[];
  v_queue_ids integer[];
  v_seen bigint;
begin
  v_task_ids := array(
    select tasks.id
    from {gw}._private_tasks as tasks
    where tasks.identifier = any(_pgtasks_has_runnable.task_identifiers)
  );
  if exists (
    select from {gw}._pgtasks_find_ready_jobs(v_task_ids, _pgtasks_has_runnable.forbidden_flags, 1)
  ) then
    return true;
  end if;

  if cardinality(_pgtasks_has_runnable.forbidden_queues) > 0 then
    v_forbidden_queue_ids := array(
      select job_queues.id
      from {gw}._private_job_queues as job_queues
      where job_queues.queue_name = any(_pgtasks_has_runnable.forbidden_queues)
    );
  end if;
  -- As _pgtasks_lock_queue_heads looks for queues.
  for v_way in 1..3 loop
    select found.queue_ids, found.seen into v_queue_ids, v_seen
    from {gw}._pgtasks_find_queues(
      v_way, v_task_ids, _pgtasks_has_runnable.forbidden_flags, v_look_at, null, null, null, null, null, null,
      v_forbidden_queue_ids
    ) as found;
    if exists (
      select
      from unnest(v_queue_ids) as queue (id)
      cross join lateral (
        select from {gw}._private_job_queues as job_queues
        where job_queues.id = queue.id and job_queues.is_available
        limit 1
      ) as free
      where (queue.id in (select unnest(v_forbidden_queue_ids))) is not true
    ) then
      return true;
    end if;
    exit when v_seen < v_look_at;
  end loop;
  return false;
end;
$pgtasks$;
