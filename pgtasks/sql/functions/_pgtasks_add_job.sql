-- What add_job does, and the notification only if it is wanted.
create or replace function {gw}._pgtasks_add_job(
  identifier text,
  payload json,
  queue_name text,
  run_at timestamptz,
  max_attempts integer,
  job_key text,
  priority integer,
  flags text[],
  job_key_mode text,
  notify boolean
)
returns {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_task_id integer;
  v_queue_id integer;
  v_job {gw}._private_jobs;
begin
  if _pgtasks_add_job.job_key is not null
    and _pgtasks_add_job.job_key_mode not in ('replace', 'preserve_run_at', 'unsafe_dedupe')
  then
    raise exception using
      errcode = 'GWBKM',
      message = 'Invalid job_key_mode value, expected ''replace'', ''preserve_run_at'' or ''unsafe_dedupe''.';
  end if;

  if current_setting('transaction_isolation') <> 'read committed' then
    perform {gw}._pgtasks_hold_names(array[_pgtasks_add_job.identifier], array[_pgtasks_add_job.queue_name]);
  end if;

  select tasks.id into v_task_id
  from {gw}._private_tasks as tasks
  where tasks.identifier = _pgtasks_add_job.identifier;
  if not found then
    v_task_id := {gw}._pgtasks_register_task(_pgtasks_add_job.identifier);
  end if;

  if _pgtasks_add_job.queue_name is not null then
    select job_queues.id into v_queue_id
    from {gw}._private_job_queues as job_queues
    where job_queues.queue_name = _pgtasks_add_job.queue_name;
    if not found then
      v_queue_id := {gw}._pgtasks_register_queue(_pgtasks_add_job.queue_name);
    end if;
  end if;

  if _pgtasks_add_job.job_key is null then
    insert into {gw}._private_jobs
      (job_queue_id, task_id, payload, run_at, max_attempts, priority, flags)
    values (
      v_queue_id,
      v_task_id,
      coalesce(_pgtasks_add_job.payload, '{{}}'::json),
      coalesce(_pgtasks_add_job.run_at, now()),
      coalesce(_pgtasks_add_job.max_attempts::smallint, 25::smallint),
      coalesce(_pgtasks_add_job.priority::smallint, 0::smallint),
      case when _pgtasks_add_job.flags is not null then {gw}._pgtasks_flags_object(_pgtasks_add_job.flags) end
    )
    returning * into v_job;
  else
    v_job := {gw}._pgtasks_put_keyed_job(
      v_task_id,
      coalesce(_pgtasks_add_job.payload, '{{}}'::json),
      v_queue_id,
      coalesce(_pgtasks_add_job.run_at, now()),
      coalesce(_pgtasks_add_job.max_attempts::smallint, 25::smallint),
      _pgtasks_add_job.job_key,
      coalesce(_pgtasks_add_job.priority::smallint, 0::smallint),
      {gw}._pgtasks_flags_object(_pgtasks_add_job.flags),
      coalesce(_pgtasks_add_job.job_key_mode, 'replace')
    );
    -- Only a job that was there before has been revised: nothing new to run.
    if _pgtasks_add_job.job_key_mode = 'unsafe_dedupe' and v_job.revision > 0 then
      return v_job;
    end if;
  end if;

  if _pgtasks_add_job.notify then
    perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', 1)::text);
  end if;
  return v_job;
end;
$pgtasks$;
