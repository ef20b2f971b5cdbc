-- What add_jobs does. The notification is sent for so many jobs more than are added here, or with null not at all.
create or replace function {gw}._pgtasks_add_specs(
  specs {gw}.job_spec[],
  job_key_preserve_run_at boolean,
  announce bigint
)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_keys bigint;
  v_distinct_keys bigint;
  v_queues bigint;
  v_identifier text := specs[1].identifier;
  v_is_one_task boolean;
  v_task_id integer;
  v_count bigint;
begin
  select
    count(spec.job_key),
    count(distinct spec.job_key),
    count(spec.queue_name),
    bool_and(coalesce(spec.identifier = v_identifier, false))
  into v_keys, v_distinct_keys, v_queues, v_is_one_task
  from unnest(specs) as spec;

  if current_setting('transaction_isolation') <> 'read committed' then
    perform {gw}._pgtasks_hold_names(
      array(select distinct spec.identifier from unnest(specs) as spec),
      array(select distinct spec.queue_name from unnest(specs) as spec)
    );
  end if;

  if v_is_one_task and v_keys = 0 and v_queues = 0 then
    -- The same as below, without a join: most calls with many jobs are so.
    v_task_id := ({gw}._pgtasks_task_ids(array[v_identifier], register => true))[1];
    return query
      insert into {gw}._private_jobs (task_id, payload, run_at, max_attempts, priority, flags)
      select
        v_task_id,
        coalesce(spec.payload, '{{}}'::json),
        coalesce(spec.run_at, now()),
        coalesce(spec.max_attempts, 25::smallint),
        coalesce(spec.priority, 0::smallint),
        case when spec.flags is not null then {gw}._pgtasks_flags_object(spec.flags) end
      from unnest(specs) with ordinality as spec
      order by spec.ordinality
      returning *;
  else
    -- In order, so that two calls that register the same names at once wait for each other and do not deadlock. A spec
    -- that is null, or has no identifier, fails here on the not-null constraint.
    perform {gw}._pgtasks_register_task(missing.identifier)
    from (
      select distinct spec.identifier
      from unnest(specs) as spec
      where not exists (
        select from {gw}._private_tasks as tasks where tasks.identifier = spec.identifier
      )
      order by spec.identifier
    ) as missing;

    if v_queues > 0 then
      insert into {gw}._private_job_queues (queue_name)
      select distinct spec.queue_name
      from unnest(specs) as spec
      where spec.queue_name is not null
        and not exists (
          select from {gw}._private_job_queues as job_queues where job_queues.queue_name = spec.queue_name
        )
      order by spec.queue_name
      on conflict do nothing;
    end if;

    if v_keys = 0 then
      return query
        insert into {gw}._private_jobs
          (job_queue_id, task_id, payload, run_at, max_attempts, priority, flags)
        select
          spec.job_queue_id, spec.task_id, spec.payload, spec.run_at, spec.max_attempts, spec.priority, spec.flags
        from {gw}._pgtasks_resolve_specs(specs) as spec
        order by spec.spec_position
        returning *;
    elsif v_keys = v_distinct_keys then
      return query
        select * from {gw}._pgtasks_put_distinct_jobs(specs, job_key_preserve_run_at);
    else
      return query
        select * from {gw}._pgtasks_put_jobs_in_turn(specs, job_key_preserve_run_at);
    end if;
  end if;

  get diagnostics v_count = row_count;
  if v_count > 0 and _pgtasks_add_specs.announce is not null then
    perform pg_notify(
      'jobs:insert', json_build_object('r', random(), 'count', _pgtasks_add_specs.announce + v_count)::text
    );
  end if;
end;
$pgtasks$;
