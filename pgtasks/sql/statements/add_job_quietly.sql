-- The same as add_job, without a notification.
select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags, job.task_id, job.job_queue_id
from
    {gw}._pgtasks_add_job(
        $1::text,
        $2::json,
        $3::text,
        coalesce($4::timestamptz, now() + make_interval(secs => $5::double precision)),
        $6::integer,
        $7::text,
        $8::integer,
        $9::text[],
        $10::text,
        notify => false
    ) as job
