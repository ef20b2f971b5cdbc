-- add_jobs for specs of which some have the same key: as if they were added one after the other. Names are registered.
-- One row is returned for each resulting job, in the order in which the specs first name it.
create or replace function {gw}._pgtasks_put_jobs_in_turn(
  specs {gw}.job_spec[],
  job_key_preserve_run_at boolean
)
returns setof {gw}._private_jobs
language plpgsql
volatile
set plan_cache_mode = auto
as $pgtasks$
declare
  v_spec record;
  v_job {gw}._private_jobs;
  v_ids bigint[];
begin
  -- See _pgtasks_put_distinct_jobs.
  if cardinality(specs) > 100 then
    perform set_config('plan_cache_mode', 'force_custom_plan', true);
  end if;

  -- What has no key, or is the first to name its key, is put at once; the others then find jobs of this transaction.
  v_ids := array(
    select job.id
    from {gw}._pgtasks_put_distinct_jobs(
      array(
        select
          row(
            first.identifier, first.payload, first.queue_name, first.run_at, first.max_attempts, first.job_key,
            first.priority, first.flags
          )::{gw}.job_spec
        from (
          select spec.*, row_number() over (partition by spec.job_key order by spec.ordinality) as nth
          from unnest(specs) with ordinality as spec
        ) as first
        where first.nth = 1 or first.job_key is null
        order by first.ordinality
      ),
      job_key_preserve_run_at
    ) with ordinality as job
    order by job.ordinality
  );

  for v_spec in
    select later.*
    from (
      select spec.*, row_number() over (partition by spec.job_key order by spec.spec_position) as nth
      from {gw}._pgtasks_resolve_specs(specs) as spec
    ) as later
    where later.nth > 1 and later.job_key is not null
    order by later.spec_position
  loop
    v_job := {gw}._pgtasks_put_keyed_job(
      v_spec.task_id,
      v_spec.payload,
      v_spec.job_queue_id,
      v_spec.run_at,
      v_spec.max_attempts,
      v_spec.job_key,
      v_spec.priority,
      v_spec.flags,
      case when job_key_preserve_run_at then 'preserve_run_at' else 'replace' end
    );
  end loop;

  return query
    select jobs.*
    from unnest(v_ids) with ordinality as put (id, position)
    join {gw}._private_jobs as jobs on jobs.id = put.id
    order by put.position;
end;
$pgtasks$;
