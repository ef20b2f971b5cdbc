create or replace function {gw}.add_job(
  identifier text,
  payload json = null,
  queue_name text = null,
  run_at timestamptz = null,
  max_attempts integer = null,
  job_key text = null,
  priority integer = null,
  flags text[] = null,
  job_key_mode text = 'replace'
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
  if add_job.job_key is not null
    and add_job.job_key_mode not in ('replace', 'preserve_run_at', 'unsafe_dedupe')
  then
    raise exception using
      errcode = 'GWBKM',
      message = 'Invalid job_key_mode value, expected ''replace'', ''preserve_run_at'' or ''unsafe_dedupe''.';
  end if;

  if current_setting('transaction_isolation') <> 'read committed' then
    perform {gw}._pgtasks_hold_names(array[add_job.identifier], array[add_job.queue_name]);
  end if;

  select tasks.id into v_task_id
  from {gw}._private_tasks as tasks
  where tasks.identifier = add_job.identifier;
  if not found then
    v_task_id := {gw}._pgtasks_register_task(add_job.identifier);
  end if;

  if add_job.queue_name is not null then
    select job_queues.id into v_queue_id
    from {gw}._private_job_queues as job_queues
    where job_queues.queue_name = add_job.queue_name;
    if not found then
      v_queue_id := {gw}._pgtasks_register_queue(add_job.queue_name);
    end if;
  end if;

  if add_job.job_key is null then
    insert into {gw}._private_jobs
      (job_queue_id, task_id, payload, run_at, max_attempts, priority, flags)
    values (
      v_queue_id,
      v_task_id,
      coalesce(add_job.payload, '{{}}'::json),
      coalesce(add_job.run_at, now()),
      coalesce(add_job.max_attempts::smallint, 25::smallint),
      coalesce(add_job.priority::smallint, 0::smallint),
      case when add_job.flags is not null then {gw}._pgtasks_flags_object(add_job.flags) end
    )
    returning * into v_job;
  else
    v_job := {gw}._pgtasks_put_keyed_job(
      v_task_id,
      coalesce(add_job.payload, '{{}}'::json),
      v_queue_id,
      coalesce(add_job.run_at, now()),
      coalesce(add_job.max_attempts::smallint, 25::smallint),
      add_job.job_key,
      coalesce(add_job.priority::smallint, 0::smallint),
      {gw}._pgtasks_flags_object(add_job.flags),
      coalesce(add_job.job_key_mode, 'replace')
    );
    -- Only a job that was there before has been revised: nothing new to run.
    if add_job.job_key_mode = 'unsafe_dedupe' and v_job.revision > 0 then
      return v_job;
    end if;
  end if;

  perform pg_notify('jobs:insert', json_build_object('r', random(), 'count', 1)::text);
  return v_job;
end;
$pgtasks$;
