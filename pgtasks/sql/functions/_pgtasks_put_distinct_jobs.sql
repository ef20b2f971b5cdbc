-- add_jobs for specs of which no two have the same key: what _pgtasks_put_keyed_job does for one, for all at once.
-- Names are registered. One row is returned for each spec, in the order of the specs.
create or replace function {gw}._pgtasks_put_distinct_jobs(
  specs {gw}.job_spec[],
  job_key_preserve_run_at boolean
)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_locked_ids bigint[];
  v_updated_ids bigint[];
  v_updated_keys text[];
  v_put_ids bigint[];
begin
  v_locked_ids := {gw}._pgtasks_lock_job_keys(
    array(select spec.job_key from unnest(specs) as spec where spec.job_key is not null)
  );

  if v_locked_ids is not null then
    -- Superseded; why the clock's time, see _pgtasks_put_keyed_job.
    update {gw}._private_jobs as jobs
    set key = null, attempts = jobs.max_attempts, updated_at = clock_timestamp()
    where jobs.id = any(v_locked_ids)
      and (jobs.locked_at is not null or jobs.attempts >= jobs.max_attempts);

    with updated as (
      update {gw}._private_jobs as jobs
      set
        job_queue_id = spec.job_queue_id,
        task_id = spec.task_id,
        payload = case
          when json_typeof(jobs.payload) = 'array' and json_typeof(spec.payload) = 'array'
            then {gw}._pgtasks_concat_json_arrays(jobs.payload, spec.payload)
          else spec.payload
        end,
        run_at = case when job_key_preserve_run_at and jobs.attempts = 0 then jobs.run_at else spec.run_at end,
        max_attempts = spec.max_attempts,
        priority = spec.priority,
        flags = spec.flags,
        attempts = 0,
        last_error = null,
        revision = jobs.revision + 1,
        updated_at = now()
      from {gw}._pgtasks_resolve_specs(specs) as spec
      where jobs.id = any(v_locked_ids)
        and jobs.key = spec.job_key
      returning jobs.id, jobs.key
    )
    select array_agg(updated.id), array_agg(updated.key) into v_updated_ids, v_updated_keys
    from updated;
  end if;

  with inserted as (
    insert into {gw}._private_jobs
      (job_queue_id, task_id, payload, run_at, max_attempts, key, priority, flags)
    select
      spec.job_queue_id,
      spec.task_id,
      spec.payload,
      spec.run_at,
      spec.max_attempts,
      spec.job_key,
      spec.priority,
      spec.flags
    from {gw}._pgtasks_resolve_specs(specs) as spec
    left join unnest(v_updated_keys) as updated_key on updated_key = spec.job_key
    where updated_key is null
    order by spec.spec_position
    on conflict (key) do nothing
    returning id
  )
  select v_updated_ids || array_agg(inserted.id) into v_put_ids
  from inserted;

  if coalesce(cardinality(v_put_ids), 0) < cardinality(specs) then
    -- Someone added one of the keys by other means than add_jobs after the look for them.
    select v_put_ids || array_agg(job.id) into v_put_ids
    from {gw}._pgtasks_resolve_specs(specs) as spec
    left join {gw}._private_jobs as put on put.key = spec.job_key and put.id = any(v_put_ids)
    cross join lateral {gw}._pgtasks_put_keyed_job(
      spec.task_id,
      spec.payload,
      spec.job_queue_id,
      spec.run_at,
      spec.max_attempts,
      spec.job_key,
      spec.priority,
      spec.flags,
      case when job_key_preserve_run_at then 'preserve_run_at' else 'replace' end
    ) as job
    where spec.job_key is not null and put.id is null;
  end if;

  -- A job with a key is found by it; those without were inserted in the order of their specs.
  return query
    select put.*
    from (
      select
        spec.ordinality as spec_position,
        coalesce(
          'key ' || spec.job_key,
          'no key ' || row_number() over (partition by spec.job_key is null order by spec.ordinality)
        ) as label
      from unnest(specs) with ordinality as spec
    ) as wanted
    join (
      select
        jobs.id,
        coalesce(
          'key ' || jobs.key,
          'no key ' || row_number() over (partition by jobs.key is null order by jobs.id)
        ) as label
      from {gw}._private_jobs as jobs
      where jobs.id = any(v_put_ids)
    ) as labelled using (label)
    join {gw}._private_jobs as put on put.id = labelled.id
    order by wanted.spec_position;
end;
$pgtasks$;
