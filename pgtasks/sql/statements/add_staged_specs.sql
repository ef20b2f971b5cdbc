select
    job.id, job.payload::text, job.priority, job.run_at, job.attempts, job.max_attempts, job.last_error, job.created_at,
    job.updated_at, job.key, job.locked_at, job.locked_by, job.revision, job.flags
from
    {gw}._pgtasks_add_specs(
        {gw}._pgtasks_take_staged_specs($1::uuid),
        job_key_preserve_run_at => $2::boolean,
        announce => $3::bigint
    ) as job
