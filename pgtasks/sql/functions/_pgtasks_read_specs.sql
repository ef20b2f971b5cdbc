-- The specs of a batch, which comes field by field: that is cheap to write for any driver, and cheap to read here.
--   common    an object with what is the same for all jobs: tasks, queues (arrays of all names that occur), run_at, delay
--             (in seconds), max_attempts, priority, flags (an object {{"flag": true, ...}}); what is not there has its default
--   each      an object with what is not, an array with an element for each job: task, queue (positions among the names,
--             from 1 on), run_at, delay, max_attempts, job_key, priority, flags; without task, or queue, all jobs have the
--             first of the names, if there is one
--   payloads  an array with an element for each job
create or replace function {gw}._pgtasks_read_specs(common json, each json, payloads json)
returns {gw}.job_spec[]
language sql
stable
as $pgtasks$
  select array(
    select
      row(
        common.tasks[case when each.task is null then 1 else spec.task::integer end],
        spec.payload,
        common.queues[case when each.queue is null then 1 else spec.queue::integer end],
        coalesce(
          spec.run_at::timestamptz,
          common.run_at,
          now() + make_interval(secs => coalesce(spec.delay::double precision, common.delay))
        ),
        coalesce(spec.max_attempts::smallint, common.max_attempts),
        spec.job_key,
        coalesce(spec.priority::smallint, common.priority),
        array(select json_object_keys(coalesce(spec.flags::json, common.flags)))
      )::{gw}.job_spec
    from
      json_to_record(common) as common (
        tasks text[], queues text[], run_at timestamptz, delay double precision, max_attempts smallint,
        priority smallint, flags json
      ),
      json_to_record(each) as each (
        task json, queue json, run_at json, delay json, max_attempts json, job_key json, priority json, flags json
      ),
      rows from (
        json_array_elements(payloads),
        json_array_elements_text(each.task),
        json_array_elements_text(each.queue),
        json_array_elements_text(each.run_at),
        json_array_elements_text(each.delay),
        json_array_elements_text(each.max_attempts),
        json_array_elements_text(each.job_key),
        json_array_elements_text(each.priority),
        json_array_elements_text(each.flags)
      ) with ordinality
      as spec (payload, task, queue, run_at, delay, max_attempts, job_key, priority, flags, position)
    order by spec.position
  )
$pgtasks$;
