-- Adds a batch of jobs without keys: what add_jobs does, without making specs of the batch first. It comes as
-- _pgtasks_read_specs takes it.
--
-- With register false nothing is done, and added is null, if a task or a queue has yet to be registered. With with_ids the
-- ids are returned, in the order of the payloads. The notification is as in _pgtasks_add_specs.
create or replace function {gw}._pgtasks_add_unkeyed(
  common json,
  each json,
  payloads json,
  register boolean,
  with_ids boolean,
  announce bigint,
  out added bigint,
  out ids bigint[]
)
language plpgsql
volatile
as $pgtasks$
declare
  v_common record;
  v_each record;
  v_task_ids integer[];
  v_queue_ids integer[];
begin
  select named.*, coalesce(named.run_at, now() + make_interval(secs => named.delay), now()) as due into v_common
  from json_to_record(_pgtasks_add_unkeyed.common) as named (
    tasks text[], queues text[], run_at timestamptz, delay double precision, max_attempts smallint, priority smallint,
    flags jsonb
  );
  select * into v_each
  from json_to_record(_pgtasks_add_unkeyed.each) as named (
    task json, queue json, run_at json, delay json, max_attempts json, priority json, flags json
  );

  if current_setting('transaction_isolation') <> 'read committed' then
    perform {gw}._pgtasks_hold_names(v_common.tasks, v_common.queues);
  end if;
  v_task_ids := {gw}._pgtasks_task_ids(v_common.tasks, _pgtasks_add_unkeyed.register);
  v_queue_ids := {gw}._pgtasks_queue_ids(v_common.queues, _pgtasks_add_unkeyed.register);
  if v_task_ids is null or v_queue_ids is null then
    return;
  end if;

  with inserted as (
    insert into {gw}._private_jobs
      (job_queue_id, task_id, payload, run_at, max_attempts, priority, flags)
    select
      v_queue_ids[case when v_each.queue is null then 1 else spec.queue::integer end],
      v_task_ids[case when v_each.task is null then 1 else spec.task::integer end],
      spec.payload,
      coalesce(spec.run_at::timestamptz, now() + make_interval(secs => spec.delay::double precision), v_common.due),
      coalesce(spec.max_attempts::smallint, v_common.max_attempts, 25::smallint),
      coalesce(spec.priority::smallint, v_common.priority, 0::smallint),
      coalesce(spec.flags::jsonb, v_common.flags)
    from
      rows from (
        json_array_elements(_pgtasks_add_unkeyed.payloads),
        json_array_elements_text(v_each.task),
        json_array_elements_text(v_each.queue),
        json_array_elements_text(v_each.run_at),
        json_array_elements_text(v_each.delay),
        json_array_elements_text(v_each.max_attempts),
        json_array_elements_text(v_each.priority),
        json_array_elements_text(v_each.flags)
      ) with ordinality
      as spec (payload, task, queue, run_at, delay, max_attempts, priority, flags, position)
    order by spec.position
    returning id
  )
  select count(*), case when _pgtasks_add_unkeyed.with_ids then array_agg(inserted.id) end into added, ids
  from inserted;

  if _pgtasks_add_unkeyed.announce is not null then
    perform pg_notify(
      'jobs:insert', json_build_object('r', random(), 'count', _pgtasks_add_unkeyed.announce + added)::text
    );
  end if;
end;
$pgtasks$;
