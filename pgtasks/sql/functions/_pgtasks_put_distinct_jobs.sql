-- add_jobs for specs of which no two have the same key: what _pgtasks_put_keyed_job does for one, for all at once.
-- Names are registered. One row is returned for each spec, in the order of the specs.
create or replace function {gw}._pgtasks_put_distinct_jobs(
  specs {gw}.job_spec[],
  job_key_preserve_run_at boolean
)
returns setof {gw}._private_jobs
language plpgsql
volatile
set plan_cache_mode = auto
as $pgtasks$
declare
  v_keys text[];
  v_put_ids bigint[];
  v_put_keys text[];
  v_there_keys text[];
  v_held_ids bigint[];
begin
  -- A plan that is made once for all calls expects few specs, and takes a time that grows with the square of their number.
  if cardinality(specs) > 100 then
    perform set_config('plan_cache_mode', 'force_custom_plan', true);
  end if;

  v_keys := array(select spec.job_key from unnest(specs) as spec where spec.job_key is not null);
  perform {gw}._pgtasks_lock_job_keys(v_keys);

  loop
    begin
      -- What may have to wait for others (who are adding a job with one of the keys, or deleting one) comes before any
      -- row is locked, since they may be waiting for that row. The look for a key is a subquery so that it is one look
      -- into the index for each, whatever the statistics say.
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
        where spec.job_key is null
          or (select jobs.id from {gw}._private_jobs as jobs where jobs.key = spec.job_key) is null
        order by spec.spec_position
        on conflict (key) do nothing
        returning id, key
      )
      select array_agg(inserted.id), array_agg(inserted.key) into v_put_ids, v_put_keys
      from inserted;

      -- The others were there before, and are locked in the order of their ids, as a worker does.
      v_there_keys := array(select unnest(v_keys) except select unnest(v_put_keys));
      v_held_ids := array(
        select jobs.id
        from {gw}._private_jobs as jobs
        where jobs.key = any(v_there_keys)
        order by jobs.id
        for update
      );
      if cardinality(v_held_ids) < cardinality(v_there_keys) then
        -- One of them has gone meanwhile, or lost its key. All rows are let go, the keys are not.
        raise exception using errcode = 'GWAGN';
      end if;

      -- Why the clock's time, see _pgtasks_put_keyed_job.
      update {gw}._private_jobs as jobs
      set key = null, attempts = jobs.max_attempts, updated_at = clock_timestamp()
      where jobs.id = any(v_held_ids)
        and (jobs.locked_at is not null or jobs.attempts >= jobs.max_attempts);
      exit when not found;
      -- Those that were superseded have left their keys free. All new jobs are inserted once more, in one go, so that
      -- they have their ids in the order of their specs; nobody can be at their keys by now.
      delete from {gw}._private_jobs as jobs
      where jobs.id = any(v_put_ids);
    exception when sqlstate 'GWAGN' then
      null;
    end;
  end loop;

  if cardinality(v_held_ids) > 0 then
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
      where jobs.id = any(v_held_ids)
        and jobs.key = spec.job_key
      returning jobs.id
    )
    select v_put_ids || array_agg(updated.id) into v_put_ids
    from updated;
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
