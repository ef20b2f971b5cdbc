-- The specs of one add_jobs call as rows with ids for names and defaults filled in, in the order of the specs.
create or replace function {gw}._pgtasks_resolve_specs(specs {gw}.job_spec[])
returns table (
  spec_position bigint,
  job_key text,
  task_id integer,
  job_queue_id integer,
  payload json,
  run_at timestamptz,
  max_attempts smallint,
  priority smallint,
  flags jsonb
)
language sql
volatile
as $pgtasks$
  select
    spec.ordinality,
    spec.job_key,
    coalesce(tasks.id, {gw}._pgtasks_register_task(spec.identifier)),
    case when spec.queue_name is not null
      then coalesce(job_queues.id, {gw}._pgtasks_register_queue(spec.queue_name))
    end,
    coalesce(spec.payload, '{{}}'::json),
    coalesce(spec.run_at, now()),
    coalesce(spec.max_attempts, 25::smallint),
    coalesce(spec.priority, 0::smallint),
    case when spec.flags is not null then {gw}._pgtasks_flags_object(spec.flags) end
  from unnest(specs) with ordinality as spec
  left join {gw}._private_tasks as tasks on tasks.identifier = spec.identifier
  left join {gw}._private_job_queues as job_queues on job_queues.queue_name = spec.queue_name
  order by spec.ordinality
$pgtasks$;
