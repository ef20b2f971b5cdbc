select
    id, payload::text, priority, run_at, attempts, max_attempts, last_error, created_at, updated_at, key, locked_at,
    locked_by, revision, flags, task, queue_name, look_seconds
from
    {gw}._pgtasks_claim_jobs(
        $1::text, $2::text[], $3::text[], $4::integer, $5::integer, $6::smallint[], $7::bigint[], $8::bigint[],
        $9::text[]
    )
