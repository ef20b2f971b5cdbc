-- add_jobs for specs of which some have the same key: as if they were added one after the other. Names are registered.
-- One row is returned for each resulting job, in the order in which the specs first name it.
create or replace function {gw}._pgtasks_put_jobs_in_turn(
  specs {gw}.job_spec[],
  job_key_preserve_run_at boolean
)
returns setof {gw}._private_jobs
language plpgsql
volatile
as $pgtasks$
declare
  v_firsts integer[];
  v_spec record;
  v_job {gw}._private_jobs;
  v_ids bigint[];
begin
  -- What has no key, or is the first to name its key, is put at once; the others then find jobs of this transaction.
  v_firsts := array(
    select min(position)
    from generate_subscripts(specs, 1) as position
    group by coalesce('key ' || specs[position].job_key, 'no key ' || position)
    order by min(position)
  );
  v_ids := array(
    select job.id
    from {gw}._pgtasks_put_distinct_jobs(
      array(select specs[position] from unnest(v_firsts) with ordinality as first (position, nth) order by nth),
      job_key_preserve_run_at
    ) with ordinality as job
    order by job.ordinality
  );

  for v_spec in
    select spec.*
    from {gw}._pgtasks_resolve_specs(specs) as spec
    where spec.spec_position <> all(v_firsts)
    order by spec.spec_position
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
