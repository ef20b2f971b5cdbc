select
    id, task, queue_name, payload::text, attempts, key, locked_at, locked_by, priority, run_at, max_attempts, last_error,
    created_at, updated_at, revision, flags
from
    {gw}._pgtasks_claim_jobs($1::text, $2::text[], $3::text[], $4::integer, $5::integer)
