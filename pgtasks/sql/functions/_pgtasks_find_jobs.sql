-- The ids of jobs that match all filters that are not null, newest first: at most max_jobs, with ids below before_id.
--
-- Jobs with a key, those of a worker, running ones and failed ones are found by an index. For anything else jobs are
-- looked at one by one, from the newest, but not more than look_at of them in all. next_id is what to give as before_id
-- to go on; null if there is nothing more to look at.
--
-- The settings keep statistics, which are always out of date in a queue, from making a walk along an index a scan of the
-- table. `id + 0` is for the same: the order of ids must not tempt to look for the few locked jobs among all others.
-- `locked_at >= '-infinity'` is `is not null` as the index of locked jobs says it.
create or replace function {gw}._pgtasks_find_jobs(
  task_identifier text,
  queue_name text,
  state text,
  job_key text,
  flag text,
  worker_id text,
  max_jobs integer,
  before_id bigint,
  look_at integer,
  out job_ids bigint[],
  out next_id bigint
)
language plpgsql
stable
set enable_seqscan = off
set jit = off
as $pgtasks$
declare
  v_task_id integer;
  v_queue_id integer;
  v_looked bigint := 0;
  v_wanted integer;
  v_chunk bigint[];
  v_before_id bigint := coalesce(_pgtasks_find_jobs.before_id, 9223372036854775807);
  v_unfiltered boolean;
begin
  job_ids := '{{}}';
  if _pgtasks_find_jobs.task_identifier is not null then
    select tasks.id into v_task_id
    from {gw}._private_tasks as tasks
    where tasks.identifier = _pgtasks_find_jobs.task_identifier;
    if not found then
      return;
    end if;
  end if;
  if _pgtasks_find_jobs.queue_name is not null then
    select job_queues.id into v_queue_id
    from {gw}._private_job_queues as job_queues
    where job_queues.queue_name = _pgtasks_find_jobs.queue_name;
    if not found then
      return;
    end if;
  end if;
  v_unfiltered := num_nonnulls(
    v_task_id, v_queue_id, _pgtasks_find_jobs.state, _pgtasks_find_jobs.job_key, _pgtasks_find_jobs.flag,
    _pgtasks_find_jobs.worker_id
  ) = 0;

  loop
    v_wanted := case
      when v_unfiltered then _pgtasks_find_jobs.max_jobs + 1
      else least(1000, _pgtasks_find_jobs.look_at - v_looked)
    end;
    if _pgtasks_find_jobs.job_key is not null then
      v_chunk := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.key = _pgtasks_find_jobs.job_key and jobs.id < v_before_id
      );
    elsif _pgtasks_find_jobs.worker_id is not null then
      v_chunk := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.locked_at >= '-infinity'
          and jobs.locked_by = _pgtasks_find_jobs.worker_id
          and jobs.id < v_before_id
        order by jobs.id + 0 desc
        limit v_wanted
      );
    elsif _pgtasks_find_jobs.state = 'running' then
      v_chunk := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.locked_at >= '-infinity' and jobs.id < v_before_id
        order by jobs.id + 0 desc
        limit v_wanted
      );
    elsif _pgtasks_find_jobs.state = 'failed' then
      v_chunk := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.locked_at is null and jobs.attempts >= jobs.max_attempts and jobs.id < v_before_id
        order by jobs.id desc
        limit v_wanted
      );
    else
      v_chunk := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.id < v_before_id
        order by jobs.id desc
        limit v_wanted
      );
    end if;

    if v_unfiltered then
      job_ids := v_chunk;
    else
      job_ids := job_ids || array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.id = any(v_chunk)
          and (v_task_id is null or jobs.task_id = v_task_id)
          and (v_queue_id is null or jobs.job_queue_id = v_queue_id)
          and (_pgtasks_find_jobs.flag is null or jobs.flags ? _pgtasks_find_jobs.flag)
          and (_pgtasks_find_jobs.worker_id is null or jobs.locked_by = _pgtasks_find_jobs.worker_id)
          and (
            _pgtasks_find_jobs.state is null
            or _pgtasks_find_jobs.state = case
              when jobs.locked_at is not null then 'running'
              when jobs.attempts >= jobs.max_attempts then 'failed'
              when jobs.run_at > now() then 'scheduled'
              else 'ready'
            end
          )
        order by jobs.id desc
      );
    end if;

    if cardinality(job_ids) > _pgtasks_find_jobs.max_jobs then
      job_ids := job_ids[:_pgtasks_find_jobs.max_jobs];
      next_id := job_ids[_pgtasks_find_jobs.max_jobs];
      return;
    end if;
    if cardinality(v_chunk) < v_wanted then
      return;
    end if;
    v_before_id := v_chunk[v_wanted];
    v_looked := v_looked + v_wanted;
    if v_looked >= _pgtasks_find_jobs.look_at then
      next_id := v_before_id;
      return;
    end if;
  end loop;
end;
$pgtasks$;
