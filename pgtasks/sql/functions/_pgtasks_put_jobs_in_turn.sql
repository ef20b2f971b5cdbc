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
  v_spec record;
  v_job {gw}._private_jobs;
  v_ids bigint[] := '{{}}';
begin
  perform {gw}._pgtasks_lock_job_keys(
    array(select distinct spec.job_key from unnest(specs) as spec where spec.job_key is not null)
  );

  for v_spec in select * from {gw}._pgtasks_resolve_specs(specs) loop
    if v_spec.job_key is null then
      insert into {gw}._private_jobs
        (job_queue_id, task_id, payload, run_at, max_attempts, priority, flags)
      values (
        v_spec.job_queue_id,
        v_spec.task_id,
        v_spec.payload,
        v_spec.run_at,
        v_spec.max_attempts,
        v_spec.priority,
        v_spec.flags
      )
      returning * into v_job;
    else
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
    end if;
    v_ids := v_ids || v_job.id;
  end loop;

  return query
    select jobs.*
    from (
      select put.id, min(put.position) as first_position
      from unnest(v_ids) with ordinality as put (id, position)
      group by put.id
    ) as firsts
    join {gw}._private_jobs as jobs on jobs.id = firsts.id
    order by firsts.first_position;
end;
$pgtasks$;
