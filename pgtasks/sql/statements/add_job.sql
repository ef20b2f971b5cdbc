select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags, job.task_id, job.job_queue_id
from
    {gw}.add_job(
        $1::text,
        payload := $2::json,
        queue_name := $3::text,
        run_at := coalesce($4::timestamptz, now() + make_interval(secs => $5::double precision)),
        max_attempts := $6::integer,
        job_key := $7::text,
        priority := $8::integer,
        flags := $9::text[],
        job_key_mode := $10::text
    ) as job
