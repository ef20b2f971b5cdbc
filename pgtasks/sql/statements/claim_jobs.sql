select
    id, payload::text, priority, run_at, attempts, max_attempts, last_error, created_at, updated_at, key, locked_at,
    locked_by, revision, flags, task, queue_name
from
    {gw}._pgtasks_claim_jobs($1::text, $2::text[], $3::text[], $4::integer, $5::integer)
