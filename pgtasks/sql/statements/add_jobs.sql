-- The specs come as one array for each field, since psycopg sends those without a round trip for the composite type.
-- A spec's flags come as a JSON array of strings.
select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags, job.task_id, job.job_queue_id
from
    {gw}.add_jobs(
        array(
            select
                row(
                    spec.task,
                    spec.payload,
                    spec.queue,
                    coalesce(spec.run_at, now() + make_interval(secs => spec.delay)),
                    spec.max_attempts,
                    spec.job_key,
                    spec.priority,
                    case
                        when spec.flags is not null
                        then array(select flag.value from json_array_elements_text(spec.flags) as flag (value))
                    end
                )::{gw}.job_spec
            from
                unnest(
                    $1::text[], $2::json[], $3::text[], $4::timestamptz[], $5::double precision[], $6::smallint[],
                    $7::text[], $8::smallint[], $9::json[]
                ) with ordinality
                as spec (task, payload, queue, run_at, delay, max_attempts, job_key, priority, flags, position)
            order by spec.position
        ),
        job_key_preserve_run_at := $10::boolean
    ) as job
